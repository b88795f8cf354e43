// The Bun yardstick: its own websockets and `publish`, which are uWebSockets in C++, and just enough
// Engine.IO for the same load generator.
import { roomOf, serveControl } from "./rooms.mjs";

const OPEN = '0{"sid":"x","upgrades":[],"pingTimeout":20000,"pingInterval":25000,"maxPayload":1000000}';

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const name = new URL(request.url).searchParams.get("conversation_id");
    if (server.upgrade(request, { data: { name } })) return undefined;
    return new Response("a websocket is expected", { status: 400 });
  },
  websocket: {
    open(socket) {
      socket.send(OPEN);
    },
    message(socket, message) {
      if (message !== "40") return;
      socket.subscribe(roomOf(socket.data.name).name);
      socket.send('40{"sid":"x"}');
    },
  },
});

serveControl(server.port, (room, event) => {
  server.publish(room.name, `42["oh_event",${JSON.stringify(event)}]`);
});
