"""Attackers among good clients: what the good ones notice, and what it costs the server."""

import asyncio
import gc
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from tests.support.attackers import KINDS, LIFE_SECONDS
from tests.support.clients import message
from tests.support.raw_client import RawClient, raw_client
from tests.support.remote import remote
from tests.support.servers import REPOSITORY, ServerProcess, server_process

GOOD = 100
SECONDS_BETWEEN = 0.5
"""Of one good client's messages."""
SAMPLE_SECONDS = 0.1
SETTLE_SECONDS = 1.0
ACK_SECONDS = 20.0
MEBIBYTE = 2**20


@dataclass(slots=True)
class Figures:
    """Of the rounds: p99 of the good ones' acknowledgements in ms, and MiB of the server."""

    calm: list[float] = field(default_factory=list)
    attacked: list[float] = field(default_factory=list)
    before_mebibytes: float = 0.0
    highest_mebibytes: float = 0.0
    acknowledged: int = 0
    refused: int = 0

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.attacked) / statistics.median(self.calm)

    @property
    def growth_mebibytes(self) -> float:
        """The memory that the server gained at most since before the first attack."""
        return self.highest_mebibytes - self.before_mebibytes

    def __str__(self) -> str:
        pairs = ", ".join(
            f"{calm:.1f}/{attacked:.1f}"
            for calm, attacked in zip(self.calm, self.attacked, strict=True)
        )
        return (
            f"p99 in ms, calm/attacked: {pairs}; medians {statistics.median(self.calm):.1f} and"
            f" {statistics.median(self.attacked):.1f}, ratio {self.ratio:.2f};"
            f" {self.acknowledged} acknowledged, {self.refused} refused;"
            f" {self.before_mebibytes:.0f} MiB before, at most {self.highest_mebibytes:.0f}"
        )


class Attacker:
    """A process that attacks when it is told to."""

    def __init__(self, kind: str, process: Process) -> None:
        self.kind = kind
        self._process = process

    async def attack(self, seconds: float) -> str:
        """Attack for so long; what was done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        await self._process.stdin.drain()
        async with asyncio.timeout(seconds + 30):
            line = await self._process.stdout.readline()
        assert line, f"the attacker {self.kind} has ended"
        return f"{self.kind}: {line.decode().strip()}"


@asynccontextmanager
async def attackers(
    url: str, conversation_id: str, kinds: Sequence[str]
) -> AsyncIterator[list[Attacker]]:
    """One process of each kind; ended with the block, and by themselves anyway."""
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.attackers", kind, url, conversation_id),
            stdin=PIPE,
            stdout=PIPE,
            cwd=REPOSITORY,
        )
        for kind in kinds
    ]
    try:
        yield [Attacker(kind, process) for kind, process in zip(kinds, started, strict=True)]
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def run_hostile(
    folder: Path, rounds: int, seconds: float, delivery: str, good: int = GOOD
) -> Figures:
    """Interleave calm rounds and attacked ones, and measure. Raises AssertionError."""
    assert rounds * (2 * seconds + 2 * SETTLE_SECONDS + 8) < LIFE_SECONDS, "too long in all"
    environment = {
        "PARLEY_DELIVERY": delivery,
        "PARLEY_MAX_CONCURRENT_CONVERSATIONS": str(2 * good),
    }
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(server_process(folder, environment=environment))
        api = await stack.enter_async_context(remote(server.url))
        conversations = await api.create_many(good)
        (victim,) = await api.create_many(1)
        clients = [
            await stack.enter_async_context(raw_client(server.url, one)) for one in conversations
        ]
        for client in clients:
            await client.connect()
        hostile = await stack.enter_async_context(attackers(server.url, victim, list(KINDS)))
        figures = await _rounds(server, clients, hostile, rounds, seconds)
        assert server.running, server.stderr.decode()
        assert b"Traceback" not in server.stderr, server.stderr.decode()[-4000:]
    return figures


async def _rounds(
    server: ServerProcess,
    clients: list[RawClient],
    hostile: list[Attacker],
    rounds: int,
    seconds: float,
) -> Figures:
    figures = Figures()
    await _talk(clients, seconds, figures)  # whatever is made at first use is there
    figures.acknowledged = figures.refused = 0
    process = psutil.Process(server.pid)
    gc.disable()  # a pass over what all clients hold would count as the server's delay
    figures.before_mebibytes = process.memory_info().rss / MEBIBYTE
    watching = asyncio.create_task(_watch(process, figures))
    try:
        for number in range(rounds):
            figures.calm.append(await _talk(clients, seconds, figures))
            attacks = [asyncio.create_task(one.attack(seconds)) for one in hostile]
            figures.attacked.append(await _talk(clients, seconds, figures))
            done = await asyncio.gather(*attacks)
            print(  # noqa: T201 - a long run shows how far it is
                f"round {number + 1}: {figures.calm[-1]:.1f} / {figures.attacked[-1]:.1f} ms;",
                *done,
                flush=True,
            )
            await asyncio.sleep(SETTLE_SECONDS)
    finally:
        watching.cancel()
        gc.enable()
    return figures


async def _talk(clients: list[RawClient], seconds: float, figures: Figures) -> float:
    """All talk for so long; the 99th percentile of how long acknowledgements took, in ms."""
    times: list[float] = []

    async def talk(client: RawClient, number: int) -> None:
        await asyncio.sleep(SECONDS_BETWEEN * number / len(clients))
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            begun = time.perf_counter()
            async with asyncio.timeout(ACK_SECONDS):
                told = await client.send(message("/quiet"))
            took = time.perf_counter() - begun
            times.append(took)
            figures.acknowledged += told["status"] == "ok"
            figures.refused += told["status"] != "ok"
            await asyncio.sleep(max(0.0, SECONDS_BETWEEN - took))

    await asyncio.gather(*(talk(client, number) for number, client in enumerate(clients)))
    return statistics.quantiles(times, n=100)[98] * 1000


async def _watch(process: psutil.Process, figures: Figures) -> None:
    while True:
        held = process.memory_info().rss / MEBIBYTE
        figures.highest_mebibytes = max(figures.highest_mebibytes, held)
        await asyncio.sleep(SAMPLE_SECONDS)
