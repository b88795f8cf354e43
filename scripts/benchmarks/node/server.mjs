// The Node yardstick: socket.io as it comes, the same side door and the same events.
import { createServer } from "node:http";
import { createServer as createControl } from "node:net";
import { Server } from "socket.io";

const FILLER = process.argv[2];
const BATCH = 100;
const rooms = new Map();
let target = null;
let names = 0;

function roomOf(name) {
  let room = rooms.get(name);
  if (room === undefined) {
    room = { name, nextId: 0, log: null, alone: false, echo: false };
    rooms.set(name, room);
  }
  return room;
}

function nextEvent(room) {
  const content = process.hrtime.bigint().toString().padStart(20, "0") + " " + FILLER;
  return event(room.nextId++, "agent", content);
}

function event(id, source, content) {
  return {
    id,
    timestamp: "2026-01-01T00:00:00.000000Z",
    source,
    message: content,
    action: "message",
    args: { content, file_urls: null, image_urls: null, wait_for_response: false, security_risk: -1 },
  };
}

const http = createServer();
const io = new Server(http, { serveClient: false });

io.on("connection", (socket) => {
  const { conversation_id: name, latest_event_id: latest } = socket.handshake.query;
  const room = roomOf(name);
  socket.join(name);
  if (room.log !== null) replay(socket, room, Number(latest) + 1);
  socket.on("oh_user_action", (data, acknowledge) => {
    const id = room.nextId++;
    if (room.echo) io.to(name).emit("oh_event", event(id, "user", data.args.content));
    if (acknowledge) acknowledge({ id, duplicate: false });
  });
});

// A log is sent in packets of 100 events, as an application of its own would, or like ours: one
// packet for each event, 100 in a turn of the loop.
async function replay(socket, { log, alone }, from) {
  for (let start = from; start < log.length; start += BATCH) {
    const batch = log.slice(start, start + BATCH);
    if (alone) {
      for (const event of batch) socket.emit("oh_event", event);
      await new Promise(setImmediate);
    } else {
      socket.emit("oh_events", batch);
    }
  }
}

const commands = {
  new: ({ count = 1, echo = false }) => Array.from({ length: count }, () => {
    const room = roomOf(`room${names++}`);
    room.echo = echo;
    return room.name;
  }),
  produce: ({ conversation }) => {
    target = roomOf(conversation);
    return target.nextId;
  },
  fill: ({ conversation, count, alone = false }) => {
    const room = roomOf(conversation);
    room.alone = alone;
    room.log = Array.from({ length: count }, () => nextEvent(room));
    return room.nextId;
  },
  next_ids: ({ conversations }) => conversations.map((name) => roomOf(name).nextId),
  figures: () => {
    globalThis.gc?.();
    return { rss: process.memoryUsage().rss };
  },
};

const control = createControl((socket) => {
  let buffer = "";
  socket.setNoDelay();
  socket.on("error", () => {});
  socket.on("data", (data) => {
    const lines = (buffer + data).split("\n");
    buffer = lines.pop();
    for (const line of lines) {
      if (line.startsWith("+")) {
        for (let left = Number(line.slice(1)); left > 0; left--) {
          io.to(target.name).emit("oh_event", nextEvent(target));
        }
      } else {
        const command = JSON.parse(line);
        socket.write(JSON.stringify({ ok: commands[command.do](command) }) + "\n");
      }
    }
  });
});

http.listen(0, "127.0.0.1", () => {
  control.listen(0, "127.0.0.1", () => console.log(http.address().port, control.address().port));
});
process.stdin.on("end", () => process.exit(0)).resume();
