"""Whose data lies in a data directory, and what of it; nothing is changed."""

import errno
import os
from pathlib import Path

from storage.config import LocalStorage, MemoryStorage, StorageConfig
from storage.database.wal import wal_of
from storage.errors import ForeignData, Unavailable
from storage.keys import DATABASE_NAME, FILES_NAME
from storage.lock import was_left_open

SESSIONS = "sessions"
"""The folder of a directory of the V0 server that holds a folder for each conversation."""
V0_FILES = ("settings.json", "secrets.json", ".jwt_secret")


def check_directory(config: StorageConfig) -> None:
    """Raise ForeignData where a directory holds no data of that medium, but somebody else's.

    A storage that is opened there would be new and empty, beside data that nobody would miss
    before it is too late. A directory that holds both is taken for that medium's. Raises
    Unavailable where the place cannot be what it should, or a part of a database is missing.
    """
    if isinstance(config, MemoryStorage):
        return
    folder = config.data_dir
    own, other, kind = FILES_NAME, DATABASE_NAME, "sqlite"
    if not isinstance(config, LocalStorage):
        own, other, kind = DATABASE_NAME, FILES_NAME, "local"
    for path in (folder, folder / own):
        if path.is_symlink() and not path.exists():
            raise Unavailable(f"{path} is a link to {path.readlink()}, which is not there")
    if folder.exists() and not folder.is_dir():
        raise Unavailable(f"cannot use {folder}: {os.strerror(errno.ENOTDIR)}")
    if own == DATABASE_NAME:
        _check_is_with_its_wal(folder / own)
    if (folder / own).exists():
        return
    if (folder / other).exists():
        raise ForeignData(
            f"the data directory {folder} holds data of --storage {kind} ({other}) and none of"
            f" --storage {config.kind}: start with --storage {kind}, or name another data directory"
        )
    found = _v0_data(folder)
    if found is not None:
        raise ForeignData(
            f"the data directory {folder} holds data of an OpenHands V0 server ({found}), which"
            " this server cannot read: name another data directory"
        )


def lost_wal(path: Path) -> str | None:
    """Return that a database's WAL is missing, in words; None where nothing says so.

    A WAL is there from the opening of a database to its closing, also after a crash.
    """
    if not path.exists() or wal_of(path).exists() or not was_left_open(path.parent):
        return None
    return (
        f"{path.name} was not closed in order, and its write-ahead log is missing"
        f" ({wal_of(path).name}): what was written last is lost"
    )


def _check_is_with_its_wal(path: Path) -> None:
    # SQLite takes a database without a byte for new, and deletes the WAL that it finds beside it.
    wal = wal_of(path)
    if (path.exists() and path.stat().st_size) or not wal.exists() or not wal.stat().st_size:
        return
    found = "is empty" if path.exists() else "is missing"
    raise Unavailable(
        f"{path} {found}, and its write-ahead log ({wal.name}) is there, with what was written"
        f" last: bring back the {path.name} that belongs to it, or move {wal.name} away"
    )


def _v0_data(folder: Path) -> str | None:
    for name in V0_FILES:
        if (folder / name).is_file():
            return name
    sessions = folder / SESSIONS
    if sessions.is_dir():
        for session in sessions.iterdir():
            if (session / "events").is_dir() or (session / "metadata.json").is_file():
                return SESSIONS
    return None
