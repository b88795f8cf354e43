"""A TCP proxy like networks that let no websocket through: it refuses them, or never answers."""

import asyncio
import contextlib
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
LONGEST_HEAD_BYTES = 64 * 1024

_UPGRADE = re.compile(rb"^upgrade:[ \t]*websocket", re.IGNORECASE | re.MULTILINE)

Blocks = Literal["refused", "swallowed", "nothing"]


class BlockingProxy:
    """Forwards to one port of this machine all that does not begin with a websocket's request.

    `met` counts the websockets it has met.
    """

    def __init__(self, port: int, blocks: Blocks) -> None:
        self.url = ""
        self.blocks = blocks
        self.met = 0
        self._port = port

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one client until either side ends."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if self.blocks != "nothing" and _UPGRADE.search(head):
                self.met += 1
                if self.blocks == "refused":
                    writer.write(REFUSAL)
                else:
                    await reader.read()
            else:
                await self._forward(head, reader, writer)
        writer.close()

    async def _forward(self, head: bytes, reader: StreamReader, writer: StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        inner_writer.write(head)
        ways = {
            asyncio.create_task(_copy(reader, inner_writer)),
            asyncio.create_task(_copy(inner_reader, writer)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            inner_writer.close()


@asynccontextmanager
async def blocked(port: int, blocks: Blocks) -> AsyncIterator[BlockingProxy]:
    """A proxy in front of a port, until the block is left."""
    proxy = BlockingProxy(port, blocks)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=LONGEST_HEAD_BYTES)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
