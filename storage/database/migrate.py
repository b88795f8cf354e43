"""Numbered migrations: forward only, each in one transaction, with a checksum on record."""

import hashlib
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple, TypeAlias

from storage.database.reading import SQLITE_ERRORS
from storage.database.row_checksums import register_checksum
from storage.errors import MigrationError
from storage.failpoints import failpoint
from storage.unicode_text import fold_case

SqlValue: TypeAlias = str | bytes | int | float | None

SQLITE_MIGRATIONS = files("storage.database") / "migrations" / "sqlite"


TABLE = (
    "CREATE TABLE IF NOT EXISTS migrations"
    " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)"
)


class Migrated(NamedTuple):
    """The names of migrations that were applied, and of contracts that wait to be asked for."""

    applied: Sequence[str]
    waiting: Sequence[str]


class Migration(NamedTuple):
    """One numbered SQL file."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def history_problems(done: Sequence[Sequence[str]], known: Sequence[Migration]) -> list[str]:
    """Return how applied migrations, each its name and checksum, differ from this version's.

    Fewer than there are is no problem: the next start applies the rest.
    """
    if len(done) > len(known):
        return [f"the database is from a newer version (migration {done[-1][0]})"]
    return [
        f"the applied migration {name} differs from this version's"
        for (name, checksum), migration in zip(done, known, strict=False)
        if checksum != migration.checksum
    ]


def unapplied(done: Sequence[Sequence[str]], known: Sequence[Migration]) -> Sequence[Migration]:
    """Return the migrations that are still to be applied.

    Raises MigrationError where those that were applied differ from this version's.
    """
    problems = history_problems(done, known)
    if problems:
        raise MigrationError(problems[0])
    return known[len(done) :]


def schema_problems(
    connection: sqlite3.Connection, folder: Traversable = SQLITE_MIGRATIONS
) -> list[str]:
    """Return how a database's tables differ from what its migrations made; changes nothing.

    Fewer migrations than there are is no problem: the next start applies the rest.
    """
    known = load_migrations(folder)
    try:
        done = connection.execute(
            "SELECT name, checksum FROM migrations ORDER BY number"
        ).fetchall()
    except sqlite3.OperationalError:
        return ["the table migrations is missing"]
    problems = history_problems(done, known)
    if len(done) > len(known):
        return problems
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        _apply(fresh, known[: len(done)])
        expected, found = _objects(fresh), _objects(connection)
    for (kind, name), text in expected.items():
        if (kind, name) not in found:
            problems.append(f"the {kind} {name} is missing")
        elif found[kind, name] != text:
            problems.append(f"the {kind} {name} is not as this version made it")
    return problems + [
        f"the {kind} {name} is none of this server's"
        for kind, name in found
        if (kind, name) not in expected and not name.startswith("sqlite_")
    ]


def is_current(connection: sqlite3.Connection) -> bool:
    """Return whether every migration is applied, and none that is not known."""
    try:
        ((done,),) = connection.execute("SELECT count(*) FROM migrations")
    except sqlite3.OperationalError:
        return False
    return bool(done == len(load_migrations(SQLITE_MIGRATIONS)))


def _objects(connection: sqlite3.Connection) -> dict[tuple[str, str], str | None]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
    return {(kind, name): text for kind, name, text in rows}


def load_migrations(folder: Traversable) -> list[Migration]:
    """Return a folder's migrations in order, from 1 without a gap. Raises MigrationError."""
    found = sorted(
        Migration(int(entry.name[:4]), entry.name, entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"the {folder.name} migrations are not numbered from 1 without a hole")
    return found


def statements_of(text: str) -> list[str]:
    """Split a script into its statements."""
    statements: list[str] = []
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    if pending.strip():
        raise MigrationError("a migration ends in the middle of a statement")
    return statements


def migrate_sqlite(connection: sqlite3.Connection, folder: Traversable = SQLITE_MIGRATIONS) -> None:
    """Bring a database up to date with the migrations of `folder`.

    A crash between two migrations leaves the first one applied. Raises MigrationError when the
    database was written by a newer version, or an applied migration has since been changed.
    """
    connection.execute(TABLE)
    applied = connection.execute("SELECT name, checksum FROM migrations ORDER BY number")
    _apply(connection, unapplied(applied.fetchall(), load_migrations(folder)))


def _apply(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    connection.execute(TABLE)
    connection.create_function("fold_title", 1, _fold_title, deterministic=True)
    connection.create_function("fold_utf8", 1, _fold_utf8, deterministic=True)
    connection.create_function("crc_32", 1, zlib.crc32, deterministic=True)
    register_checksum(connection)
    for migration in migrations:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements_of(migration.text):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migrations (number, name, checksum) VALUES (?, ?, ?)",
                (migration.number, migration.name, migration.checksum),
            )
            failpoint("migration.begun")
            connection.execute("COMMIT")
        except SQLITE_ERRORS:
            connection.execute("ROLLBACK")
            raise


def _fold_utf8(title: SqlValue) -> SqlValue:
    """Serve migrations as the function `fold_utf8`: the folded text of these bytes, or NULL."""
    try:
        return fold_case(title.decode()) if isinstance(title, bytes) else None
    except UnicodeDecodeError:
        return None


def _fold_title(title: SqlValue) -> SqlValue:
    """Serve migrations as the function `fold_title`; damaged titles stay as they are."""
    return fold_case(title) if isinstance(title, str) else title
