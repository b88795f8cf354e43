"""A TCP proxy that holds back what the server sends, until it is told to let it through."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.tcp_proxy import forward, listening


class HoldingProxy:
    """Forwards to one port of this machine; what clients send always gets through."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self._port = port
        self._free = asyncio.Event()
        self._free.set()

    def hold(self) -> None:
        """Let nothing more through to the clients."""
        self._free.clear()

    def let_through(self) -> None:
        """Let through what was held back, and what follows."""
        self._free.set()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one client until either side ends."""
        try:
            await forward(reader, writer, self._port, free=self._free)
        finally:
            writer.close()


@asynccontextmanager
async def holding(port: int) -> AsyncIterator[HoldingProxy]:
    """A proxy in front of a port, until the block is left."""
    proxy = HoldingProxy(port)
    async with listening(proxy.serve) as proxy.url:
        yield proxy
