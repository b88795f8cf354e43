"""The back-end of an embedded SQLite database."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path

from storage.audit.database import DatabaseAudit
from storage.backends.base import DirectoryBackend, OpenedDatabase
from storage.backends.row_checks import audit_problem, usage_problem, user_record_problem
from storage.conversations.check import shortened
from storage.conversations.database import DatabaseConversationStores, record_problem
from storage.database.base import (
    Database,
    Row,
    Statement,
    Steps,
    bytes_in,
    load_queries,
    rerunnable,
)
from storage.database.migrate import schema_problems
from storage.database.reading import SQLITE_ERRORS, reading
from storage.database.sqlite import SqliteDatabase, connect_writer
from storage.database.wal import read_wal, wal_of
from storage.errors import StorageError, Unavailable
from storage.inventory import Inventory, StorageReport, Track, size_of
from storage.keys import DATABASE_NAME
from storage.lock import data_directory_lock, mark_open, was_left_open
from storage.sealing.key import SealingKey
from storage.usage.database import DatabaseUsage
from storage.users.database import DatabaseKeyMark, DatabaseUserRecords
from storage.workspaces.check import blob_problem, manifest_problem

QUICKLY = 10
"""Problems inside SQLite's file that are named."""


async def probe_database(database: Database) -> None:
    """Commit a change that changes nothing. Raises Unavailable, OutcomeUnknown."""
    await database.write(_touch())


@rerunnable
def _touch() -> Steps[None]:
    yield Statement("touch")


class SqliteBackend(DirectoryBackend):
    """See Backend."""

    kind = "sqlite"
    name = DATABASE_NAME

    async def open(self, stack: AsyncExitStack) -> OpenedDatabase:
        """See Backend."""
        database = await SqliteDatabase.open(self.path)
        await asyncio.to_thread(mark_open, self.data_dir)
        stack.push_async_callback(database.close)
        self.guard(database, stack)
        key = SealingKey(DatabaseKeyMark(database), self.data_dir, self.secret_key)
        await key.for_reading()
        return OpenedDatabase(
            conversations=DatabaseConversationStores(database),
            users=DatabaseUserRecords(database),
            key=key,
            usage=DatabaseUsage(database),
            audit=DatabaseAudit(database),
            inventory=SqliteInventory(database, self.path),
            prove=partial(probe_database, database),
            database=database,
        )

    def check_parts(self) -> None:
        """See DirectoryBackend."""
        # SQLite takes a database without a byte for new, and deletes the WAL that it finds beside it.
        path, wal = self.path, wal_of(self.path)
        if (path.exists() and path.stat().st_size) or not wal.exists() or not wal.stat().st_size:
            return
        found = "is empty" if path.exists() else "is missing"
        raise Unavailable(
            f"{path} {found}, and its write-ahead log ({wal.name}) is there, with what was written"
            f" last: bring back the {path.name} that belongs to it, or move {wal.name} away"
        )

    def loss(self) -> str | None:
        """See Backend. A WAL is there from a database's opening to its closing, also after a crash."""
        path, wal = self.path, wal_of(self.path)
        if not path.exists() or wal.exists() or not was_left_open(self.data_dir):
            return None
        return (
            f"{path.name} was not closed in order, and its write-ahead log is missing"
            f" ({wal.name}): what was written last is lost"
        )

    def scrub(self) -> None:
        """See Backend. The file is written anew: freed pages, and gaps in others, hold what was there."""
        if not self.path.exists():
            return
        try:
            with (
                data_directory_lock(self.data_dir),
                closing(connect_writer(self.path)) as connection,
            ):
                # The table is as large as the file, and the index of titles names deleted ones.
                connection.execute("PRAGMA temp_store = FILE")
                connection.execute("INSERT INTO titles (titles) VALUES ('optimize')")
                connection.execute("VACUUM")
                ((busy, *_),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except SQLITE_ERRORS as error:
            raise Unavailable(f"{self.path.name} cannot be written anew: {error}") from error
        if busy:
            raise Unavailable(f"{self.path.name} is being read: its write-ahead log stays as it is")

    def contents(self) -> str:
        """See DirectoryBackend."""
        query = (
            "SELECT count(*), coalesce(sum(next_id), 0) FROM conversations WHERE deleted_at IS NULL"
        )
        try:
            with reading(self.path) as connection:
                conversations, events = connection.execute(query).fetchone()
        except (StorageError, *SQLITE_ERRORS):
            return f"{self.path.stat().st_size} bytes"
        return f"{conversations} conversations, {events} events"

    def problems(self, track: Track) -> tuple[list[str], list[str]]:
        """See DirectoryBackend."""
        path = self.path
        if not path.exists():
            return [], []
        problems = [found for found in (self.loss(), _wal_problem(path)) if found]
        if path.stat().st_size == 0 and read_wal(wal_of(path)).taken == 0:
            return [*problems, f"{path.name} is empty: 0 bytes, where a database should be"], []
        try:
            with reading(path) as connection:
                rows = connection.execute(f"PRAGMA integrity_check({QUICKLY})").fetchall()
                if rows != [("ok",)]:
                    problems += [f"{path.name} is damaged: {row[0]}" for row in rows]
                problems += [f"{path.name}: {found}" for found in schema_problems(connection)]
                problems += shortened([*_check_rows(connection, track)])
                return problems, _marks_of(connection)
        except StorageError as error:
            return [*problems, str(error)], []
        except SQLITE_ERRORS as error:
            return [*problems, f"{path.name} cannot be read: {error}"], []


class SqliteInventory(Inventory):
    """Of a SQLite database."""

    def __init__(self, database: Database, path: Path) -> None:
        super().__init__()
        self._database = database
        self._path = path

    async def take(self, *, check: bool = False) -> StorageReport:
        """See Inventory."""
        if check:
            await self.run_check()
        rows = await self._database.read(_ask(Statement("inventory")))
        size, conversations, deleted, events, version = rows[0]
        return StorageReport(
            medium="sqlite",
            place=str(self._path),
            bytes_used=size,
            wal_bytes=await asyncio.to_thread(size_of, wal_of(self._path)),
            conversations=conversations,
            deleted_conversations=deleted,
            events=events,
            schema_version=version,
            integrity=self.mark,
        )


@rerunnable
def _ask(statement: Statement) -> Steps[list[Row]]:
    return (yield statement).rows


def _wal_problem(path: Path) -> str | None:
    found = read_wal(wal_of(path))
    if found.problem() is None or read_wal(wal_of(path)) != found:  # a server is writing to it
        return None
    return found.problem()


def _check_rows(connection: sqlite3.Connection, track: Track) -> Iterator[str]:
    """Check a database except its logs; missing tables are reported by the schema's check."""
    checks = (
        ("records", load_queries()["all_records"], record_problem),
        ("users", "SELECT owner, kind, body FROM user_records", _user_record_problem),
        ("usage", "SELECT conversation_id, day, events FROM usage_lines", _usage_problem),
        ("audit", "SELECT id, body FROM audit", _audit_problem),
        ("workspaces", load_queries()["all_workspaces"], _workspace_problem),
        ("files of workspaces", load_queries()["all_workspace_blobs"], _blob_problem),
    )
    for subject, query, problem_of in checks:
        yield from _if_there(subject, _problems_of(connection, subject, query, problem_of, track))
    for query, what in (
        ("damaged_records", "the record of conversation"),
        ("damaged_usage", "the usage of conversation"),
        ("damaged_audit", "audit record"),
    ):
        yield from _if_there("the checksums", _failed_checksums(connection, query, what))


def _if_there(subject: str, problems: Iterator[str]) -> Iterator[str]:
    """Yield problems, that of what cannot be read too; an older version had not all there is."""
    try:
        yield from problems
    except SQLITE_ERRORS as error:
        if not str(error).startswith(("no such table", "no such column")):
            yield f"{subject} cannot be read: {error}"


def _problems_of(
    connection: sqlite3.Connection,
    subject: str,
    query: str,
    problem_of: Callable[[Row], str | None],
    track: Track,
) -> Iterator[str]:
    ((count,),) = connection.execute(f"SELECT count(*) FROM ({query})")  # noqa: S608 - ours
    with closing(connection.execute(query)) as rows:
        found = (problem_of(row) for row in track(rows, subject, count))
        yield from (problem for problem in found if problem is not None)


def _failed_checksums(connection: sqlite3.Connection, query: str, what: str) -> Iterator[str]:
    with closing(connection.execute(load_queries()[query])) as rows:
        yield from (f"{what} {key} fails its checksum" for (key,) in rows)


def _user_record_problem(row: Row) -> str | None:
    owner, kind, body = row
    return user_record_problem(owner, kind, bytes_in(body))


def _usage_problem(row: Row) -> str | None:
    return usage_problem(*row)


def _audit_problem(row: Row) -> str | None:
    return audit_problem(*row)


def _workspace_problem(row: Row) -> str | None:
    conversation_id, manifest, names = row
    return manifest_problem(conversation_id, bytes_in(manifest), json.loads(names))


def _blob_problem(row: Row) -> str | None:
    conversation_id, name, body = row
    return blob_problem(conversation_id, name, bytes_in(body))


def _marks_of(connection: sqlite3.Connection) -> list[str]:
    try:
        return [row[0] for row in connection.execute("SELECT key_id FROM key_mark")]
    except sqlite3.OperationalError:  # an older database has no place for the mark
        return []
