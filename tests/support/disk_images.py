"""A disk on which a local file store works, and what a power cut at any moment may leave of it.

What was flushed stays. Of everything else any part may have reached the disk, in any order: each
name in a folder is as it was flushed last or as any later operation left it, and a file that was
not flushed is whole, cut at a sector, or full of zeros.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeAlias

from tests.support.disk_watch import Act, Deed

SECTOR = 512


@dataclass(eq=False, slots=True)
class File:
    """A file; what it holds counts once it is flushed."""

    content: bytes
    flushed: bool


@dataclass(eq=False, slots=True)
class Folder:
    """A folder: of each name the states since it was flushed, the flushed one first."""

    names: dict[str, list["Entry"]] = field(default_factory=dict)

    def now(self, name: str) -> "Entry":
        """Return what has that name for the process."""
        return self.names[name][-1] if name in self.names else None

    def put(self, name: str, entry: "Entry") -> None:
        """Give the name to something else, or to nothing."""
        self.names.setdefault(name, [None]).append(entry)

    def settle(self) -> None:
        """Keep what the process sees, for good."""
        self.names = {
            name: states[-1:] for name, states in self.names.items() if states[-1] is not None
        }


Entry: TypeAlias = File | Folder | None


class _Step(NamedTuple):
    act: Act
    content: bytes = b""
    """Of the file that is flushed or given a name."""


class Journal:
    """Notes what a file store does below a root; a watcher of `disk_watch.watched`.

    What is there at the beginning counts as flushed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._first = _scanned(root)
        self._steps: list[_Step] = []
        self._lock = threading.Lock()

    def __call__(self, act: Act) -> None:
        """Note an operation before it is done."""
        content = b""
        if act.deed in (Deed.FLUSHES_FILE, Deed.LINKS, Deed.RENAMES):
            content = _content_of(act.path)
        paths = [self._below(act.path), self._below(act.target) if act.target else ""]
        if None not in paths:
            with self._lock:
                self._steps.append(_Step(Act(act.deed, paths[0] or "", paths[1] or ""), content))

    @property
    def place(self) -> int:
        """Return how much is noted."""
        return len(self._steps)

    def _below(self, path: str) -> str | None:
        root = str(self._root)
        return path[len(root) + 1 :] if path == root or path.startswith(f"{root}/") else None

    def cut(self, place: int, random: Random, target: Path) -> None:
        """Write into a new folder what a power cut at that place may have left."""
        disk = _copied(self._first)
        for step in self._steps[:place]:
            _apply(disk, step)
        _write(disk, target, _chooser(random), random)


def _apply(disk: Folder, step: _Step) -> None:
    act, (path, _, name) = step.act, step.act.path.rpartition("/")
    folder = _folder(disk, path)
    if act.deed == Deed.FLUSHES_FOLDER:
        flushed = _folder(disk, act.path)
        if flushed is not None:
            flushed.settle()
    elif folder is None:
        return
    elif act.deed == Deed.FLUSHES_FILE:
        found = folder.now(name)
        if isinstance(found, File) and found.content == step.content:
            found.flushed = True
        else:
            folder.put(name, File(step.content, flushed=True))
    elif act.deed in (Deed.LINKS, Deed.RENAMES):
        _rename(disk, folder, name, step)
    elif act.deed == Deed.MAKES_FOLDER and folder.now(name) is None:
        folder.put(name, Folder())
    elif (act.deed == Deed.REMOVES and isinstance(folder.now(name), File)) or (
        act.deed == Deed.REMOVES_FOLDER and isinstance(folder.now(name), Folder)
    ):
        folder.put(name, None)


def _rename(disk: Folder, folder: Folder, name: str, step: _Step) -> None:
    path, _, new_name = step.act.target.rpartition("/")
    target = _folder(disk, path)
    if target is None or (step.act.deed == Deed.LINKS and target.now(new_name) is not None):
        return
    file = folder.now(name)
    if not isinstance(file, File):
        file = File(step.content, flushed=False)
    target.put(new_name, file)
    if step.act.deed == Deed.RENAMES:
        folder.put(name, None)


def _folder(disk: Folder, path: str) -> Folder | None:
    found: Entry = disk
    for part in path.split("/") if path else ():
        found = found.now(part) if isinstance(found, Folder) else None
    return found if isinstance(found, Folder) else None


_Choose: TypeAlias = Callable[[list[Entry]], Entry]


def _chooser(random: Random) -> _Choose:
    """Return how the states of names are chosen on one image."""
    return random.choice(
        (
            lambda states: states[0],
            lambda states: states[-1],
            random.choice,
            random.choice,
            lambda states: states[0] if random.random() < 0.9 else states[-1],
            lambda states: states[-1] if random.random() < 0.9 else states[0],
        )
    )


def _write(folder: Folder, target: Path, choose: _Choose, random: Random) -> None:
    target.mkdir()
    for name, states in folder.names.items():
        match choose(states):
            case Folder() as inner:
                _write(inner, target / name, choose, random)
            case File(content, flushed):
                (target / name).write_bytes(content if flushed else _torn(content, random))
            case None:
                pass


def _torn(content: bytes, random: Random) -> bytes:
    sectors = range(0, len(content) + SECTOR, SECTOR)
    return random.choice((content, b"", content[: random.choice(sectors)], bytes(len(content))))


def _scanned(folder: Path) -> Folder:
    found = Folder()
    for path in folder.iterdir():
        entry = _scanned(path) if path.is_dir() else File(path.read_bytes(), flushed=True)
        found.names[path.name] = [entry]
    return found


def _copied(folder: Folder) -> Folder:
    """Return a copy of a disk that has nothing unflushed."""
    copy = Folder()
    for name, (entry,) in folder.names.items():
        if isinstance(entry, Folder):
            copy.names[name] = [_copied(entry)]
        elif entry is not None:
            copy.names[name] = [File(entry.content, entry.flushed)]
    return copy


def _content_of(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)
