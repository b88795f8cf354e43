"""Clients come and go by every way, and conversations too: what the server keeps of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from tests.support.intruder import CLOSE, Intruder, frame, intruder
from tests.support.remote import Remote, remote
from tests.support.servers import ServerProcess, server_process

AT_ONCE = 20
MEBIBYTE = 2**20
RESTING_TASKS = 8
"""Of a server without clients."""
SETTLE_SECONDS = 90.0
"""A client that polled is known to be gone 40 s after it was last heard of."""
LOOK_SECONDS = 0.5
HANDSHAKE_SECONDS = 5
ADDRESS = "127.0.0.1"
POLLING = "/socket.io/?EIO=4&transport=polling"
TASKS = "parley_event_loop_tasks"
PRESENT = ("parley_connections", "parley_handshakes")
OPEN = "parley_conversations_open"


class Holding(NamedTuple):
    """The resources of a server at one moment."""

    tasks: int
    descriptors: int
    threads: int
    clients: int
    conversations: int
    mebibytes: float

    def __str__(self) -> str:
        return (
            f"{self.tasks} tasks, {self.descriptors} descriptors, {self.threads} threads,"
            f" {self.clients} clients, {self.conversations} conversations, {self.mebibytes:.1f} MiB"
        )


class Leaks(NamedTuple):
    """The resources of a server before and after a number of clients or conversations."""

    what: str
    number: int
    before: Holding
    after: Holding

    @property
    def kept(self) -> int:
        """The increase of tasks, descriptors, clients or conversations.

        Threads are shown only: those for files are made at need, up to a few, and stay.
        """
        before, after = self.before, self.after
        return max(
            after.tasks - before.tasks,
            after.descriptors - before.descriptors,
            after.clients - before.clients,
            after.conversations - before.conversations,
        )

    @property
    def kept_mebibytes(self) -> float:
        """Memory more than before."""
        return self.after.mebibytes - self.before.mebibytes

    def __str__(self) -> str:
        return f"{self.number:6} {self.what}: before {self.before}; after {self.after}"


class Door:
    """A server, and a conversation to join."""

    def __init__(self, server: ServerProcess, api: Remote, conversation_id: str) -> None:
        self.server = server
        self.api = api
        self.conversation_id = conversation_id

    async def holding(self) -> Holding:
        """Return the server's resources now; the connection that asks is counted always."""
        answer = await self.api.client.get("/metrics")
        lines = answer.text.splitlines()
        found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        process = psutil.Process(self.server.pid)
        return Holding(
            tasks=int(float(found[TASKS])),
            descriptors=process.num_fds(),
            threads=process.num_threads(),
            clients=sum(int(float(found[name])) for name in PRESENT),
            conversations=int(float(found[OPEN])),
            mebibytes=process.memory_info().rss / MEBIBYTE,
        )

    async def settled(self, is_back: Callable[[Holding], bool]) -> Holding:
        """Return the server's resources when it is back, or when it has been waited for long enough."""
        ends = asyncio.get_running_loop().time() + SETTLE_SECONDS
        while not is_back(now := await self.holding()):
            if asyncio.get_running_loop().time() > ends:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return now


Way = Callable[[Door, str], Awaitable[None]]
"""Comes, and leaves in the way that is named: clean, cut or unfinished."""


async def by_websocket(door: Door, ending: str) -> None:
    """Join by a websocket at once, and leave."""
    async with intruder(door.server.url, ADDRESS) as one:
        answer = await one.upgrade(f"conversation_id={door.conversation_id}")
        assert answer.status == 101, answer.status
        await one.message()
        await _join_and_leave(one, ending)


async def by_polling(door: Door, ending: str) -> None:
    """Join by long polls, and leave."""
    async with intruder(door.server.url, ADDRESS) as one:
        sid = await _opened(door, one)
        if ending == "unfinished":
            return
        await _post(one, sid, b"40")
        if ending == "cut":
            await one.ask("GET", f"{POLLING}&sid={sid}")
        else:
            await _post(one, sid, b"1")


async def by_upgrade(door: Door, ending: str) -> None:
    """Open by polling, go on by websocket, join and leave."""
    async with intruder(door.server.url, ADDRESS) as poll:
        sid = await _opened(door, poll)
        async with intruder(door.server.url, ADDRESS) as one:
            answer = await one.upgrade(f"sid={sid}")
            assert answer.status == 101, answer.status
            if ending == "unfinished":
                return
            await one.text("2probe")
            assert await one.message() == "3probe"
            await one.text("5")
            await _join_and_leave(one, ending)


async def _opened(door: Door, one: Intruder) -> str:
    answer = await one.ask("GET", f"{POLLING}&conversation_id={door.conversation_id}")
    assert answer.status == 200, answer.status
    return await one.opened()


async def _post(one: Intruder, sid: str, body: bytes) -> None:
    length = {"Content-Length": str(len(body)), "Content-Type": "text/plain"}
    answer = await one.ask("POST", f"{POLLING}&sid={sid}", length, body)
    assert answer.status == 200, answer.status
    await one.rest(answer)


async def _join_and_leave(one: Intruder, ending: str) -> None:
    if ending == "unfinished":
        return
    await one.text("40")
    while not (await one.message()).startswith("40"):
        continue
    if ending == "clean":
        await one.text("41")
        await one.send(frame(CLOSE, b"\x03\xe8"))
        await one.cut()


async def come_and_go(door: Door, path: Way, ending: str, count: int) -> None:
    """So many clients, several at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            await path(door, ending)

    await asyncio.gather(*(one() for _ in range(count)))


async def create_and_delete(door: Door, count: int) -> None:
    """So many conversations, each with a message that is answered or not when it is deleted."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            conversation_id = await door.api.create("hello")
            await door.api.delete(conversation_id)

    await asyncio.gather(*(one() for _ in range(count)))


@asynccontextmanager
async def _door(folder: Path, delivery: str) -> AsyncIterator[Door]:
    environment = {
        "PARLEY_DELIVERY": delivery,
        "PARLEY_HANDSHAKE_SECONDS": str(HANDSHAKE_SECONDS),
        "PARLEY_PAGE_CACHE_BYTES": str(MEBIBYTE),
        "PARLEY_LOG_LEVEL": "error",
    }
    async with server_process(folder, environment=environment) as server, remote(server.url) as api:
        # The search index opens its files beside the start.
        (await api.client.get("/api/search?q=anything")).raise_for_status()
        yield Door(server, api, await api.create())
        assert server.running, server.stderr.decode()
        assert b"Traceback" not in server.stderr, server.stderr.decode()[-4000:]


WAYS: dict[str, tuple[str, Way, tuple[str, ...]]] = {
    "direct": ("direct", by_websocket, ("clean", "cut", "unfinished")),
    "library websocket": ("engine", by_websocket, ("clean", "cut", "unfinished")),
    "polling": ("direct", by_polling, ("clean", "unfinished", "cut")),
    "upgrade": ("direct", by_upgrade, ("clean", "cut", "unfinished")),
}


async def run_leaks(folder: Path, connects: int, conversations: int) -> AsyncIterator[Leaks]:
    """Measure each way, a third of the connects with each ending, then the conversations.

    As many come and go before, uncounted: an allocator keeps the room of its busiest moment.
    """
    for way, (_, _, endings) in WAYS.items():
        share = -(-connects // len(endings))
        async for found in leaks_of_clients(folder / way, way, endings, share):
            yield found
    yield await leaks_of_conversations(folder / "conversations", conversations)


async def leaks_of_clients(
    folder: Path, way: str, endings: Sequence[str], number: int
) -> AsyncIterator[Leaks]:
    """Yield the remains of so many clients for each ending, after as many that do not count."""
    delivery, path, _ = WAYS[way]
    async with _door(folder, delivery) as door:
        for ending in endings:
            await come_and_go(door, path, ending, number)
        before = await door.settled(lambda now: not now.clients and now.tasks <= RESTING_TASKS)
        for ending in endings:
            await come_and_go(door, path, ending, number)
            yield await _leaks(door, f"clients: {way}, {ending}", number, before)


async def leaks_of_conversations(folder: Path, number: int) -> Leaks:
    """Return the remains of so many conversations, after as many that do not count."""
    async with _door(folder, "direct") as door:
        await create_and_delete(door, number)
        before = await door.settled(lambda now: now.conversations <= 1)
        await create_and_delete(door, number)
        return await _leaks(door, "conversations", number, before)


async def leaks_together(
    folder: Path, delivery: str, rounds: Sequence[tuple[str, str]], number: int
) -> Leaks:
    """Yield the remains of so many clients of each round and of conversations, from the first on."""
    async with _door(folder, delivery) as door:
        # Engine.IO begins two tasks of its own with its first client.
        before = (await door.holding())._replace(tasks=RESTING_TASKS)
        for way, ending in rounds:
            await come_and_go(door, WAYS[way][1], ending, number)
        await create_and_delete(door, number)
        what = ", ".join(f"{way} {ending}" for way, ending in rounds)
        return await _leaks(door, f"of each: {what}, conversations", number, before)


async def _leaks(door: Door, what: str, number: int, before: Holding) -> Leaks:
    after = await door.settled(lambda now: Leaks(what, number, before, now).kept <= 0)
    return Leaks(what, number, before, after)
