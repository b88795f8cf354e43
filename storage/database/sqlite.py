"""SQLite: one writer thread with adaptive group commit, read-only connections for reads."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Self, TypeVar, cast

import aiosqlite

from storage.counters import Counters
from storage.database.base import (
    Result,
    Row,
    RowDatabase,
    Rows,
    Script,
    Translate,
    as_it_is,
    bytes_in,
    load_queries,
)
from storage.database.group_commit import STATEMENTS, Connect, GroupCommit, Outcome, Work
from storage.database.migrate import migrate_sqlite
from storage.database.reading import SQLITE_ERRORS, read_only_uri, text_of
from storage.database.row_checksums import ROW_CRC, register_checksum, row_checksum
from storage.database.wal import read_wal, wal_of
from storage.errors import MediumLost, Unavailable
from storage.medium import FileIdentity
from storage.promise import Promise

T = TypeVar("T")

logger = logging.getLogger(__name__)

GROUP_LIMIT = 100
"""Maximum number of writes in one commit: the next commit runs while the loop still resolves these."""
WAITING_LIMIT = 50_000
"""Scripts that may wait for the writer; one more is refused with Unavailable."""
READERS = 2


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the connection of the one writer: WAL, and a flush of the disk at every commit."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
    )
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "mmap_size=0",
        "cache_size=-16000",
        "temp_store=MEMORY",
        "wal_autocheckpoint=4000",
        "secure_delete=OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.text_factory = text_of
    register_checksum(connection)
    return connection


async def _fetch_within(
    reader: Any, query: str, parameters: Sequence[Any], limit_bytes: int
) -> list[Row]:
    """Fetch rows until their last columns reach so many bytes."""

    def fetch() -> list[Row]:
        rows: list[Row] = []
        size = 0
        with contextlib.closing(reader._conn.execute(query, parameters)) as cursor:  # noqa: SLF001 - see below
            for row in cursor:
                rows.append(row)
                size += len(bytes_in(row[-1]))
                if size >= limit_bytes:
                    break
        return rows

    # Through aiosqlite's own cursors each row would be a visit to the reader's thread.
    rows: list[Row] = await reader._execute(fetch)  # noqa: SLF001 - aiosqlite has no other way
    return rows


class SqliteDatabase(RowDatabase):
    """One file, written by one thread of one process.

    Only the writer's connection writes and checkpoints, so the WAL-reset defect of SQLite before
    3.51.3, which needs two, cannot occur.
    """

    def __init__(self, path: Path, writer: GroupCommit) -> None:
        self.counters = Counters()
        self._writer = writer
        self._queries = load_queries()
        self._loop: AbstractEventLoop = asyncio.get_running_loop()
        self._gathered: list[Work] = []
        self._waiting: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._outstanding = 0
        self._ages: deque[tuple[float, int]] = deque()
        """When the outstanding writes were taken, and how many each time."""
        self._files = {one: FileIdentity.at(one) for one in (path, wal_of(path))}
        self._closed = False
        self._readers: list[aiosqlite.Connection] = []
        self._turn = cycle(self._readers)
        self._thread = Thread(target=self._run, name=f"writer of {path.name}", daemon=True)

    @classmethod
    async def open(cls, path: Path, connect: Connect = connect_writer) -> Self:
        """Open, create and migrate the file. Raises Unavailable, MigrationError.

        Commits in its WAL that SQLite will pass over are logged, see `storage.database.wal`.

        `connect` makes the writer's connection, now and again after a failed commit.
        """

        def prepare() -> GroupCommit:
            problem = read_wal(wal_of(path)).problem()
            if problem is not None:
                logger.error("%s: %s", path.name, problem)
            writer = GroupCommit(path, connect, load_queries())
            migrate_sqlite(writer.connection)
            return writer

        try:
            database = cls(path, await asyncio.to_thread(prepare))
            for _ in range(READERS):
                reader = aiosqlite.connect(read_only_uri(path), uri=True)
                # Readers have nothing to finish: a program that leaves them open may end.
                reader._thread.daemon = True  # noqa: SLF001 - aiosqlite has no other way
                database._readers.append(await reader)
                reader.text_factory = text_of
                await reader.create_function(ROW_CRC, -1, row_checksum, deterministic=True)
                # The first query reads the schema: better now than for the first client.
                await database._readers[-1].execute_fetchall("SELECT count(*) FROM migrations")
        except SQLITE_ERRORS as error:
            raise Unavailable(f"cannot open {path.name}: {error}") from error
        except OSError as error:
            raise Unavailable(f"cannot use {path}: {error.strerror}") from error
        database._thread.start()
        return database

    def submit(self, script: Script[T], *, failure: Translate = as_it_is) -> Promise[T]:
        """See Database. It runs in the next group commit."""
        return self._submit(script, (), failure)

    def submit_rows(
        self, rows: Rows, otherwise: Script[T | None], *, failure: Translate = as_it_is
    ) -> Promise[T | None]:
        """See RowDatabase."""
        return self._submit(otherwise, rows, failure)

    def _submit(self, script: Script[T], rows: Rows, failure: Translate) -> Promise[Any]:
        promise: Promise[Any] = Promise()
        if self._closed or self._outstanding >= WAITING_LIMIT:
            reason = "the database is closed" if self._closed else "too many writes are waiting"
            return Promise[Any].rejected(failure(Unavailable(reason)))
        if self.lost is not None:
            return Promise[Any].rejected(failure(MediumLost(self.lost)))
        self._outstanding += 1
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(Work(script, promise, rows, failure))
        return promise

    @property
    def closed(self) -> bool:
        """See Database."""
        return self._closed

    def oldest_write_seconds(self) -> float:
        """See Medium."""
        return time.monotonic() - self._ages[0][0] if self._ages else 0.0

    def missing(self) -> str | None:
        """See Medium. The file of the WAL is there as long as the database is open."""
        for path, opened in self._files.items():
            found = FileIdentity.at(path)
            if opened is None:
                self._files[path] = found
            elif found != opened:
                return f"{path.name} was {'removed' if found is None else 'replaced'}"
        database = next(iter(self._files))
        # Its first page was written before it was open for others.
        return None if database.stat().st_size else f"{database.name} was emptied"

    async def read(self, script: Script[T]) -> T:
        """See Database."""
        if self._closed:
            raise Unavailable("the database is closed")
        reader = next(self._turn)
        steps = script()
        try:
            statement = next(steps)
            while True:
                query = self._queries[statement.query]
                limit = statement.limit_bytes
                rows: list[Any]
                if limit is None:
                    rows = list(await reader.execute_fetchall(query, statement.parameters))
                else:
                    rows = await _fetch_within(reader, query, statement.parameters, limit)
                statement = steps.send(Result(cast("list[Row]", rows), -1))
        except StopIteration as stop:
            return cast("T", stop.value)
        except (sqlite3.Error, OverflowError, ValueError) as error:
            raise Unavailable(f"read failed: {error}") from error

    async def close(self) -> None:
        """See Database. The last checkpoint runs here, on the writer's connection."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        for reader in self._readers:
            await reader.close()
        await asyncio.to_thread(self._writer.connection.close)

    def _hand_over(self) -> None:
        """Pass the writes of this iteration of the event loop to the writer in one piece."""
        turn, self._gathered = self._gathered, []
        if turn:
            self._ages.append((time.monotonic(), len(turn)))
            self._waiting.put(turn)

    def _run(self) -> None:
        """Commit waiting writes and report to the loop; without a timer, load sets the group size."""
        backlog: deque[Work] = deque()
        ended = False
        while backlog or not ended:
            with contextlib.suppress(Empty):
                while len(backlog) < GROUP_LIMIT and not ended:
                    turn = self._waiting.get_nowait() if backlog else self._waiting.get()
                    backlog.extend(turn or ())
                    ended = turn is None
            group = [backlog.popleft() for _ in range(min(GROUP_LIMIT, len(backlog)))]
            if group:
                began = time.perf_counter()
                outcomes = self._writer.commit(group)
                seconds = time.perf_counter() - began
                with contextlib.suppress(
                    RuntimeError
                ):  # the loop is gone: there is no one to report to
                    self._loop.call_soon_threadsafe(self._complete, outcomes, seconds)

    def _complete(self, outcomes: list[Outcome], seconds: float) -> None:
        self._outstanding -= len(outcomes)
        self._count_down(len(outcomes))
        self.counters.waiting_writes = self._outstanding
        self.counters.committed(len(outcomes), seconds)
        for promise, value, error in outcomes:
            if error is None:
                promise.resolve(value)
            else:
                promise.reject(error)

    def _count_down(self, done: int) -> None:
        """Forget the times of the oldest writes: they are committed in the order they came."""
        while done:
            taken_at, count = self._ages.popleft()
            if count > done:
                self._ages.appendleft((taken_at, count - done))
            done -= min(count, done)
