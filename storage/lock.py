"""One process per data directory: an advisory lock that names its holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from storage.errors import DataDirectoryLocked

OPEN = "open\n"
"""The text after the pid while the medium is open."""


@contextmanager
def data_directory_lock(folder: Path) -> Iterator[None]:
    """Hold `folder`/lock. Raises DataDirectoryLocked naming the holder's pid.

    The kernel lets go of it when the process ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            pid = file.readline().strip()
            raise DataDirectoryLocked(folder, pid) from error
        _write(file, str(os.getpid()))
        _held[folder.absolute()] = os.fstat(file.fileno())
        try:
            yield
            _write(file, str(os.getpid()))
        finally:
            del _held[folder.absolute()]


def mark_open(folder: Path) -> None:
    """Record beside the holder's pid that the medium is open, until the lock is released cleanly."""
    with suppress(OSError), (folder / "lock").open("a") as file:
        file.write(OPEN)


def was_left_open(folder: Path) -> bool:
    """Return whether a process has opened the medium and not closed it. Raises OSError.

    Directories that an earlier version worked on say nothing of that.
    """
    try:
        return (folder / "lock").read_text("utf-8", "replace").endswith(OPEN)
    except FileNotFoundError:
        return False


def _write(file: TextIO, text: str) -> None:
    # On a full disk the file stays empty: the kernel's lock holds, whatever is in it. Past the
    # file's buffer, since what is left there would fail once more when the file is closed.
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{text}\n".encode())


def is_held_by_this_process(folder: Path) -> bool:
    """Return whether `folder`/lock is still the file that this process has locked.

    Raises OSError, but not for a file that is not there.
    """
    held = _held.get(folder.absolute())
    try:
        return held is not None and os.path.samestat(held, (folder / "lock").stat())
    except FileNotFoundError:
        return False


_held: dict[Path, os.stat_result] = {}
