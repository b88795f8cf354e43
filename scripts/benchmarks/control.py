"""The side door of a server under test: JSON lines, and credits for its producer."""

import asyncio
import json
import time
from asyncio import Task
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

CREDIT = b"+"
"""A line `+N` lets the producer append N more events; it is not answered."""


class Subject(Protocol):
    """A server under test. Every public coroutine `do_x` is the command `x`."""

    def credit(self, count: int) -> None:
        """Produce that many events now."""


class ControlProtocol(asyncio.Protocol):
    """One caller's commands, answered in their order."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._buffer = b""
        self._tasks: set[Task[None]] = set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take whole lines; credits that came together are given together."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        credit = 0
        for line in lines:
            if line.startswith(CREDIT):
                credit += int(line[1:])
            else:
                task = asyncio.get_running_loop().create_task(self._answer(json.loads(line)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if credit:
            self._subject.credit(credit)

    async def _answer(self, command: dict[str, Any]) -> None:
        name = command.pop("do")
        try:
            act: Callable[..., Awaitable[Any]] = getattr(self._subject, f"do_{name}")
            answer = {"ok": await act(**command)}
        except Exception as error:  # noqa: BLE001 - the caller raises it
            answer = {"error": f"{type(error).__name__}: {error}"}
        if self._transport is not None:
            self._transport.write(json.dumps(answer).encode() + b"\n")


async def serve_control(subject: Subject) -> int:
    """Listen on a free port of the loopback address; the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ControlProtocol(subject), "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])


class StallWatch:
    """The longest time the loop was away from its timers, in seconds, of wall and of CPU."""

    PERIOD_SECONDS = 0.001

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0
        self._longest_wall = self._longest_cpu = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Forget what was, and watch."""
        self._longest_wall = self._longest_cpu = 0.0
        self._note()
        self._schedule()

    def stop(self) -> dict[str, float]:
        """The longest delays since the start."""
        if self._handle is not None:
            self._handle.cancel()
        return {"wall": self._longest_wall, "cpu": self._longest_cpu}

    def _note(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(self.PERIOD_SECONDS, self._tick)

    def _tick(self) -> None:
        wall, cpu = self._wall, self._cpu
        self._note()
        late = self._wall - wall - self.PERIOD_SECONDS
        self._longest_wall = max(self._longest_wall, late)
        self._longest_cpu = max(self._longest_cpu, self._cpu - cpu)
        self._schedule()
