"""A TCP proxy that holds back what the server sends, until it is told to let it through."""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        always = asyncio.Event()
        always.set()
        ways = {
            asyncio.create_task(_copy(reader, inner_writer, always)),
            asyncio.create_task(_copy(inner_reader, writer, self._free)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            inner_writer.close()
            writer.close()


@asynccontextmanager
async def holding(port: int) -> AsyncIterator[HoldingProxy]:
    """A proxy in front of a port, until the block is left."""
    proxy = HoldingProxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()


async def _copy(reader: StreamReader, writer: StreamWriter, free: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            await free.wait()
            writer.write(chunk)
            await writer.drain()
