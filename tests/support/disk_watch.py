"""The operations of the local file store on its disk, seen before it happens: to be noted, or to fail.

Python tells audit hooks of every file that is opened, linked, renamed or removed, and a hook that
raises makes that fail. A hook stays as long as the process; without a watcher it does nothing.
"""

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

THREADS = "files"
"""The beginning of the names of the file store's threads; others are not watched."""


class Deed(StrEnum):
    """One kind of operation."""

    OPENS = "opens"
    CREATES = "creates"
    READS = "reads"
    WRITES = "writes"
    LISTS = "lists"
    LINKS = "links"
    RENAMES = "renames"
    REMOVES = "removes"
    MAKES_FOLDER = "makes a folder"
    REMOVES_FOLDER = "removes a folder"
    FLUSHES_FILE = "flushes a file"
    FLUSHES_FOLDER = "flushes a folder"


TAKES_ROOM = frozenset(
    {Deed.CREATES, Deed.WRITES, Deed.LINKS, Deed.RENAMES, Deed.MAKES_FOLDER, Deed.FLUSHES_FILE}
)
"""Operations that a full disk refuses."""


class Act(NamedTuple):
    """One operation. Paths are absolute, and empty where they are not told."""

    deed: Deed
    path: str = ""
    target: str = ""
    """The new name that a file is given."""


Watcher: TypeAlias = Callable[[Act], None]
"""Called in the thread of the operation, before it; may raise OSError."""

_NAMED: dict[str, Deed] = {
    "os.link": Deed.LINKS,
    "os.rename": Deed.RENAMES,
    "os.remove": Deed.REMOVES,
    "os.mkdir": Deed.MAKES_FOLDER,
    "os.rmdir": Deed.REMOVES_FOLDER,
}


class _Watch:
    """The one hook of this process."""

    def __init__(self) -> None:
        self.watcher: Watcher | None = None
        self._is_hooked = False

    def begin(self, watcher: Watcher) -> None:
        assert self.watcher is None, "one at a time"
        if not self._is_hooked:
            sys.addaudithook(self._told)
            self._is_hooked = True
        self.watcher = watcher

    def _told(self, event: str, arguments: tuple[Any, ...]) -> None:
        watcher = self.watcher
        if watcher is None or not threading.current_thread().name.startswith(THREADS):
            return
        if event in _NAMED:
            watcher(_named(_NAMED[event], arguments))
        elif event == "os.scandir":
            watcher(Act(Deed.LISTS))
        elif event == "open":
            watcher(Act(_opened(*arguments)))


_watch = _Watch()


def _named(deed: Deed, arguments: tuple[Any, ...]) -> Act:
    if deed in (Deed.LINKS, Deed.RENAMES):
        source, target, source_folder, target_folder = arguments
        return Act(deed, _path(source_folder, source), _path(target_folder, target))
    return Act(deed, _path(arguments[-1], arguments[0]))


def _path(folder: int, name: str) -> str:
    return name if folder == -1 else f"{path_of(folder)}/{name}"


def path_of(descriptor: int) -> str:
    """Return the path of an open file or folder."""
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _opened(path: object, mode: str | None, flags: int) -> Deed:
    if isinstance(path, int):  # a descriptor, from which is read or to which is written
        return Deed.READS if mode is not None and mode.startswith("r") else Deed.WRITES
    return Deed.CREATES if flags & os.O_CREAT else Deed.OPENS


def flush(descriptor: int) -> None:
    """Flush for a LocalFileStore whose flushes are watched; none reaches the disk."""
    watcher = _watch.watcher
    if watcher is not None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        deed = Deed.FLUSHES_FOLDER if is_folder else Deed.FLUSHES_FILE
        watcher(Act(deed, path_of(descriptor)))


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher what file stores do in this block."""
    _watch.begin(watcher)
    try:
        yield
    finally:
        _watch.watcher = None
