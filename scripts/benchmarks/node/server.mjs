// The Node yardstick: socket.io as it comes, the same side door and the same events.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { writing } from "./deltas.mjs";
import { event, nextEvent, roomOf, serveControl } from "./rooms.mjs";

const BATCH = 100;

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
  ...writing(io),
  fill: ({ conversation, count, alone = false }) => {
    const room = roomOf(conversation);
    room.alone = alone;
    room.log = Array.from({ length: count }, () => nextEvent(room));
    return room.nextId;
  },
  figures: () => {
    globalThis.gc?.();
    return { rss: process.memoryUsage().rss };
  },
};

http.listen(0, "127.0.0.1", () => {
  const emit = (room, event) => io.to(room.name).emit("oh_event", event);
  serveControl(http.address().port, emit, commands);
});
