"""Membership of a server in its cluster: it says that it lives, and sees who does so no more.

Death needs no clock but that of who sees it: a server whose beat has not changed for the length of a
lease, all of which was watched, is declared dead by comparing and setting its row. The dead server
may find that out last, so it begins nothing once its own beats have failed for most of a lease.
"""

import asyncio
import logging
import random
import secrets
from asyncio import Event, Task
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, Self

from server.agent.lease import LeaseLost
from storage.database.migrate_postgres import known_range
from storage.database.postgres import PostgresPool, Role
from storage.errors import StorageError

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
"""Seconds between two beats, unless the lease is short; a fifth more or less, at random."""
BEATS_PER_LEASE = 5
END_SECONDS = 2.0
"""Seconds that saying goodbye may take."""


class Load(NamedTuple):
    """The state of a server that it tells the others with each beat."""

    loops: int = 0
    connections: int = 0
    draining: bool = False
    hears: bool = False


class Member(NamedTuple):
    """A server that lives, as its row says."""

    incarnation: int
    beat: int
    name: str
    url: str | None
    version: str
    load: Load


class Watcher(Protocol):
    """Is told who was declared dead; neither call raises."""

    def node_died(self) -> None:
        """Another server was declared dead."""

    async def declared_dead(self) -> None:
        """This server was: its loops are not its own any more. It begins anew after that."""


class _Seen(NamedTuple):
    beat: int
    since: float


class Membership:
    """This server among those that share a schema; the lease of its loops. See Lease.

    Use as an async context manager over a pool whose role `APPEND` is used for nothing else. `tell`
    returns what the others are told.
    """

    def __init__(
        self,
        pool: PostgresPool,
        *,
        name: str,
        url: str | None,
        version: str,
        lease_seconds: float,
        tell: Callable[[], Load] = Load,
    ) -> None:
        self.incarnation = 0
        self.name = name
        self._pool = pool
        self._url = url
        self._version = version
        self._lease_seconds = lease_seconds
        self._beat_seconds = min(BEAT_SECONDS, lease_seconds / BEATS_PER_LEASE)
        self._tell = tell
        self._clock = asyncio.get_running_loop().time
        self._said = float("-inf")
        """When the last beat was sent that the storage has."""
        self._life = 0
        """Grows each time this server is declared dead."""
        self._beaten = Event()
        self._seen: dict[int, _Seen] = {}
        self._looked = float("-inf")
        self._members: Sequence[Member] = ()
        self._watcher: Watcher | None = None
        self._task: Task[None] | None = None
        self.on_beat: Callable[[], Awaitable[None]] | None = None
        """Awaited after each beat for as long as one, for what has to be tried again; raises StorageError."""

    async def __aenter__(self) -> Self:
        """Enter the cluster. Raises StorageError."""
        await self._pool.fetch(Role.APPEND, "forget_nodes")
        await self._enter()
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        """Leave it: the others take over at once what was not given back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with suppress(StorageError, TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._pool.fetch(Role.APPEND, "leave_node", self.incarnation)

    def watch(self, watcher: Watcher) -> None:
        """Tell the watcher from now on who is declared dead."""
        self._watcher = watcher

    @property
    def members(self) -> Sequence[Member]:
        """The servers that lived at the last beat, this one among them."""
        return self._members

    def holds(self) -> bool:
        """See Lease."""
        return self._clock() - self._said < self._lease_seconds - 2 * self._beat_seconds

    async def held(self) -> None:
        """See Lease."""
        life = self._life
        while not self.holds():
            await self._beaten.wait()
            if self._life != life:
                raise LeaseLost("this server was declared dead")

    async def _enter(self) -> None:
        self.incarnation = secrets.randbits(63)
        sent = self._clock()
        about = (self.incarnation, self.name, self._url, self._version, *known_range())
        await self._pool.fetch(Role.APPEND, "enter_node", *about)
        self._said = sent

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._beat_seconds * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                await self._beat()
                if self.on_beat is not None:
                    with suppress(
                        TimeoutError
                    ):  # it is tried again, and beats must not wait for it
                        async with asyncio.timeout(self._beat_seconds):
                            await self.on_beat()
            except StorageError as error:
                logger.warning("this server cannot say that it lives: %s", error)
            except Exception:
                logger.exception("this server cannot say that it lives")

    async def _beat(self) -> None:
        sent = self._clock()
        load = self._tell()
        if not await self._pool.fetch(Role.APPEND, "beat", self.incarnation, *load):
            await self._begin_anew()
            return
        self._said = sent
        self._wake()
        rows = await self._pool.fetch(Role.APPEND, "living_nodes")
        self._members = [_member(*row) for row in rows]
        await self._look()

    async def _begin_anew(self) -> None:
        logger.error("this server was declared dead; its agent loops go on elsewhere")
        self._life += 1
        self._said = float("-inf")
        self._wake()
        if self._watcher is not None:
            await self._watcher.declared_dead()
        await self._enter()

    def _wake(self) -> None:
        beaten, self._beaten = self._beaten, Event()
        beaten.set()

    async def _look(self) -> None:
        """Declare those dead that have said nothing for a lease, if we have looked all the time."""
        now = self._clock()
        if now - self._looked > 3 * self._beat_seconds:
            self._seen.clear()  # whoever was silent meanwhile may have had no storage, as we had none
        self._looked = now
        known, self._seen = self._seen, {}
        for member in self._members:
            seen = known.get(member.incarnation)
            if seen is None or seen.beat != member.beat:
                seen = _Seen(member.beat, now)
            self._seen[member.incarnation] = seen
            if member.incarnation != self.incarnation and now - seen.since > self._lease_seconds:
                await self._declare_dead(member)

    async def _declare_dead(self, member: Member) -> None:
        about = (member.incarnation, member.beat)
        if await self._pool.fetch(Role.APPEND, "declare_dead", *about):
            logger.warning("%s has said nothing for too long and was declared dead", member.name)
            if self._watcher is not None:
                self._watcher.node_died()


def _member(
    incarnation: int, beat: int, name: str, url: str | None, version: str, *load: Any
) -> Member:
    return Member(incarnation, beat, name, url, version, Load(*load))
