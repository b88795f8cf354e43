"""A SQLite connection on which chosen statements fail as a disk would make them fail."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.database.sqlite import connect_writer


class Faults:
    """The faults planned on the writer's connection, and the statements that went over it.

    `before` holds statements (their first words) that fail instead of running; `after` those that
    run and then fail all the same. Each failure is used up. `pragmas` are set on new connections.
    """

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[str] = []
        self.statements: list[str] = []
        self.refuses_connections = False
        self.pragmas: list[str] = []

    def count(self, words: str) -> int:
        """Return how often a statement that begins with these words was begun."""
        return sum(statement.startswith(words) for statement in self.statements)

    def connect(self, path: Path) -> sqlite3.Connection:
        """Open the writer's connection; give it to SqliteDatabase.open."""
        if self.refuses_connections:
            raise sqlite3.OperationalError("unable to open database file")
        connect_writer(path).close()
        faults = self

        class Faulty(sqlite3.Connection):
            def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
                faults.statements.append(sql)
                return faults.around(sql, lambda: super(Faulty, self).execute(sql, *arguments))

        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=Faulty
        )
        for pragma in ("synchronous=FULL", *self.pragmas):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def around(self, sql: str, run: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        """Run a statement unless it is to fail, fail after it if that is wanted."""
        if _taken(self.before, sql):
            raise sqlite3.OperationalError("disk I/O error")
        cursor = run()
        if _taken(self.after, sql):
            raise sqlite3.OperationalError("disk I/O error")
        return cursor


def _taken(wanted: list[str], sql: str) -> bool:
    for words in wanted:
        if sql.startswith(words):
            wanted.remove(words)
            return True
    return False
