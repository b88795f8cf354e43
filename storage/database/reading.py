"""Read-only access to a database file: by a check, beside a server or on a read-only medium."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from storage.database.row_checksums import register_checksum
from storage.database.wal import wal_of
from storage.errors import Unavailable

SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""Errors of the driver; the second where SQLite's own words quote a damaged name."""
BUSY_SECONDS = 1.0
"""Seconds a statement waits for another holder of the file."""


def read_only_uri(path: Path) -> str:
    """Return a URI for a connection that cannot write, and so never checkpoints."""
    return f"{path.absolute().as_uri()}?mode=ro"


def text_of(stored: bytes) -> str:
    """Decode a stored text. One that is damaged becomes no text that any field takes.

    The driver's own decoding would fail the whole statement, with all other rows.
    """
    return stored.decode("utf-8", "surrogateescape")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that changes nothing.

    Raises Unavailable, with a text that begins with the file's name. A database without a WAL was
    closed, and is read as immutable: SQLite would otherwise create files beside it, and leave them.
    Beside a WAL they exist, or must be created.
    """
    wal = wal_of(path)
    if not wal.exists():
        yield from _opened(path, f"{path.absolute().as_uri()}?immutable=1")
        return
    try:
        yield from _opened(path, read_only_uri(path))
    except _CannotOpen as error:
        if wal.stat().st_size == 0:
            yield from _opened(path, f"{path.absolute().as_uri()}?immutable=1")
            return
        raise Unavailable(
            f"{path.name} cannot be read: it has a write-ahead log, and SQLite can make no file"
            " beside it; copy the data directory to where it can be written, and check the copy"
        ) from error


class _CannotOpen(Unavailable):
    """SQLite lacks a file it wants, or may not make it."""


def _opened(path: Path, uri: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as connection:
        connection.text_factory = text_of
        register_checksum(connection)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except SQLITE_ERRORS as error:
            kind = _CannotOpen if isinstance(error, sqlite3.OperationalError) else Unavailable
            raise kind(f"{path.name} cannot be read: {error}") from error
        yield connection
