"""The work of a server while nobody says anything."""

import asyncio
import math
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from tests.support.raw_client import RawClient, raw_client
from tests.support.remote import CONVERSATIONS, Remote, remote
from tests.support.servers import server_process
from tests.support.waiting import until

AT_ONCE = 20
ROUND = 10.0
CHECK_SECONDS = 0.05
SETTLE_SECONDS = 30.0
OPEN_FILES = 8192
MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Rest:
    """A measured span of rest. `cpu_percent` is of one core, `woken` the voluntary switches."""

    seconds: float
    cpu_percent: float
    woken: int
    threads: int
    resident_mebibytes: float

    def __str__(self) -> str:
        return (
            f"{self.cpu_percent:.2f} % of a core over {self.seconds:.0f} s, woken"
            f" {self.woken / self.seconds:.1f} times a second, {self.threads} threads,"
            f" {self.resident_mebibytes:.0f} MiB resident"
        )


class IdleServer:
    """A server process whose conversations all have an idle loop."""

    def __init__(self, url: str, process: psutil.Process, api: Remote) -> None:
        self.url = url
        self.conversation_ids: list[str] = []
        self._process = process
        self._api = api

    async def fill(self, number: int) -> None:
        """Create so many conversations with a message, and wait until all are answered."""
        self.conversation_ids = await self._api.create_many(number, "hello")
        async with asyncio.timeout(SETTLE_SECONDS + number / ROUND):
            for conversation_id in self.conversation_ids:
                await self._until_answered(conversation_id)
            shown = await self._api.listed()
            await self._until_indexed()
        running = sum(one["status"] == "RUNNING" for one in shown.values())
        assert running == number, f"only {running} of {number} loops run"

    async def rest(self, seconds: float) -> Rest:
        """Leave it alone for so long and measure; nothing is asked of it meanwhile."""
        before = self._process.cpu_times()
        switches = self._process.num_ctx_switches().voluntary
        await asyncio.sleep(seconds)
        after = self._process.cpu_times()
        used = after.user + after.system - before.user - before.system
        return Rest(
            seconds,
            100 * used / seconds,
            self._process.num_ctx_switches().voluntary - switches,
            self._process.num_threads(),
            self._process.memory_info().rss / MEBIBYTE,
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[list[RawClient]]:
        """A connection to every conversation, its history read."""
        async with AsyncExitStack() as stack:
            gate = asyncio.Semaphore(AT_ONCE)

            async def one(conversation_id: str) -> RawClient:
                async with gate:
                    client = await stack.enter_async_context(raw_client(self.url, conversation_id))
                    assert (await client.connect()).startswith("40{")
                    while not _awaits(await client.event()):
                        continue
                    return client

            yield list(await asyncio.gather(*(one(each) for each in self.conversation_ids)))

    async def _until_indexed(self) -> None:
        """Wait until the search index has everything.

        It writes conversations in the order in which they changed first. Once the first title is
        found nothing of its conversation is due, so that the second comes behind everything else.
        """
        conversation_id = self.conversation_ids[0]
        for title in ("zebra one", "zebra two"):
            changed = await self._api.client.patch(
                f"{CONVERSATIONS}/{conversation_id}", json={"title": title}
            )
            assert changed.status_code == 200, changed.text
            await until(partial(self._finds, title))

    async def _finds(self, text: str) -> bool:
        answer = await self._api.client.get("/api/search", params={"q": text})
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["results"])

    async def _until_answered(self, conversation_id: str) -> None:
        while not _awaits((await self._api.log(conversation_id))[-1]):
            await asyncio.sleep(CHECK_SECONDS)


def _awaits(payload: dict[str, object]) -> bool:
    extras = payload.get("extras")
    return isinstance(extras, dict) and extras.get("agent_state") == "awaiting_user_input"


@asynccontextmanager
async def idle_server(data_dir: Path, conversations: int) -> AsyncIterator[IdleServer]:
    """A server with so many idle loops and no connections."""
    allow_open_files(OPEN_FILES)
    limit = {"PARLEY_MAX_CONCURRENT_CONVERSATIONS": str(2 * conversations)}
    async with server_process(data_dir, environment=limit) as server, remote(server.url) as api:
        idle = IdleServer(server.url, psutil.Process(server.pid), api)
        await idle.fill(conversations)
        yield idle


def allow_open_files(number: int) -> None:
    """Raise the limit of open files for this process and those it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = math.inf if hard == resource.RLIM_INFINITY else hard
    if soft < min(number, ceiling):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(min(number, ceiling)), hard))
