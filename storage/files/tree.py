"""Folders below a root, reached by descriptors: no name is followed out of it.

Everything here blocks and belongs in a worker thread.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from storage.errors import MediumLost, OutcomeUnknown, Unavailable
from storage.medium import FileIdentity

KNOWN_LIMIT = 10_000
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Flush: TypeAlias = Callable[[int], None]

flush_file: Flush = os.fsync


class Tree:
    """A root folder and the paths below it. Methods may also raise OSError."""

    def __init__(self, root: Path, flush: Flush) -> None:
        self.flush = flush
        self._broken = False
        self._settled: set[str] = set()
        """Folders whose names are on the disk."""
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = root.resolve()
        self._removals = self._removing = 0
        """Number of folder removals started by this store, and of those in progress."""
        self._folders: dict[str, FileIdentity] = {}
        """The folders directly below the root, as they were first seen."""
        self.root = os.open(self._path, OPEN_FOLDER)
        above = os.open("..", OPEN_FOLDER, dir_fd=self.root)
        try:
            flush(above)
        finally:
            os.close(above)

    def close(self) -> None:
        """Let go of the root."""
        os.close(self.root)

    def check(self) -> None:
        """Raise Unavailable when a flush has failed: what the disk holds is not known."""
        if self._broken:
            raise Unavailable("a flush of the disk failed; the storage must be reopened")

    def missing(self) -> str | None:
        """Return a folder that was moved or removed: the root, or one directly below it."""
        if FileIdentity.at(self._path) != FileIdentity.of(os.fstat(self.root)):
            return f"{self._path.name} was removed or replaced"
        with os.scandir(self.root) as entries:
            found = {
                entry.name: FileIdentity.of(entry.stat(follow_symlinks=False))
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
            }
        for name, seen in self._folders.items():
            if found.get(name) != seen:
                return f"{self._path.name}/{name} was removed or replaced"
        self._folders = found
        return None

    def settle(self, folder: int) -> None:
        """Make the names in a folder durable. Raises OutcomeUnknown."""
        try:
            self.flush(folder)
        except OSError as error:
            self._broken = True
            raise OutcomeUnknown(f"the disk failed: {error.strerror}") from error

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Remove folders inside the block; afterwards no folder is assumed to be durable."""
        with self._lock:
            self._removals += 1
            self._removing += 1
        try:
            yield
        finally:
            with self._lock:
                self._settled.clear()
                self._removing -= 1

    @contextmanager
    def folder(self, path: str, *, make: bool = False) -> Iterator[int]:
        """Yield a descriptor of the folder; with `make` it and its parents are created durably."""
        descriptor, above = os.dup(self.root), ""
        try:
            for part in path.split("/") if path else ():
                above = f"{above}/{part}" if above else part
                inner = self._step(descriptor, part, above) if make else _open(descriptor, part)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def parent(self, key: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Yield a descriptor of the folder that holds a key, and the key's name there."""
        path, _, name = key.rpartition("/")
        with self.folder(path, make=make) as folder:
            yield folder, name

    def _step(self, folder: int, name: str, path: str) -> int:
        removals, quiet = self._removals, not self._removing
        settled = path in self._settled
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            pass
        else:
            if settled and quiet and removals == self._removals:  # this store did not remove it
                os.rmdir(name, dir_fd=folder)
                raise MediumLost(f"{path} was removed while the storage is in use")
            settled = False
        inner = _open(folder, name)
        try:
            if not settled:
                self.settle(folder)
                with self._lock:
                    if len(self._settled) >= KNOWN_LIMIT:
                        self._settled.clear()
                    self._settled.add(path)
        except OutcomeUnknown:
            os.close(inner)
            raise
        return inner


def _open(folder: int, name: str) -> int:
    return os.open(name, OPEN_FOLDER, dir_fd=folder)
