"""Yardsticks in Python: python-socketio as it comes, and picows without any protocol on top."""

import asyncio
import itertools
import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson
import picows
import socketio
import uvicorn
import uvloop

from benchmarks.control import Subject, serve_control
from benchmarks.payload import event_json
from server.sockets.protocol import websocket_frame

OPEN = b'0{"sid":"x","upgrades":[],"pingTimeout":20000,"pingInterval":25000,"maxPayload":1000000}'

SLICE_BYTES = 65_536


class Rooms:
    """The answers of both yardsticks on the control door."""

    def __init__(self) -> None:
        self.names = (f"room{number}" for number in itertools.count())
        self.next_ids: dict[str, int] = defaultdict(int)
        self.target = ""

    async def do_new(self, count: int = 1) -> list[str]:
        """Names nobody used before."""
        return [next(self.names) for _ in range(count)]

    async def do_produce(self, conversation: str) -> int:
        """Let credits go to this room."""
        self.target = conversation
        return self.next_ids[conversation]

    async def do_next_ids(self, conversations: list[str]) -> list[int]:
        """The number of events sent."""
        return [self.next_ids[conversation] for conversation in conversations]

    def next_event(self) -> dict[str, object]:
        """The next event of the room that `produce` named."""
        event_id = self.next_ids[self.target]
        self.next_ids[self.target] = event_id + 1
        return event_json(event_id)


class StockSubject(Rooms):
    """python-socketio and uvicorn with their defaults."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets = socketio.AsyncServer(async_mode="asgi")
        self.sockets.on("connect", self._connect)
        self.sockets.on("oh_user_action", self._receive)
        self._rooms: dict[str, str] = {}
        self._queue: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self._emitting = asyncio.get_running_loop().create_task(self._emit())
        self.serving: asyncio.Task[None] | None = None

    def credit(self, count: int) -> None:
        """Emit in order: one emit at a time, as an await chain would."""
        for _ in range(count):
            self._queue.put_nowait(self.next_event())

    async def _emit(self) -> None:
        while True:
            event = await self._queue.get()
            await self.sockets.emit("oh_event", event, room=self.target)

    async def _connect(self, sid: str, environ: Mapping[str, Any], auth: object = None) -> None:
        room = parse_qs(environ["QUERY_STRING"])["conversation_id"][0]
        self._rooms[sid] = room
        await self.sockets.enter_room(sid, room)

    async def _receive(self, sid: str, data: dict[str, Any]) -> dict[str, Any]:
        room = self._rooms[sid]
        event_id = self.next_ids[room]
        self.next_ids[room] = event_id + 1
        return {"id": event_id}


async def run_stock() -> tuple[Subject, int]:
    """Serve; the subject and the port."""
    subject = StockSubject()
    config = uvicorn.Config(
        socketio.ASGIApp(subject.sockets), port=0, log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    subject.serving = asyncio.get_running_loop().create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    return subject, int(server.servers[0].sockets[0].getsockname()[1])


class RawListener(picows.WSListener):  # type: ignore[misc]  # compiled
    """One client of the bare server: just enough Engine.IO for the same load generator."""

    def __init__(self, clients: list[picows.WSTransport], log: bytes) -> None:
        super().__init__()
        self._clients = clients
        self._log = log

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """Greet."""
        transport.send(picows.WSMsgType.TEXT, OPEN)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Let whoever connects in."""
        if frame.get_payload_as_bytes() == b"40":
            transport.send(picows.WSMsgType.TEXT, b'40{"sid":"x"}')
            self._clients.append(transport)
            for start in range(0, len(self._log), SLICE_BYTES):
                transport.underlying_transport.write(self._log[start : start + SLICE_BYTES])

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """Forget it."""
        if transport in self._clients:
            self._clients.remove(transport)


class RawSubject(Rooms):
    """Every event to every client, one write each."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[picows.WSTransport] = []
        self.log = b""

    async def do_fill(self, conversation: str, count: int) -> int:
        """Keep frames that everyone who connects is sent, whatever room is asked for."""
        self.target = conversation
        packets = (b'42["oh_event",' + orjson.dumps(self.next_event()) + b"]" for _ in range(count))
        self.log = b"".join(websocket_frame(packet) for packet in packets)
        return count

    def credit(self, count: int) -> None:
        """Encode once, write to each."""
        for _ in range(count):
            packet = b'42["oh_event",' + orjson.dumps(self.next_event()) + b"]"
            for client in self.clients:
                client.send(picows.WSMsgType.TEXT, packet)


async def run_raw() -> tuple[Subject, int]:
    """Serve; the subject and the port."""
    subject = RawSubject()
    server = await picows.ws_create_server(
        lambda _request: RawListener(subject.clients, subject.log), "127.0.0.1", 0
    )
    return subject, int(server.sockets[0].getsockname()[1])


async def serve(name: str) -> None:
    """Serve until standard input ends."""
    subject, port = await {"stock": run_stock, "raw": run_raw}[name]()
    print(port, await serve_control(subject), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: None if os.read(0, 1) else ended.set())
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
    os._exit(0)
