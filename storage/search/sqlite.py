"""A search index in a SQLite file of its own, with FTS5."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from asyncio import Future, Lock
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from storage.errors import SearchTooSlow, Unavailable
from storage.search.base import (
    MAX_PLACE,
    Found,
    LogChange,
    LogState,
    SearchIndex,
    SearchQuery,
    closed,
    first_place,
    place_at,
)
from storage.search.queue import SEARCHES, SearchQueue
from storage.search.words import Phrase, fold

T = TypeVar("T")

logger = logging.getLogger(__name__)

INDEX_NAME = "search.sqlite3"
FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""Errors of the driver; the second where SQLite's own words quote a damaged name."""
FIND_SECONDS = 3.0
INSTRUCTIONS = 20_000
VERSION = 1
"""Of the tables below; an index of another version is dropped and made anew."""

TABLES = f"""
CREATE TABLE logs (
    number INTEGER PRIMARY KEY,
    conversation_id TEXT NOT NULL UNIQUE,
    owner TEXT,
    next_id INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    mark INTEGER NOT NULL,
    title TEXT
);
CREATE TABLE entries (
    place INTEGER PRIMARY KEY,
    log INTEGER NOT NULL,
    event_id INTEGER NOT NULL,
    UNIQUE (log, event_id)
);
CREATE VIRTUAL TABLE words USING fts5 (facets, text, columnsize = 0, tokenize = 'ascii');
PRAGMA user_version = {VERSION};
"""
"""The text is kept in its folded form: FTS5 needs it to remove an entry."""

STATE = "owner, next_id, epoch, mark, title"
FIND = """
SELECT entries.place, logs.conversation_id, entries.event_id
FROM words
CROSS JOIN entries ON entries.place = words.rowid
CROSS JOIN logs ON logs.number = entries.log
WHERE words MATCH ? AND words.rowid >= ? AND words.rowid < ? AND logs.owner IS ?
ORDER BY words.rowid DESC
LIMIT ?
"""

_FREE_PLACE = """
    SELECT place + 1 FROM entries AS taken
    WHERE place >= ? AND NOT EXISTS (SELECT 1 FROM entries WHERE place = taken.place + 1)
    ORDER BY place LIMIT 1
"""
"""The end of the places that are taken without a gap from one on."""


class SqliteSearchIndex(SearchIndex):
    """See SearchIndex.

    One thread writes; searches run in threads of their own, on connections that cannot write. A
    commit is not flushed to the disk: after a power cut the index is an older one, never a torn
    one. A file that is damaged, or of another version, is dropped when it is opened.
    """

    def __init__(
        self, path: Path, find_seconds: float = FIND_SECONDS, instructions: int = INSTRUCTIONS
    ) -> None:
        self._path = path
        self._find_seconds = find_seconds
        self._instructions = instructions
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="search index")
        self._reading = ThreadPoolExecutor(SEARCHES, thread_name_prefix="search")
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._queue = SearchQueue()
        self._closing = Lock()
        self._closed = False
        self._writer: sqlite3.Connection

    @classmethod
    async def open(
        cls, path: Path, find_seconds: float = FIND_SECONDS, instructions: int = INSTRUCTIONS
    ) -> Self:
        """Open or create the index in a file. Raises Unavailable.

        A search is given up after `find_seconds`, and looks at the clock every `instructions` of
        SQLite's machine.
        """
        index = cls(path, find_seconds, instructions)
        try:
            await index._written(index._open)
        except BaseException:
            await index.close()
            raise
        return index

    async def states(self, conversation_ids: Sequence[str]) -> Mapping[str, LogState]:
        """See SearchIndex."""
        return await self._written(partial(self._states, conversation_ids))

    async def conversations(self, after: str, limit: int) -> list[str]:
        """See SearchIndex."""
        query = "SELECT conversation_id FROM logs WHERE conversation_id > ? ORDER BY 1 LIMIT ?"

        def read() -> list[str]:
            return [found for (found,) in self._writer.execute(query, (after, limit))]

        return await self._written(read)

    async def write(self, changes: Sequence[LogChange]) -> int:
        """See SearchIndex. One transaction."""
        return await self._written(partial(self._write, changes))

    async def erase(self, conversation_ids: Sequence[str]) -> None:
        """See SearchIndex."""

        def erase() -> None:
            with self._transaction():
                for conversation_id in conversation_ids:
                    self._erase(conversation_id)

        await self._written(erase)

    async def clear(self) -> None:
        """See SearchIndex."""

        def clear() -> None:
            with self._transaction():
                for table in ("words", "entries", "logs"):
                    self._writer.execute(f"DROP TABLE {table}")
                _create(self._writer)

        await self._written(clear)

    async def find(self, query: SearchQuery, limit: int) -> list[Found]:
        """See SearchIndex."""
        if not query.phrases:
            return []

        def search() -> Future[list[Found]]:
            if self._closed:
                raise closed()
            loop = asyncio.get_running_loop()
            return loop.run_in_executor(self._reading, partial(self._find, query, limit))

        return await self._queue.run(query.owner, search)

    async def close(self) -> None:
        """See SearchIndex."""
        async with self._closing:
            if self._closed:
                return
            self._closed = True
            await asyncio.to_thread(self._shut_down)

    def _shut_down(self) -> None:
        self._reading.shutdown()
        while not self._readers.empty():
            self._readers.get().close()
        if hasattr(self, "_writer"):
            self._writing.submit(self._writer.close)
        self._writing.shutdown()

    async def _written(self, call: Callable[[], T]) -> T:
        """Return the result of a call in the writer's thread. Raises Unavailable."""
        if self._closed:
            raise closed()

        def run() -> T:
            try:
                return call()
            except FAILURES as error:
                raise Unavailable(f"the search index in {self._path.name}: {error}") from error
            except OSError as error:
                raise Unavailable(f"cannot use {self._path}: {error.strerror}") from error

        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._writing, run))

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._writer = _opened(self._path)
        except FAILURES as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # a full disk, or a folder that cannot be written
            logger.warning("%s cannot be used (%s); making it anew", self._path.name, error)
            remove_index(self._path)
            self._writer = _opened(self._path)
        for _ in range(SEARCHES):
            reader = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
            )
            self._readers.put(reader)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(*FAILURES):
                self._writer.execute("ROLLBACK")
            raise

    def _states(self, conversation_ids: Sequence[str]) -> dict[str, LogState]:
        query = f"SELECT {STATE} FROM logs WHERE conversation_id = ?"  # noqa: S608 - our own columns
        found = {}
        for conversation_id in conversation_ids:
            row = self._writer.execute(query, (conversation_id,)).fetchone()
            if row is not None:
                found[conversation_id] = LogState(*row)
        return found

    def _write(self, changes: Sequence[LogChange]) -> int:
        rows: list[tuple[int, str, str]] = []
        written: set[str] = set()
        applied = 0
        with self._transaction():
            for change in changes:
                if change.conversation_id in written:
                    self._insert(rows)
                known = self._states((change.conversation_id,)).get(change.conversation_id)
                if change.before is None:
                    self._erase(change.conversation_id)
                elif known != change.before:
                    continue
                number = self._save(change.conversation_id, change.after)
                dropped = {entry.event_id for entry in change.entries}.union(change.withdrawn)
                if change.before is not None:
                    self._drop(number, dropped)
                rows += self._placed(number, change)
                written.add(change.conversation_id)
                applied += 1
            self._insert(rows)
        return applied

    def _insert(self, rows: list[tuple[int, str, str]]) -> None:
        # In the order of places: FTS5 writes a segment whenever that order is left.
        rows.sort()
        query = "INSERT INTO words (rowid, facets, text) VALUES (?, ?, ?)"
        self._writer.executemany(query, rows)
        rows.clear()

    def _save(self, conversation_id: str, state: LogState) -> int:
        values = (state.owner, state.next_id, state.epoch, state.mark, state.title)
        query = f"""
            INSERT INTO logs (conversation_id, {STATE}) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET ({STATE}) = (?, ?, ?, ?, ?) RETURNING number
        """  # noqa: S608 - our own columns
        return int(
            self._writer.execute(query, (conversation_id, *values, *values)).fetchall()[0][0]
        )

    def _placed(self, number: int, change: LogChange) -> Iterator[tuple[int, str, str]]:
        owner, conversation_id = change.after.owner, change.conversation_id
        first = place = -1
        for entry in change.entries:
            wanted = first_place(conversation_id, entry.moment)
            # Entries of one moment follow each other: what was taken for the last is not tried again.
            first, place = wanted, place + 1 if wanted == first else wanted
            query = "INSERT OR IGNORE INTO entries (place, log, event_id) VALUES (?, ?, ?)"
            while not self._writer.execute(query, (place, number, entry.event_id)).rowcount:
                place = self._writer.execute(_FREE_PLACE, (place,)).fetchall()[0][0]
            facets = _facets(owner, conversation_id, entry.source, entry.kind)
            yield place, " ".join(facets), fold(entry.text)

    def _erase(self, conversation_id: str) -> None:
        query = "DELETE FROM logs WHERE conversation_id = ? RETURNING number"
        for (number,) in self._writer.execute(query, (conversation_id,)).fetchall():
            places = self._writer.execute(
                "DELETE FROM entries WHERE log = ? RETURNING place", (number,)
            )
            self._writer.executemany("DELETE FROM words WHERE rowid = ?", places.fetchall())

    def _drop(self, number: int, event_ids: set[int]) -> None:
        query = "DELETE FROM entries WHERE log = ? AND event_id = ? RETURNING place"
        for event_id in event_ids:
            places = self._writer.execute(query, (number, event_id)).fetchall()
            self._writer.executemany("DELETE FROM words WHERE rowid = ?", places)

    def _find(self, query: SearchQuery, limit: int) -> list[Found]:
        since = 0 if query.since is None else place_at(query.since)
        below = MAX_PLACE if query.below is None else query.below
        values = (_expression(query), since, below, query.owner, limit)
        reader = self._readers.get()
        due = time.monotonic() + self._find_seconds
        reader.set_progress_handler(lambda: time.monotonic() > due, self._instructions)
        try:
            return [Found(*row) for row in reader.execute(FIND, values)]
        except sqlite3.OperationalError as error:
            if time.monotonic() > due:
                raise SearchTooSlow("the search took too long; ask for rarer words") from error
            raise Unavailable(f"the search index in {self._path.name}: {error}") from error
        except FAILURES as error:
            raise Unavailable(f"the search index in {self._path.name}: {error}") from error
        finally:
            reader.set_progress_handler(None, 0)
            self._readers.put(reader)


def remove_index(path: Path) -> None:
    """Remove an index's file, and those that SQLite keeps beside it. Block. Raise OSError.

    The file goes first: SQLite drops a log of what is not there, but a file that has lost its log
    may be torn without a sign of it.
    """
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _opened(path: Path) -> sqlite3.Connection:
    """Open the writer's connection, and create the tables or bring them to this version."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-8000"):
            connection.execute(f"PRAGMA {pragma}")
        _bring_up(connection)
        connection.execute("SELECT count(*) FROM (SELECT rowid FROM words LIMIT 1)").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up(connection: sqlite3.Connection) -> None:
    ((version,),) = connection.execute("PRAGMA user_version")
    if version not in (0, VERSION):
        raise sqlite3.DatabaseError(f"version {version}, this server makes {VERSION}")
    if version == 0:
        connection.execute("BEGIN IMMEDIATE")
        _create(connection)
        connection.execute("COMMIT")


def _create(connection: sqlite3.Connection) -> None:
    for statement in TABLES.split(";\n"):
        connection.execute(statement)


def _facets(
    owner: str | None, conversation_id: str | None, source: str | None, kind: str | None
) -> Iterator[str]:
    """Yield the words by which entries are told apart that are not what they say."""
    yield "n" if owner is None else f"o{_digest(owner)}"
    if conversation_id is not None:
        yield f"c{_digest(conversation_id)}"
    if source is not None:
        yield f"s{source}"
    if kind is not None:
        yield f"k{kind}"


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def _expression(query: SearchQuery) -> str:
    """Return the query in FTS5's language; every word of the user's is in quotes."""
    facets = _facets(query.owner, query.conversation_id, query.source, query.kind)
    asked: list[Any] = [f'facets : "{facet}"' for facet in facets]
    asked += [f"text : {_quoted(phrase)}" for phrase in query.phrases]
    return " AND ".join(asked)


def _quoted(phrase: Phrase) -> str:
    # Words consist of letters, digits and marks: there is no quote in them.
    return f'"{" ".join(phrase.words)}"' + (" *" if phrase.prefix else "")
