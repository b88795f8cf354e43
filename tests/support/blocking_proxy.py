"""A TCP proxy like networks that let no websocket through: it refuses them, or never answers."""

import asyncio
import contextlib
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from tests.support.tcp_proxy import forward, listening

REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_UPGRADE = re.compile(rb"^upgrade:[ \t]*websocket", re.IGNORECASE | re.MULTILINE)

Blocks = Literal["refused", "refused once", "swallowed", "nothing"]


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
                if self.blocks.startswith("refused"):
                    writer.write(REFUSAL)
                    if self.blocks == "refused once":
                        self.blocks = "nothing"
                else:
                    await reader.read()
            else:
                await forward(reader, writer, self._port, head=head)
        writer.close()


@asynccontextmanager
async def blocked(port: int, blocks: Blocks) -> AsyncIterator[BlockingProxy]:
    """A proxy in front of a port, until the block is left."""
    proxy = BlockingProxy(port, blocks)
    async with listening(proxy.serve) as proxy.url:
        yield proxy
