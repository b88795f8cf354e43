"""A proxy in front of PostgreSQL's socket that counts the connections which are being made at a time."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.postgres import DATABASE, PostgresServer
from tests.support.tcp_proxy import copy, listening


class ConnectCounter:
    """Forwards to a socket; `most` is the highest number of connections not answered yet."""

    def __init__(self, socket: Path) -> None:
        self.url = ""
        """The address of the database behind it."""
        self.most = 0
        self.made = 0
        self._unanswered = 0
        self._socket = socket

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one client until either side ends."""
        self.made += 1
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._socket)
        # Not before: the end of one that its client gave up first is seen a few steps after it came.
        self._unanswered += 1
        self.most = max(self.most, self._unanswered)
        first = asyncio.create_task(inner_reader.read(65536))
        ways: list[asyncio.Task[object]] = [first, asyncio.create_task(copy(reader, inner_writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            self._unanswered -= 1
            if first.done() and not ways[1].done():
                writer.write(first.result())
                ways[0] = asyncio.create_task(copy(inner_reader, writer))
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            inner_writer.close()
            writer.close()


@asynccontextmanager
async def counting_connects(
    server: PostgresServer, role: str = DATABASE
) -> AsyncIterator[ConnectCounter]:
    """A counter in front of a server, for those who connect as that role, until the block is left."""
    counter = ConnectCounter(server.socket)
    async with listening(counter.serve) as address:
        host = address.removeprefix("http://")
        counter.url = f"postgresql://{role}@{host}/{DATABASE}?sslmode=disable"
        yield counter
