"""A TCP proxy that lets only so many bytes a second through to the client."""

import asyncio
import contextlib
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STEPS_PER_SECOND = 20


class ThrottlingProxy:
    """Forwards to one port of this machine; what comes back is slowed down.

    Its buffers towards the server are small, so that the server notices the slow line as it would
    notice a real one. `forwarded` counts bytes to clients, `connections` how many came.
    """

    def __init__(self, port: int, bytes_per_second: int, receive_bytes: int) -> None:
        self.url = ""
        self.forwarded = 0
        self.connections = 0
        self._port = port
        self._bytes_per_second = bytes_per_second
        self._receive_bytes = receive_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one client until either side ends."""
        self.connections += 1
        loop = asyncio.get_running_loop()
        inner = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        inner.setblocking(False)  # noqa: FBT003 - the socket API
        try:
            await loop.sock_connect(inner, ("127.0.0.1", self._port))
            ways = {
                loop.create_task(self._upwards(reader, inner)),
                loop.create_task(self._downwards(inner, writer)),
            }
            self._tasks |= ways
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            self._tasks -= ways
        finally:
            inner.close()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _upwards(self, reader: StreamReader, inner: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                await asyncio.get_running_loop().sock_sendall(inner, chunk)

    async def _downwards(self, inner: socket.socket, writer: StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        step = max(1, self._bytes_per_second // STEPS_PER_SECOND)
        with contextlib.suppress(OSError):
            while chunk := await loop.sock_recv(inner, step):
                writer.write(chunk)
                await writer.drain()
                self.forwarded += len(chunk)
                due = max(due, loop.time() - 1) + len(chunk) / self._bytes_per_second
                await asyncio.sleep(max(0.0, due - loop.time()))

    async def close(self) -> None:
        """Cut what is open."""
        for task in tuple(self._tasks):
            task.cancel()


@asynccontextmanager
async def throttled(
    port: int, bytes_per_second: int, receive_bytes: int = 16 * 1024
) -> AsyncIterator[ThrottlingProxy]:
    """A proxy to that port of this machine, at `url` until the block is left."""
    proxy = ThrottlingProxy(port, bytes_per_second, receive_bytes)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()


@asynccontextmanager
async def forwarding(port: int) -> AsyncIterator[str]:
    """The address of a proxy as sites have them: it says for whom it asks that port.

    It answers one request per connection.
    """

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n")
            outer.write(head + b"X-Forwarded-For: 192.0.2.9\r\nConnection: close\r\n\r\n")
            writer.write(await inner.read())
            await writer.drain()
        finally:
            for end in (outer, writer):
                end.close()
                await end.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
