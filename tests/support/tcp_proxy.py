"""The parts of proxies that forward bytes between a client and a port of this machine."""

import asyncio
import contextlib
from asyncio import Event, StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Serve = Callable[[StreamReader, StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """Serve clients at a free port until the block is left; the address."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def forward(
    reader: StreamReader,
    writer: StreamWriter,
    port: int,
    *,
    head: bytes = b"",
    free: Event | None = None,
) -> None:
    """Forward one client to a port, `head` first, until either side ends.

    What comes back is held as long as `free` is not set.
    """
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    inner_writer.write(head)
    ways = {
        asyncio.create_task(copy(reader, inner_writer)),
        asyncio.create_task(copy(inner_reader, writer, free)),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        inner_writer.close()


async def copy(reader: StreamReader, writer: StreamWriter, free: Event | None = None) -> None:
    """Copy all that comes until its end, whenever `free` is set."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            if free is not None:
                await free.wait()
            writer.write(chunk)
            await writer.drain()
