// The official client, driven by JSON lines on stdin and telling what happens in JSON lines on
// stdout. It keeps its cursor as the V0 page does: the last id received, which a state `error`
// does not move, goes into the query before every reconnection.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const EVENT_IN = "oh_event";
const EVENT_OUT = "oh_user_action";

let socket = null;
let cursor;
let told = null;

function tell(what, fields = {}) {
  process.stdout.write(`${JSON.stringify({ told: what, ...fields })}\n`);
}

function isErrorState(payload) {
  return payload.observation === "agent_state_changed" && payload.extras.agent_state === "error";
}

function query() {
  return socket.io.opts.query;
}

// Packets that came with the handshake reach their handlers before "connect" does.
function noteConnection() {
  if (socket.id !== told) {
    told = socket.id;
    tell("connection", { id: told, latest_event_id: String(query().latest_event_id), at: Date.now() });
  }
}

function onEvent(payload) {
  noteConnection();
  tell("event", { id: told, payload });
  if (!isErrorState(payload) && !Number.isNaN(parseInt(payload.id, 10))) {
    cursor = payload.id;
  }
}

function onDisconnect(reason) {
  query().latest_event_id = cursor;
  tell("disconnect", { id: told, reason });
}

function join({ url, query: asked, options }) {
  socket = io(url, { transports: ["websocket"], path: "/socket.io", query: asked, ...options });
  socket.on("connect", noteConnection);
  socket.on(EVENT_IN, onEvent);
  socket.onAny((name) => {
    if (name !== EVENT_IN) tell("other", { name });
  });
  socket.on("disconnect", onDisconnect);
  socket.on("connect_error", (error) => {
    tell("connect_error", { message: error.message, data: error.data ?? null, active: socket.active });
  });
}

function connected() {
  return socket.connected ? undefined : new Promise((resolve) => socket.once("connect", resolve));
}

// Without an answer it is not known whether the server took the event: the same is sent again.
async function send({ number, payload, timeout_ms: timeout }) {
  for (let tries = 1; ; tries += 1) {
    await connected();
    try {
      const answer = await socket.timeout(timeout).emitWithAck(EVENT_OUT, payload);
      tell("answer", { number, answer, tries });
      return;
    } catch (error) {
      tell("unanswered", { number, reason: error.message });
    }
  }
}

const ORDERS = {
  join,
  send,
  leave: () => {
    socket.disconnect();
    process.exit(0);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  ORDERS[order.do](order);
}
