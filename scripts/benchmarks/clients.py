"""Clients that speak Engine.IO 4 and Socket.IO 5 by hand over picows."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import picows

from benchmarks.payload import PREFIX

OPEN, CONNECTED, PING, EVENT, REFUSED = b"0", b"40", b"2", b"42", b"44"
TEXT = picows.WSMsgType.TEXT


class BenchError(Exception):
    """Something was lost, doubled, out of order or late: the figure is worth nothing."""


class Client(picows.WSListener):  # type: ignore[misc]  # compiled
    """One connection; `joined` is done when the server has let it in."""

    def __init__(self) -> None:
        super().__init__()
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: picows.WSTransport | None = None
        self.problem: str | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """Keep the way out."""
        self.transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Sort the packets."""
        data: bytes = frame.get_payload_as_bytes()
        if data.startswith(EVENT):
            self.on_event(data)
        else:
            self.on_other(transport, data)

    def on_event(self, data: bytes) -> None:
        """Take an event's packet."""

    def on_other(self, transport: picows.WSTransport, data: bytes) -> None:
        """Handshake, pings and refusals."""
        if data.startswith(CONNECTED):
            self.joined.set_result(None)
        elif data.startswith(OPEN):
            transport.send(TEXT, b"40")
        elif data == PING:
            transport.send(TEXT, b"3")
        elif data.startswith(REFUSED):
            self.joined.set_exception(BenchError(data.decode()))

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """A connection that ends before the run does is a failure."""
        self.problem = self.problem or "disconnected"
        if not self.joined.done():
            self.joined.set_exception(BenchError("disconnected in the handshake"))

    def send(self, data: bytes) -> None:
        """Send a packet."""
        if self.transport is not None:
            self.transport.send(TEXT, data)

    def close(self) -> None:
        """End the connection."""
        if self.transport is not None:
            self.transport.disconnect()


class Receiver(Client):
    """Expects every event from `expected` on, once and in order."""

    prefixes: ClassVar[list[bytes]] = []

    def __init__(self, on_received: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.first = 0
        self.expected: int | None = None
        self._on_received = on_received

    def on_event(self, data: bytes) -> None:
        """Compare the id with the one that is due."""
        due = self.expected
        if due is None:
            return
        if due >= len(self.prefixes):
            self.prefixes.extend(PREFIX + b"%d," % n for n in range(due, due + 10_000))
        if data.startswith(self.prefixes[due]):
            self.expected = due + 1
            if self._on_received is not None:
                self._on_received()
        elif data.startswith(PREFIX):
            found = event_id(data)
            # What was there before the run may still be on its way.
            if found >= self.first and self.problem is None:
                self.problem = f"event {found} came where {due} was due"

    def begin(self, first: int) -> None:
        """The run begins with this id."""
        self.first = self.expected = first


def event_id(data: bytes) -> int:
    """The id in an event's packet or in an acknowledgement."""
    start = data.index(b'"id":') + 5
    end = start
    while data[end : end + 1].isdigit():
        end += 1
    return int(data[start:end])


C = TypeVar("C", bound=Client)


async def connect(
    port: int, conversation: str, make: Callable[[], C], latest: int = -1, more: str = ""
) -> C:
    """Connect one client, with more parameters, and wait until it is let in. Raises BenchError."""
    url = (
        f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
        f"&conversation_id={conversation}&latest_event_id={latest}{more}"
    )
    client: C
    _, client = await picows.ws_connect(make, url, websocket_handshake_timeout=30)
    await asyncio.wait_for(client.joined, 30)
    return client


async def connect_all(
    port: int, conversations: list[str], make: Callable[[], C], at_once: int = 32
) -> list[C]:
    """Connect one client to each of the conversations, in their order."""
    clients: list[C] = []
    for start in range(0, len(conversations), at_once):
        names = conversations[start : start + at_once]
        clients += await asyncio.gather(*(connect(port, name, make) for name in names))
    return clients


class Control:
    """The caller's end of a server's side door."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Control":
        """Connect to it."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

    async def ask(self, do: str, **arguments: Any) -> Any:
        """One command and its answer. Raises BenchError."""
        self._writer.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        answer = json.loads(await self._reader.readline())
        if "error" in answer:
            raise BenchError(answer["error"])
        return answer["ok"]

    def credit(self, count: int) -> None:
        """Let the producer append that many events."""
        self._writer.write(b"+%d\n" % count)


async def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for a condition. Raises BenchError when it does not come about."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        if loop.time() > deadline:
            raise BenchError(f"waited {seconds:g} s in vain until {what}")
        await asyncio.sleep(0.001)


def any_problem(clients: Sequence[Client]) -> bool:
    """Whether to stop waiting."""
    return any(client.problem for client in clients)


def raise_problems(clients: Sequence[Client]) -> None:
    """Raise BenchError with the first thing that went wrong."""
    for client in clients:
        if client.problem is not None:
            raise BenchError(client.problem)
