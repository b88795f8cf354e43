"""Rounds of ended backends and crashes of PostgreSQL under a server that goes on."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.crash_run import unlimited_server
from tests.support.invariants import History
from tests.support.postgres import postgres_server, terminate_backends
from tests.support.remote import Remote, remote
from tests.support.waiting import WAIT_SECONDS, until

CONVERSATIONS_WRITTEN = 4
PRODUCERS = 6
TERMINATIONS = 8
"""In each round, BLOW_SECONDS apart."""
BLOW_SECONDS = 0.05
MORE = 30
"""Acknowledgements before each blow."""


class Load:
    """Messages to some conversations, each sent under its key until it is acknowledged."""

    def __init__(self, url: str, conversation_ids: list[str]) -> None:
        self.histories = {one: History() for one in conversation_ids}
        self.refused = 0
        self.ended = False
        self._url = url
        self._acknowledged = 0
        self._waiting: tuple[int, asyncio.Future[None]] | None = None

    async def run(self) -> None:
        """Send until `ended`."""
        async with asyncio.TaskGroup() as group:
            for number in range(PRODUCERS):
                for conversation_id in self.histories:
                    group.create_task(self._produce(conversation_id, number))

    async def more(self, count: int = MORE) -> None:
        """Wait for so many further acknowledgements."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = (self._acknowledged + count, waiting)
        async with asyncio.timeout(WAIT_SECONDS):
            await waiting

    async def _produce(self, conversation_id: str, number: int) -> None:
        history = self.histories[conversation_id]
        async with remote(self._url) as api:
            count = 0
            while not self.ended:
                count += 1
                key = f"{number}.{count}"
                history.sent(key, f"message {key}")
                history.acknowledged(key, await self._insist(api, conversation_id, key))
                self._note()

    async def _insist(self, api: Remote, conversation_id: str, key: str) -> int:
        while True:
            answer = await api.say(conversation_id, f"message {key}", key)
            if answer.status_code == 200:
                return int(answer.json()["id"])
            assert answer.status_code == 503, answer.text
            self.refused += 1
            await until(lambda: is_ready(api))

    def _note(self) -> None:
        self._acknowledged += 1
        if self._waiting is not None and self._acknowledged >= self._waiting[0]:
            self._waiting[1].set_result(None)
            self._waiting = None


async def terminate() -> None:
    """End every backend of the server some times, shortly after each other."""
    for _ in range(TERMINATIONS):
        await terminate_backends()
        await asyncio.sleep(BLOW_SECONDS)


async def crash() -> None:
    """End PostgreSQL as a crash does, and start it again."""
    server = postgres_server()
    await asyncio.to_thread(server.crash)
    server.launch()
    await asyncio.to_thread(server.wait)


@dataclass(slots=True)
class PostgresFigures:
    """Figures of a run of rounds."""

    rounds: int = 0
    acknowledged: int = 0
    refused: int = 0
    longest_seconds: float = 0.0
    """Seconds from the return of PostgreSQL until the server was ready again."""

    def __str__(self) -> str:
        return (
            f"rounds {self.rounds}, acknowledged {self.acknowledged}, refused {self.refused},"
            f" terminations {self.rounds * TERMINATIONS}, crashes {self.rounds}, ready again after"
            f" {self.longest_seconds:.1f} s at most, 0 lost, 0 twice"
        )


async def run_postgres_rounds(folder: Path, rounds: int) -> PostgresFigures:
    """End backends and PostgreSQL so often under one server process. Raises AssertionError."""
    figures = PostgresFigures()
    async with unlimited_server(folder, "postgres") as server, remote(server.url) as api:
        pid = server.pid
        load = Load(server.url, await api.create_many(CONVERSATIONS_WRITTEN))
        sending = asyncio.create_task(load.run())
        for _ in range(rounds):
            await load.more()
            await terminate()
            await load.more()
            await crash()
            began = time.monotonic()
            await until(lambda: is_ready(api))
            figures.longest_seconds = max(figures.longest_seconds, time.monotonic() - began)
            figures.rounds += 1
        await load.more()
        load.ended = True
        await sending
        for conversation_id, history in load.histories.items():
            history.check(await api.log(conversation_id))
            figures.acknowledged += history.acknowledgements
        figures.refused = load.refused
        assert server.pid == pid
        assert server.running
    return figures


async def is_ready(api: Remote) -> bool:
    """Return whether the server says that it is ready, and that nothing is degraded."""
    answer = await api.client.get("/ready")
    return answer.status_code == 200 and answer.json() == {"status": "ok"}
