"""One transaction for many writers: each is whole or not at all, and none harms its neighbours."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from storage.database.base import Result, Row, Rows, Script, Translate, as_it_is
from storage.database.reading import SQLITE_ERRORS
from storage.errors import Conflict, OutcomeUnknown, StorageError, StorageFull, Unavailable
from storage.failpoints import failpoint
from storage.promise import Promise

T = TypeVar("T")

Connect = Callable[[Path], sqlite3.Connection]


ROWS_AT_ONCE = 512
"""Rows of one statement at most.

Every statement costs the writer two switches of the GIL, each of which may wait for a busy loop, so
that a commit uses as few as possible.
"""
FEW_ROWS = 32
VALUES = re.compile(r"VALUES (\([?, ]+\))")
STATEMENTS = 256
"""Prepared statements a connection should keep, for all sizes of all queries that take rows."""


@cache
def with_rows(query: str, count: int) -> str:
    """Return a query with one row of values extended to `count` rows."""
    return VALUES.sub(lambda found: "VALUES " + ", ".join([found[1]] * count), query, count=1)


def room_for(count: int) -> int:
    """Return the size of the statement for that many rows; few sizes, so that all stay prepared."""
    if count > FEW_ROWS:
        return -(-count // FEW_ROWS) * FEW_ROWS
    return 1 << (count - 1).bit_length()


Prepared = tuple[str, Sequence[Any]]
"""A statement and its parameters."""


class Work(NamedTuple):
    """One writer's wish: a script, or rows with the script to run when they do not fit."""

    script: Script[Any]
    promise: Promise[Any]
    rows: Rows = ()
    failure: Translate = as_it_is


class Outcome(NamedTuple):
    """The outcome of a script."""

    promise: Promise[Any]
    value: Any
    error: Exception | None = None


def _execute(
    connection: sqlite3.Connection, statement: str, parameters: Sequence[Any], *, many: bool = False
) -> sqlite3.Cursor:
    """Run a statement. Raises sqlite3.Error, also for a value that the driver cannot bind."""
    run = connection.executemany if many else connection.execute
    try:
        return run(statement, parameters)
    except (OverflowError, UnicodeError) as error:
        raise sqlite3.DataError(f"a value cannot be stored: {error}") from error


def run_script(connection: sqlite3.Connection, queries: Mapping[str, str], script: Script[T]) -> T:
    """Drive a script to its end on a connection."""
    steps = script()
    try:
        statement = next(steps)
        while True:
            query = queries[statement.query]
            cursor = _execute(connection, query, statement.parameters, many=statement.many)
            rows: list[Row] = [] if statement.many else cursor.fetchall()
            statement = steps.send(Result(rows, cursor.rowcount))
    except StopIteration as stop:
        return cast("T", stop.value)


class GroupCommit:
    """Runs groups of writes on the writing connection, each group in one transaction."""

    def __init__(self, path: Path, connect: Connect, queries: Mapping[str, str]) -> None:
        self._path = path
        self._connect = connect
        self._queries = queries
        self.connection = connect(path)

    def commit(self, group: Sequence[Work]) -> list[Outcome]:
        """Commit a group; return the outcomes, unordered.

        Writes with rows come first, with one statement per query. If there is nothing else, the
        statement is the transaction, and the writer reacquires the GIL only once.
        """
        in_rows = [work for work in group if work.rows]
        statements = self._statements_of(in_rows)
        if len(statements) == 1 and len(in_rows) == len(group) and self._run_alone(*statements[0]):
            return [Outcome(work.promise, None) for work in group]
        try:
            outcomes = self._apply_all(group, in_rows, statements)
        except SQLITE_ERRORS as error:
            self._reopen()
            return _all_failed(group, _not_done(f"nothing was written: {error}", error))
        failpoint("commit.begun")
        try:
            self.connection.execute("COMMIT")
        except SQLITE_ERRORS as error:
            self._reopen()
            return _all_failed(group, OutcomeUnknown(f"commit failed: {error}"))
        failpoint("commit.done")
        return outcomes

    def _run_alone(self, statement: str, parameters: Sequence[Any]) -> bool:
        """Run a statement outside a transaction; whether it is known to have been committed.

        If it is not, the scripts decide: they find out where every log is now.
        """
        try:
            _execute(self.connection, statement, parameters)
        except sqlite3.IntegrityError:
            return False
        except SQLITE_ERRORS:
            self._reopen()
            return False
        failpoint("commit.done")
        return True

    def _apply_all(
        self, group: Sequence[Work], in_rows: Sequence[Work], statements: Sequence[Prepared]
    ) -> list[Outcome]:
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        if len(in_rows) < len(group) or len(statements) > 1:
            try:
                for statement, parameters in statements:
                    _execute(connection, statement, parameters)
            except SQLITE_ERRORS:
                # The scripts, each by itself, tell whose fault it is.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
            else:
                outcomes = [Outcome(work.promise, None) for work in in_rows]
                return outcomes + [self._apply(work) for work in group if not work.rows]
        return [self._apply(work) for work in group]

    def _statements_of(self, works: Sequence[Work]) -> list[Prepared]:
        """Return the rows of all works as few statements, padded with zeros to a usual size."""
        merged: dict[str, list[Sequence[Any]]] = {}
        for work in works:
            for query, rows in work.rows:
                merged.setdefault(query, []).extend(rows)
        statements: list[Prepared] = []
        for query, rows in merged.items():
            for start in range(0, len(rows), ROWS_AT_ONCE):
                due = rows[start : start + ROWS_AT_ONCE]
                size = room_for(len(due))
                parameters = list(chain.from_iterable(due))
                parameters += [0] * ((size - len(due)) * len(due[0]))
                statements.append((with_rows(self._queries[query], size), parameters))
        return statements

    def _apply(self, work: Work) -> Outcome:
        connection = self.connection
        connection.execute("SAVEPOINT script")
        try:
            value = run_script(connection, self._queries, work.script)
        except BaseException as error:  # noqa: BLE001 - whatever a script raises belongs to its caller
            self._check_open(error)
            connection.execute("ROLLBACK TO script")
            connection.execute("RELEASE script")
            if not isinstance(error, Exception):
                # Somebody's change that wants to end its thread: this one serves all writers.
                ended = RuntimeError(f"a script raised {error!r}")
                ended.__cause__ = error
                return Outcome(work.promise, None, ended)
            if not isinstance(error, sqlite3.Error):
                return Outcome(work.promise, None, error)
            told = f"write failed: {error}"
            is_refused = isinstance(error, sqlite3.IntegrityError)
            failure = Conflict(told) if is_refused else _not_done(told, error)
            failure.__cause__ = error
            return Outcome(work.promise, None, work.failure(failure))
        connection.execute("RELEASE script")
        return Outcome(work.promise, value)

    def _check_open(self, error: BaseException) -> None:
        if not self.connection.in_transaction:
            # SQLite itself undid the whole transaction (disk full, I/O error).
            if isinstance(error, sqlite3.Error):
                raise error
            raise sqlite3.OperationalError(str(error)) from error

    def _reopen(self) -> None:
        """Replace the connection after a failure outside scripts.

        Closing it rolls back an open transaction. While no new one can be opened, every commit
        tries again.
        """
        with contextlib.suppress(*SQLITE_ERRORS):
            self.connection.close()
        with contextlib.suppress(*SQLITE_ERRORS):
            self.connection = self._connect(self._path)


def _not_done(text: str, error: Exception) -> Unavailable:
    """Return the storage's error for one with which SQLite did nothing."""
    is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return (StorageFull if is_full else Unavailable)(text)


def _all_failed(group: Sequence[Work], error: StorageError) -> list[Outcome]:
    return [Outcome(work.promise, None, work.failure(error)) for work in group]
