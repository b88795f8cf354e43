"""The probe of a medium for readiness, and the thread that notices when its files are gone."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from storage.reserve import Reserve

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.4
"""Seconds between two checks of a medium's files."""


class FileIdentity(NamedTuple):
    """The file that a path leads to, whatever is written to it."""

    device: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "FileIdentity":
        """Return the identity of a file from its `stat` result."""
        return cls(found.st_dev, found.st_ino)

    @classmethod
    def at(cls, path: Path) -> "FileIdentity | None":
        """Return the identity of the file at a path, None where there is none. Raises OSError."""
        try:
            return cls.of(path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return None


class Medium:
    """The part of a database and of a file store that readiness watches."""

    lost: str | None = None
    """The files that were removed or replaced while the medium is open; None if all are in place.

    While files are lost, every write is refused with MediumLost, since it would not survive a
    restart.
    """

    taken = False
    """Whether another process works on the medium instead, which `lost` then says."""

    reserve: Reserve | None = None
    """The space reserved for deletions, if any."""

    def oldest_write_seconds(self) -> float:
        """Return the seconds that the oldest unfinished write has waited; 0.0 without any."""
        return 0.0

    async def reach(self) -> None:
        """Ask a medium that lies elsewhere whether it answers. Raises StorageError."""

    def missing(self) -> str | None:
        """Look which files are not where they were opened. It blocks. Raises OSError."""
        return None


@contextmanager
def reserving(medium: Medium, path: Path) -> Iterator[None]:
    """Keep room for deletions in the file `path` until the block is left. It blocks."""
    medium.reserve = Reserve(path)
    medium.reserve.fill()
    try:
        yield
    finally:
        medium.reserve.close()


@contextmanager
def watching(medium: Medium) -> Iterator[None]:
    """Keep `medium.lost` up to date, and log what changes, until the block is left.

    A thread, and no task: it holds up no loop, and a program that never ends it may end.
    """
    ended = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(medium, ended), name="watch of the medium", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _watch(medium: Medium, ended: threading.Event) -> None:
    while not ended.wait(LOOK_SECONDS):
        try:
            found = medium.missing()
        except OSError:
            continue  # the disk does not answer: readiness says so
        if found == medium.lost or ended.is_set():
            continue
        medium.lost = found
        if found is None:
            logger.warning("the storage is complete again; accepting writes")
        else:
            logger.error(
                "%s while the storage is in use; no more writes are accepted."
                " Stop the server, restore the files, run parley check",
                found,
            )
