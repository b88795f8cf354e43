"""One process per data directory: an advisory lock that names its holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import DataDirectoryLocked


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
            raise DataDirectoryLocked(folder, file.read().strip()) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        _held[folder.absolute()] = os.fstat(file.fileno())
        try:
            yield
        finally:
            del _held[folder.absolute()]


def is_held_by_this_process(folder: Path) -> bool:
    """Whether `folder`/lock is the file that this process has locked: nobody removed or replaced it.

    Raises OSError, but not for a file that is not there.
    """
    held = _held.get(folder.absolute())
    try:
        return held is not None and os.path.samestat(held, (folder / "lock").stat())
    except FileNotFoundError:
        return False


_held: dict[Path, os.stat_result] = {}
