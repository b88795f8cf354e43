"""A TCP proxy that cuts its connections at random places."""

import asyncio
import contextlib
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

HANDSHAKE_BYTES = 700
"""Bytes a client sends until it is connected, roughly."""
LONGEST_SECONDS = 0.3
NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class Place:
    """The places at which a connection is cut: the first that is reached."""

    upwards_bytes: int = NO_LIMIT
    downwards_bytes: int = NO_LIMIT
    seconds: float | None = None
    """From the server's first byte on: how long it takes to answer is no part of them."""
    resets: bool = False
    """Cut by a reset, which also loses what the client has not read yet."""


class CuttingProxy:
    """Forwards to one port of this machine and cuts every connection while `cuts` are left.

    A cut is made in the middle of the handshake, of replay or of live events, at a byte or at a
    moment. `made` counts the cuts, `connections` the connections.
    """

    def __init__(self, port: int, random: Random, cuts: int) -> None:
        self.url = ""
        self.connections = 0
        self.made = 0
        self.all_made = asyncio.Event()
        self._port = port
        self._random = random
        self._cuts = cuts
        self._ways: set[asyncio.Task[bool]] = set()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one client until either side ends or the cut is due."""
        self.connections += 1
        place = self._choose() if self.made < self._cuts else Place()
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        answered = asyncio.Event()
        ways = {
            asyncio.create_task(_forward(reader, inner_writer, place.upwards_bytes)),
            asyncio.create_task(_forward(inner_reader, writer, place.downwards_bytes, answered)),
        }
        self._ways |= ways
        answer = asyncio.create_task(answered.wait())
        await asyncio.wait({*ways, answer}, return_when=asyncio.FIRST_COMPLETED)
        answer.cancel()
        done, _ = await asyncio.wait(
            ways, timeout=place.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        is_cut = not done or any(not way.cancelled() and way.result() for way in done)
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        self._ways -= ways
        inner_writer.transport.abort()
        if is_cut and place.resets:
            _reset(writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        if is_cut:
            self._count()

    def cut(self) -> None:
        """Cut what is open now."""
        for way in self._ways:
            way.cancel()

    def _count(self) -> None:
        self.made += 1
        if self.made == self._cuts:
            self.all_made.set()

    def _choose(self) -> Place:
        random = self._random
        resets = random.random() < 0.5
        longest = random.uniform(0.0, LONGEST_SECONDS)
        match random.randrange(4):
            case 0:
                upwards = random.randrange(HANDSHAKE_BYTES)
                return Place(upwards_bytes=upwards, seconds=LONGEST_SECONDS, resets=resets)
            case 1:
                return Place(seconds=longest, resets=resets)
            case _:
                downwards = int(10 ** random.uniform(0.0, 5.0))
                return Place(downwards_bytes=downwards, seconds=LONGEST_SECONDS, resets=resets)


async def _forward(
    reader: StreamReader, writer: StreamWriter, limit: int, begun: asyncio.Event | None = None
) -> bool:
    """Forward up to so many bytes; whether the limit was what ended it."""
    left = limit
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            if begun is not None:
                begun.set()
            writer.write(chunk[:left])
            await writer.drain()
            left -= len(chunk)
            if left <= 0:
                return True
    return False


def _reset(writer: StreamWriter) -> None:
    connection = writer.transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        linger_not = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
    writer.transport.abort()


@asynccontextmanager
async def cutting(port: int, random: Random, cuts: int) -> AsyncIterator[CuttingProxy]:
    """A proxy to that port of this machine, at `url` until the block is left."""
    proxy = CuttingProxy(port, random, cuts)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
