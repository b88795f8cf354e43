"""Random request heads from many connections at once: each is answered or closed in time, none stays."""

import asyncio
import contextlib
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import httpx
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from server.http.body_limits import SLOWEST_BYTES_PER_SECOND
from server.sockets.transport.uvicorn_http import REFUSED_SECONDS, UNWANTED_SECONDS
from tests.support.intruder import figure
from tests.support.request_heads import KEY, Plan, plan
from tests.support.seeds import choices
from tests.support.servers import ServerProcess, server_process
from tests.support.waiting import WAIT_SECONDS

HANDSHAKE_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 5.0
"""Seconds that uvicorn waits between requests."""
TOLERANCE_SECONDS = 20.0
"""By how much a loaded machine may be late."""
CLOSING_SECONDS = HANDSHAKE_SECONDS + KEEP_ALIVE_SECONDS + UNWANTED_SECONDS + REFUSED_SECONDS
"""The longest that a connection may stay open on which nothing is said any more."""
WARM_PART = 4
"""Memory is compared with that after a quarter of the heads."""
LOG_BYTES = 10_000
MEBIBYTE = 2**20
HEADERS = {"x-session-api-key": KEY, "host": "localhost"}
ACCEPTED = "101"
SILENT = "closed without a word"
TOO_LATE = "closed before this loop, which was held up, had connected"


@dataclass(slots=True)
class Figures:
    """Of one run, with seconds since the last byte that a client sent."""

    heads: int = 0
    connections: int = 0
    seconds: float = 0.0
    slowest_answer: float = 0.0
    slowest_close: float = 0.0
    late: list[str] = field(default_factory=list)
    left_open: int = 0
    tracebacks: int = 0
    logged: str = ""
    """The end of what the server has logged."""
    warm_mebibytes: float = 0.0
    last_mebibytes: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def growth_mebibytes(self) -> float:
        """The memory that the server has gained at the end."""
        return self.last_mebibytes - self.warm_mebibytes

    def __str__(self) -> str:
        told = ", ".join(f"{count} x {answer}" for answer, count in sorted(self.answers.items()))
        return (
            f"{self.heads} heads over {self.connections} connections in {self.seconds:.0f} s"
            f" ({self.heads / self.seconds:.0f} a second); slowest answer {self.slowest_answer:.2f} s,"
            f" slowest close {self.slowest_close:.2f} s, {len(self.late)} late, {self.left_open} left"
            f" open, {self.tracebacks} unhandled; {self.warm_mebibytes:.0f} MiB after a quarter,"
            f" {self.last_mebibytes:.0f} at the end; {told}"
        )


async def run_doors(
    folder: Path, seed: int, heads: int, delivery: str, at_once: int = 500
) -> Figures:
    """Send so many random heads to a server process; what became of them."""
    settings = {
        "PARLEY_HANDSHAKE_SECONDS": str(HANDSHAKE_SECONDS),
        "PARLEY_DELIVERY": delivery,
        "PARLEY_SESSION_API_KEY": KEY,
        "PARLEY_PERMITTED_HOSTS": "localhost",
    }
    async with server_process(folder, "--storage", "memory", environment=settings) as server:
        async with httpx.AsyncClient(
            base_url=server.url, headers=HEADERS, timeout=WAIT_SECONDS
        ) as client:
            made = await client.post("/api/conversations", json={})
            run = Run(server, made.json()["conversation_id"], choices(seed))
        await run.all(heads, at_once)
    return run.figures


class Run:
    """Sends heads to one server."""

    def __init__(self, server: ServerProcess, conversation_id: str, random: Random) -> None:
        self.figures = Figures()
        self._server = server
        self._conversation_id = conversation_id
        self._random = random
        self._due = 0
        self._process = psutil.Process(server.pid)

    async def all(self, heads: int, at_once: int) -> None:
        """Send them, then leave as many connections as go at once to the server, and look on."""
        began = time.monotonic()
        for part in (heads // WARM_PART, heads - heads // WARM_PART):
            self._due = part
            await asyncio.gather(*(self._until_enough() for _ in range(at_once)))
            if not self.figures.warm_mebibytes:
                self.figures.warm_mebibytes = self._mebibytes()
        self.figures.seconds = time.monotonic() - began
        left = [plan(self._random, self._conversation_id, stays=1.0) for _ in range(at_once)]
        await asyncio.gather(*(self._serve(one) for one in left))
        self.figures.left_open = await self._open_clients()
        self.figures.last_mebibytes = self._mebibytes()
        self.figures.tracebacks = self._server.stderr.count(b"Traceback")
        self.figures.logged = self._server.stderr[-LOG_BYTES:].decode(errors="replace")

    async def _until_enough(self) -> None:
        while self._due > 0:
            one = plan(self._random, self._conversation_id)
            self._due -= one.requests
            self.figures.heads += one.requests
            await self._serve(one)

    async def _serve(self, one: Plan) -> None:
        self.figures.connections += 1
        address = urlsplit(self._server.url)
        try:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
        except ConnectionError:
            self.figures.answers[TOO_LATE] += 1
            return
        try:
            await Visit(one, reader, writer, self.figures).run()
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _open_clients(self) -> int:
        """Return the number of clients the server still counts, but for this one, once all should have ended."""
        last = time.monotonic() + CLOSING_SECONDS + TOLERANCE_SECONDS
        async with httpx.AsyncClient(
            base_url=self._server.url, headers=HEADERS, timeout=WAIT_SECONDS
        ) as client:
            while (clients := figure(await client.get("/metrics"), "parley_clients")) > 1:
                if time.monotonic() > last:
                    break
        return int(clients) - 1

    def _mebibytes(self) -> float:
        return float(self._process.memory_info().rss / MEBIBYTE)


class Visit:
    """One connection, and what is noted of it."""

    def __init__(
        self, one: Plan, reader: StreamReader, writer: StreamWriter, figures: Figures
    ) -> None:
        self._plan = one
        self._reader = reader
        self._writer = writer
        self._figures = figures
        self._open = True
        self._sent_at = 0.0

    async def run(self) -> None:
        """Send everything, wait for the last answer, and where it stays for the end as well."""
        # A body may take a second for each 4 KiB of it. What is meant as a request may be the end of
        # the body before it: then nothing is due any more but the end of the connection.
        within = HANDSHAKE_SECONDS + self._plan.size / SLOWEST_BYTES_PER_SECOND
        within += KEEP_ALIVE_SECONDS
        told = SILENT
        for turn in self._plan.turns:
            await self._send(turn)
            answer = await self._read(within, "answer")
            if not self._open:
                break
            told = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/") else told
        self._figures.answers[told] += 1
        if self._open and told == ACCEPTED:
            await self._send(self._plan.frames)
        if self._open and self._plan.stays:
            joined = any(b"40" in one for one in self._plan.frames)
            if not (told == ACCEPTED and joined):  # one who has joined may stay
                while self._open:
                    await self._read(within + CLOSING_SECONDS, "close")

    async def _send(self, parts: tuple[bytes, ...]) -> None:
        try:
            for part in parts:
                self._writer.write(part)
                async with asyncio.timeout(TOLERANCE_SECONDS + HANDSHAKE_SECONDS):
                    await self._writer.drain()
        except (ConnectionError, TimeoutError):
            pass  # answered already, and closed: the answer is read next
        self._sent_at = time.monotonic()

    async def _read(self, seconds: float, what: str) -> bytes:
        """Return the next bytes; none when the server has ended the connection, or is late."""
        came = b""
        try:
            async with asyncio.timeout(seconds + TOLERANCE_SECONDS):
                came = await self._reader.read(65536)
        except ConnectionError:
            pass
        except TimeoutError:
            sent = b"".join(part for turn in self._plan.turns for part in turn)
            self._figures.late.append(f"no {what} in {seconds:.0f} s to {sent[:2000]!r}")
        took = time.monotonic() - self._sent_at
        if what == "answer":
            self._figures.slowest_answer = max(self._figures.slowest_answer, took)
        if not came:
            self._open = False
            if what == "close":
                self._figures.slowest_close = max(self._figures.slowest_close, took)
        return came
