"""PostgreSQL behind asyncpg: connections by role, bounded, with deadlines and a breaker.

Nothing else knows the driver. Three of its habits decide how it is used here:

- A statement that is given up, by a timeout or by cancelling who awaits it, is cancelled at the
  server. With a synchronous standby that makes a commit visible that no standby has. So work runs in
  a task of its own that nobody cancels, and a deadline closes the connection without a word.
- A connection that the server has ended while it was idle says so with an error that is none of the
  driver's documented ones. So what is not known to have done nothing is of unknown outcome.
- Prepared statements and parameters of the session do not survive a pooler in transaction mode. So
  with `pooler` nothing is kept in a session; without it statements are prepared once a connection.
  What needs a session uses the address past the pooler, where there is one.
"""

import asyncio
import hashlib
import logging
import re
from asyncio import AbstractEventLoop, Semaphore, Task
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from enum import Enum
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar, cast

import asyncpg

from storage.counters import Counters
from storage.database.base import Row, load_queries
from storage.database.outcomes import READ_ONLY_STATE, state_of, translated
from storage.database.postgres_hosts import Address, History
from storage.errors import MigrationError, StorageError, Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

DIALECT = "postgres"
SCHEMA = "parley"
"""The schema that the SQL files name; another one is put in its place when they are read."""
OLDEST_VERSION = 150000
INDEX_DEADLINE_SECONDS = 120.0
"""Seconds that one write to the index of full-text search may take; nobody waits for it."""
MAX_WAITING = 10_000
"""Works that may wait for a connection of one role; more are refused."""
NUMBERS_KNOWN = 10_000

_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)


class Role(Enum):
    """The use of a connection; none waits for those of another."""

    APPEND = "append"
    READ = "read"
    RECORD = "record"
    SEARCH = "search"
    INDEXING = "indexing"


class Sizes(NamedTuple):
    """Numbers of connections by role. Two for appends give nearly all that a server has."""

    append: int = 2
    read: int = 4
    record: int = 2
    search: int = 2
    indexing: int = 1

    @classmethod
    def for_all(cls, connections: int) -> "Sizes":
        """Return the sizes of so many connections, at least four, and a few more for full-text search."""
        few = max(1, connections // 4)
        return cls(few, connections - 2 * few, few)

    def of(self, role: Role) -> int:
        """Return the number of connections of a role."""
        return int(getattr(self, role.value))


class Session:
    """A connection that is lent to one piece of work. Raises `storage.errors` only.

    `sure` is True as long as nothing of what was sent can have been committed.
    """

    def __init__(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        queries: Mapping[str, str],
        *,
        reads: bool,
    ) -> None:
        self.sure = True
        self.broken = False
        self.expired = ""
        """The reason for which the connection was closed by its deadline."""
        self.read_only = False
        self._connection = connection
        self._queries = queries
        self._reads = reads
        self._in_transaction = False

    async def fetch(self, query: str, *arguments: object) -> list[Row]:
        """Run a query by its name, outside a transaction as one of its own; return its rows."""
        self.sure = self._reads or self._in_transaction
        try:
            rows = await self._connection.fetch(self._queries[query], *arguments)
        except Exception as error:  # see the module: any may come
            raise self._translated(error) from error
        return cast("list[Row]", rows)  # records can do what tuples can, and cost no copy

    async def execute(self, statements: str) -> str:
        """Run statements without parameters, whole or not at all; return the last one's tag."""
        self.sure = self._reads or self._in_transaction
        try:
            return await self._connection.execute(statements)
        except Exception as error:
            raise self._translated(error) from error

    @asynccontextmanager
    async def transaction(
        self, lock_seconds: float, *, serializable: bool = False, first: str = ""
    ) -> AsyncIterator[None]:
        """Commit what the block does, or undo it where it raises.

        Each wait for a lock may take so long; then the statement raises Unavailable. Where it is
        `serializable`, Rerun tells that it cannot be fitted in between what others did. `first` is
        a statement that runs before the transaction's view of the data is taken.
        """
        self._in_transaction = True
        level = " ISOLATION LEVEL SERIALIZABLE" if serializable else ""
        timeout = f"SET LOCAL lock_timeout = '{round(lock_seconds * 1000)}ms'"
        await self.execute(f"BEGIN{level}; {timeout}; {first}")
        yield
        self._in_transaction = False
        tag = await self.execute("COMMIT")
        if tag != "COMMIT":
            self.sure = True
            raise Unavailable(f"PostgreSQL answered a commit with {tag}: nothing was written")

    async def leave(self) -> bool:
        """Undo what is open; return whether the connection may be used again."""
        connection = self._connection
        if not self.broken and not connection.is_closed() and connection.is_in_transaction():
            try:
                await connection.execute("ROLLBACK")
            except Exception as error:  # noqa: BLE001 - the connection goes, and the work's error counts
                logger.debug("cannot roll back: %r", error)
                self.broken = True
        return not self.broken and not connection.is_closed()

    def expire(self, reason: str) -> None:
        """Close the connection without cancelling what it does at the server."""
        self.expired = reason
        self._connection.terminate()

    def _translated(self, error: Exception) -> StorageError:
        state = state_of(error)
        if not isinstance(error, asyncpg.PostgresError) or state[:2] in {"08", "57"}:
            self.broken = True
        self.read_only = state == READ_ONLY_STATE
        told = TimeoutError(self.expired) if self.expired else error
        return translated(told, sure=self.sure)


class _Slots:
    """The connections of one role: those that are idle, and how many may be made."""

    def __init__(self, role: Role, size: int) -> None:
        self.reads = role in (Role.READ, Role.SEARCH)
        """Whether nothing is written with them, so that nothing can be of unknown outcome."""
        self.least_deadline_seconds = INDEX_DEADLINE_SECONDS if role is Role.INDEXING else 0.0
        self.size = size
        self.free = Semaphore(size)
        self.idle: list[tuple[int, asyncpg.Connection[asyncpg.Record]]] = []
        self.waiting = 0


class PostgresPool:
    """Connections to one database, made when they are needed, at most one at a time to an address.

    `direct_url` is the address past the pooler to which `url` leads.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = SCHEMA,
        sizes: Sizes | None = None,
        pooler: bool = False,
        direct_url: str | None = None,
        deadline_seconds: float = 10.0,
        connect_seconds: float = 5.0,
    ) -> None:
        self.counters = Counters()
        self.schema = schema
        self.sizes = sizes or Sizes()
        self.deadline_seconds = deadline_seconds
        self._connect_seconds = connect_seconds
        self._queries = queries_in(schema)
        self._slots = {role: _Slots(role, self.sizes.of(role)) for role in Role}
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        clock = self._loop.time
        self.history = History()
        made = partial(
            Address,
            clock=clock,
            history=self.history,
            identify=self._queries["identify_host"],
            moved=self._leave_host,
        )
        self._address = made(url, has_sessions=not pooler)
        self._direct = made(direct_url, has_sessions=True) if direct_url else self._address
        self.breaker = self._address.breaker
        self._tasks: set[Task[Any]] = set()
        self._generation = 0
        """Connections of an earlier one lead to a host that is not used any more."""
        self._lent: set[Session] = set()
        self._when_failed_over: list[Callable[[], None]] = []
        self.closed = False
        self.connects = 0
        """Connections made so far."""
        self.refusal: str | None = None
        """The reason for which every write is refused; see SchemaLock."""
        self._writes: dict[object, float] = {}
        """Writes without an outcome, and when they began, in that order."""

    async def run(self, role: Role, work: Callable[[Session], Awaitable[T]]) -> T:
        """Lend a connection to a piece of work, which goes on to its end if the caller gives up.

        Raises Unavailable where nothing can have been committed, Conflict where a constraint was
        violated, OutcomeUnknown, and what else `work` raises.
        """
        task = self._loop.create_task(self.lend(role, work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def fetch(self, role: Role, query: str, *arguments: object) -> list[Row]:
        """Run one query by its name on a connection of that role; see `run`."""
        return await self.run(role, lambda session: session.fetch(query, *arguments))

    async def close(self) -> None:
        """Wait for the work that has begun, at most for its deadline, and close everything."""
        self.closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.deadline_seconds + self._connect_seconds)
        for slots in self._slots.values():
            while slots.idle:
                _, connection = slots.idle.pop()
                with suppress(Exception):
                    await connection.close(timeout=self._connect_seconds)
                connection.terminate()

    def _ended(self, task: Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.debug("work on PostgreSQL failed: %r", task.exception())

    async def lend(self, role: Role, work: Callable[[Session], Awaitable[T]]) -> T:
        """Do as `run` does, in the task of a caller that nobody cancels."""
        if self.closed:
            raise Unavailable("the connections to PostgreSQL are closed")
        if self._slots[role].reads:
            return await self._lend(role, work)
        if self.refusal is not None:
            raise Unavailable(self.refusal)
        if role is Role.INDEXING:
            return await self._lend(role, work)
        write = object()
        self._writes[write] = self._loop.time()
        try:
            return await self._lend(role, work)
        finally:
            del self._writes[write]

    def oldest_write_seconds(self) -> float:
        """Return the seconds that the oldest unfinished write has waited; 0.0 without any."""
        began = next(iter(self._writes.values()), None)
        return 0.0 if began is None else self._loop.time() - began

    async def _lend(self, role: Role, work: Callable[[Session], Awaitable[T]]) -> T:
        slots = self._slots[role]
        await self._take(slots, role)
        try:
            generation, connection = await self._connection(slots)
            session = Session(connection, self._queries, reads=slots.reads)
            deadline = max(self.deadline_seconds, slots.least_deadline_seconds)
            reason = f"no answer within {deadline:g} s"
            timer = self._loop.call_later(deadline, session.expire, reason)
            self._lent.add(session)
            try:
                return await work(session)
            finally:
                usable = await session.leave()
                timer.cancel()
                self._lent.discard(session)
                if session.read_only:
                    logger.warning("PostgreSQL takes no writes at this host; connecting anew")
                    self._leave_host(ends_work=False)
                if usable and self._keeps(generation):
                    slots.idle.append((generation, connection))
                else:
                    connection.terminate()
        finally:
            slots.free.release()

    async def _take(self, slots: _Slots, role: Role) -> None:
        if not slots.free.locked():
            await slots.free.acquire()  # at once, for which no deadline has to be kept
            return
        if slots.waiting >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} wait for a connection to {role.value} already")
        slots.waiting += 1
        try:
            async with asyncio.timeout(self.deadline_seconds):
                await slots.free.acquire()
        except TimeoutError as error:
            raise Unavailable(
                f"no connection to {role.value} was free within {self.deadline_seconds:g} s"
            ) from error
        finally:
            slots.waiting -= 1

    async def _connection(self, slots: _Slots) -> "tuple[int, asyncpg.Connection[asyncpg.Record]]":
        while slots.idle:
            generation, connection = slots.idle.pop()
            if generation == self._generation and not connection.is_closed():
                return generation, connection
            connection.terminate()
        connection = await self.connect()
        return self._generation, connection

    @property
    def has_sessions(self) -> bool:
        """Whether `connect_directly` gives a session that lasts as long as the connection."""
        return self._direct.has_sessions

    @property
    def direct_pause_seconds(self) -> float:
        """Return how long nobody may connect directly from now on."""
        return self._direct.breaker.pause_seconds

    async def connect_directly(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return a new connection past the pooler, which is the caller's to close. Raises Unavailable."""
        return await self._connect(self._direct)

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return a new connection, which is the caller's to close. Raises Unavailable."""
        return await self._connect(self._address)

    async def _connect(self, address: Address) -> "asyncpg.Connection[asyncpg.Record]":
        connection = await address.connect(self._connect_seconds)
        self.connects += 1
        return connection

    def _keeps(self, generation: int) -> bool:
        """Whether connections of that generation are used again."""
        return generation == self._generation and not self.closed

    def when_failed_over(self, callback: Callable[[], None]) -> None:
        """Have `callback` told when a standby was promoted; it must neither wait nor raise."""
        self._when_failed_over.append(callback)

    def _leave_host(self, *, ends_work: bool, promoted: bool = False) -> None:
        """Use none of the connections any more: they may all lead to a host that was replaced.

        With `ends_work` those that are lent are closed, too, without a word to that host.
        """
        self._generation += 1
        for slots in self._slots.values():
            while slots.idle:
                slots.idle.pop()[1].terminate()
        if ends_work:
            for session in self._lent:
                session.expire("its host was replaced")
        if promoted:
            for callback in self._when_failed_over:
                callback()


@lru_cache(maxsize=NUMBERS_KNOWN)
def number_of(name: str) -> int:
    """Return the key of the rows of a conversation, or of an owner: 63 bits of the SHA-256 of the id.

    It is known without a look-up, and spreads logs over partitions. Should two conversations ever
    share one, the second cannot be used: the head names the id.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def queries_in(schema: str) -> Mapping[str, str]:
    """Return the queries of this dialect, by name, over tables in that schema."""
    return {name: in_schema(text, schema) for name, text in load_queries(DIALECT).items()}


def in_schema(text: str, schema: str) -> str:
    """Return SQL with another schema in the place of the one that the files name.

    Names are qualified since a pooler in transaction mode keeps no search path. Raises
    MigrationError for a name that would have to be quoted.
    """
    if not _SCHEMA_NAME.fullmatch(schema):
        raise MigrationError(f"{schema!r} is no name of a schema: use a-z, 0-9 and _")
    return re.sub(rf"\b{SCHEMA}\.", f"{schema}.", text)


async def check_promises(pool: PostgresPool) -> None:
    """Raise MigrationError where the server does not keep what it acknowledges, or is too old."""
    ((syncs, waits, is_standby, version),) = await pool.fetch(Role.READ, "read_promises")
    refusals: Sequence[tuple[bool, str]] = (
        (not syncs, "it runs with fsync=off and loses data when the machine stops"),
        (not waits, "it runs with synchronous_commit=off and loses what it has acknowledged"),
        (is_standby, "it is a standby, which takes no writes"),
        (version < OLDEST_VERSION, f"its version is below {OLDEST_VERSION // 10_000}"),
    )
    for refused, reason in refusals:
        if refused:
            raise MigrationError(f"PostgreSQL cannot be used: {reason}")
