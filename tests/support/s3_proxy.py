"""A proxy before an S3 server that loses requests, loses answers, holds requests back, and answers itself."""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from tests.support.tcp_proxy import listening


class Fault(StrEnum):
    """The fate of one request."""

    NONE = "none"
    LOST = "lost"
    """It never arrives, and the connection is cut."""
    UNANSWERED = "unanswered"
    """It arrives and is carried out; the connection is cut before the answer."""
    LATE = "late"
    """The connection is cut, and it arrives when the test says so."""
    SLOW = "slow"
    """The answer comes after `slow_seconds`, or when the test says so."""
    CONFLICT = "409"
    FAILURE = "500"
    BUSY = "503"


ANSWERED = {
    Fault.CONFLICT: "409 Conflict",
    Fault.FAILURE: "500 Internal Server Error",
    Fault.BUSY: "503 Slow Down",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its body, as it was sent."""

    method: str
    target: str
    raw: bytes = field(repr=False)

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.method in ("PUT", "DELETE", "POST")


Choose = Callable[[Request], Fault]


class S3Proxy:
    """Forwards to one port of this machine; `choose` says what happens to each request.

    `seen` are the requests so far with what happened to them. Headers that begin with `stripped`
    are taken from those that pass.
    """

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.port = 0
        self.choose: Choose = lambda _: Fault.NONE
        self.seen: list[tuple[Request, Fault]] = []
        self.stripped = b"-"
        self.late: list[Request] = []
        self._serving: set[asyncio.Task[object]] = set()
        self.slow_seconds: float | None = None
        self.free = asyncio.Event()
        """Lets the answers pass that are slow."""

    def script(
        self, *faults: Fault, only: Callable[[Request], bool] = lambda one: one.writes
    ) -> None:
        """Let these happen to the next requests of that kind, one each, and nothing to the others."""
        left = list(faults)
        self.choose = lambda one: left.pop(0) if left and only(one) else Fault.NONE

    async def deliver(self) -> list[int]:
        """Let the requests arrive that are late; the statuses they are answered with."""
        late, self.late = self.late, []
        answers = [await self._pass_on(one) for one in late]
        return [int(answer.split(b" ", 2)[1]) for answer in answers]

    async def end(self) -> None:
        """End all connections."""
        serving = [*self._serving]
        for task in serving:
            task.cancel()
        if serving:
            await asyncio.wait(serving)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection, which ends with its first answer."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # by the end of the proxy
                await self._serve(reader, writer)
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        answer = b""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = await _read_request(reader)
            fault = self.choose(request)
            self.seen.append((request, fault))
            answer = await self._answer(request, fault)
            writer.write(answer)
            await writer.drain()
        if answer:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, request: Request, fault: Fault) -> bytes:
        match fault:
            case Fault.LOST:
                return b""
            case Fault.LATE:
                self.late.append(request)
                return b""
            case Fault.UNANSWERED:
                await self._pass_on(request)
                return b""
            case Fault.SLOW:
                answer = await self._pass_on(request)
                await asyncio.wait([self._freed()], timeout=self.slow_seconds)
                return answer
            case Fault.NONE:
                return await self._pass_on(request)
            case _:
                head = (
                    f"HTTP/1.1 {ANSWERED[fault]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return head.encode()

    def _freed(self) -> asyncio.Task[bool]:
        return asyncio.create_task(self.free.wait())

    async def _pass_on(self, request: Request) -> bytes:
        """Send a request to the server, and return its answer; empty if there is none."""
        head, _, body = request.raw.partition(b"\r\n\r\n")
        lines = [
            line
            for line in head.split(b"\r\n")
            if not line.lower().startswith(b"connection:")
            and not line.lower().startswith(self.stripped)
        ]
        answer = b""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.server_port)
            try:
                writer.write(b"\r\n".join([*lines, b"Connection: close", b"", body]))
                answer = await reader.read(-1)
            finally:
                writer.close()
        return answer


async def _read_request(reader: StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = lines[0].split(" ")
    return Request(method, target, head + body)


@asynccontextmanager
async def s3_proxy(port: int) -> AsyncIterator[S3Proxy]:
    """A proxy to that port of this machine, at its own until the block is left."""
    proxy = S3Proxy(port)
    async with listening(proxy.serve) as address:
        proxy.port = int(address.rpartition(":")[2])
        try:
            yield proxy
        finally:
            await proxy.end()
