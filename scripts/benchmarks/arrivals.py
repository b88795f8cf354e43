"""Connections made as cheaply as can be, so that the server's cost is what is measured."""

import asyncio
import gc
from typing import Any

from benchmarks.clients import CONNECTED, EVENT, OPEN, REFUSED, BenchError, Control, until
from benchmarks.machine import Meter
from benchmarks.payload import PREFIX

REQUEST = (
    "GET /socket.io/?EIO=4&transport=websocket&conversation_id={name}&latest_event_id=-1 HTTP/1.1\r\n"
    "Host: 127.0.0.1:{port}\r\n"
    "User-Agent: benchmark\r\n"
    "Connection: Upgrade\r\n"
    "Upgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer of RFC 6455 to this key."""
CONNECT_FRAME = b"\x81\x82\x00\x00\x00\x0040"
"""Masked with zeros."""


class Arrival(asyncio.Protocol):
    """One connection: the upgrade, Engine.IO's OPEN, CONNECT and its answer; then events."""

    def __init__(self, request: bytes) -> None:
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received: list[bytes] = []
        self.transport: Any = None
        self._request = request
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = transport
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Cut what came into messages."""
        self._buffer += data
        if not self._upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 ") or ACCEPTED not in head:
                self._fail(head.decode())
            self._upgraded, self._buffer = True, rest
        while (message := self._message()) is not None:
            self._take(message)

    def connection_lost(self, error: Exception | None) -> None:
        """A connection that ends before it joined is a failure."""
        self._fail("disconnected in the handshake")

    def _message(self) -> bytes | None:
        """The next unmasked text frame, if it is there; none here is longer than 64 KB."""
        buffer = self._buffer
        start = 4 if buffer[1:2] == b"\x7e" else 2
        if len(buffer) < start:
            return None
        end = start + (buffer[1] if start == 2 else int.from_bytes(buffer[2:4], "big"))  # noqa: PLR2004
        if len(buffer) < end:
            return None
        self._buffer = buffer[end:]
        return buffer[start:end]

    def _take(self, message: bytes) -> None:
        if message.startswith(EVENT):
            self.received.append(message)
        elif message.startswith(CONNECTED):
            self.joined.set_result(None)
        elif message.startswith(OPEN):
            self.transport.write(CONNECT_FRAME)
        elif message.startswith(REFUSED):
            self._fail(message.decode())

    def _fail(self, text: str) -> None:
        if not self.joined.done():
            self.joined.set_exception(BenchError(text))


async def arrive(port: int, names: list[str], at_once: int) -> list[Arrival]:
    """Connect a client to each of the conversations; always `at_once` are under way."""
    loop = asyncio.get_running_loop()
    waiting = iter(names)
    clients: list[Arrival] = []

    async def work() -> None:
        for name in waiting:
            client = Arrival(REQUEST.format(name=name, port=port).encode())
            await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
            await client.joined
            clients.append(client)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work() for _ in range(at_once)))
    return clients


async def arrivals(job: dict[str, Any]) -> dict[str, float]:
    """Connect `clients` clients, `at_once` at a time; then see that every one is there."""
    control = await Control.open(job["control"])
    (conversation,) = await control.ask("new")
    first = await control.ask("produce", conversation=conversation)
    gc.disable()
    meter = Meter(job["pid"])
    clients = await arrive(job["port"], [conversation] * job["clients"], job["at_once"])
    figures = meter.stop()
    control.credit(1)
    due = PREFIX + b"%d," % first
    await until(lambda: all(client.received for client in clients), "all were there")
    if not all(len(one.received) == 1 and one.received[0].startswith(due) for one in clients):
        raise BenchError("an event came twice, or another one")
    for client in clients:
        client.transport.close()
    return figures | {
        "cpu_per_connection_us": figures["server_cpu"] / job["clients"] * 1e6,
        "connections_per_s": job["clients"] / figures["wall"],
    }
