// Shared by the yardsticks in JavaScript: the rooms, the events every contender sends, and the
// side door through which the bench speaks with a server.
import { createServer } from "node:net";

const FILLER = process.argv[2];
const rooms = new Map();
let names = 0;

export function roomOf(name) {
  let room = rooms.get(name);
  if (room === undefined) {
    room = { name, nextId: 0, log: null, alone: false, echo: false };
    rooms.set(name, room);
  }
  return room;
}

export function nextEvent(room) {
  const content = process.hrtime.bigint().toString().padStart(20, "0") + " " + FILLER;
  return event(room.nextId++, "agent", content);
}

export function event(id, source, content) {
  return {
    id,
    timestamp: "2026-01-01T00:00:00.000000Z",
    source,
    message: content,
    action: "message",
    args: { content, file_urls: null, image_urls: null, wait_for_response: false, security_risk: -1 },
  };
}

// Serves until standard input ends, and prints both ports. `emit` sends an event to a room.
export function serveControl(port, emit, more = {}) {
  let target = null;
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
    next_ids: ({ conversations }) => conversations.map((name) => roomOf(name).nextId),
    ...more,
  };
  const control = createServer((socket) => {
    let buffer = "";
    socket.setNoDelay();
    socket.on("error", () => {});
    socket.on("data", (data) => {
      const lines = (buffer + data).split("\n");
      buffer = lines.pop();
      for (const line of lines) {
        if (line.startsWith("+")) {
          for (let left = Number(line.slice(1)); left > 0; left--) emit(target, nextEvent(target));
        } else {
          const command = JSON.parse(line);
          socket.write(JSON.stringify({ ok: commands[command.do](command) }) + "\n");
        }
      }
    });
  });
  control.listen(0, "127.0.0.1", () => console.log(`${port} ${control.address().port}`));
  process.stdin.on("end", () => process.exit(0)).resume();
}
