"""The files below one directory of this machine, reached without ever following a symbolic link.

Every part of a path is opened below the one before it, so that a link that a command puts in its
place, at whatever moment, is refused and not followed. Where the workspace has a user of its own,
a call is made with that user's rights: the server then reaches nothing for a command that the
command could not reach itself, by a hard link for instance.
"""

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from runtime_stub.errors import BadWorkspacePath, FileMissing, NotText, WorkspaceError
from runtime_stub.workspace import resolve

LONGEST_READ = 64 * 1024 * 1024
"""Bytes of the longest file that is read whole."""
MOST_LISTED = 10_000
"""Entries of the largest folder that is listed."""
FILE_MODE = 0o644
FOLDER_MODE = 0o755
EXECUTABLE = 0o111
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1024 * 1024

_libc = ctypes.CDLL(None)
_NOBODY_NEW = -1
"""Given to setfsuid(2), which fails by changing nothing, it tells the id that counts."""


class FolderTooLarge(WorkspaceError):
    """A folder has more entries than are listed."""


class User(NamedTuple):
    """A user of the machine that owns one workspace."""

    uid: int
    gid: int


class Room(NamedTuple):
    """The bounds of the disk, in bytes and entries, and its contents when they were last counted."""

    most_bytes: int
    most_entries: int
    used_bytes: int = 0
    used_entries: int = 0


class LocalFiles:
    """The files of one workspace. Every method blocks; paths are canonical, as `resolve` returns them.

    `spare` is a folder beside the root, on the same disk, in which files are written before they
    take their place.
    """

    def __init__(self, root: str, spare: str, owner: User | None, room: Room) -> None:
        self.root = root
        self.room = room
        """Replaced whenever the keeper has counted."""
        self._spare = spare
        self._owner = owner

    def resolve(self, path: str) -> str:
        """Return the canonical form of a path, absolute or from the root. Raises BadWorkspacePath."""
        return resolve(path, self.root, self.root)

    def is_file(self, path: str) -> bool:
        """Return whether there is a regular file at `path`."""
        return stat.S_ISREG(self._mode(path))

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder at `path`."""
        return stat.S_ISDIR(self._mode(path))

    def size(self, path: str) -> int:
        """Count the bytes of a file; 0 for anything else."""
        with self._rights():
            try:
                with self._parent(path) as (folder, name):
                    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except (OSError, WorkspaceError):
                return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def read(self, path: str) -> bytes:
        """Return the bytes of a file. Raises FileMissing, BadWorkspacePath, WorkspaceError."""
        with self._rights(), _named_errors(path), self._parent(path) as (folder, name):
            descriptor = os.open(name, _READING, dir_fd=folder)
            try:
                self._check_readable(path, os.fstat(descriptor))
                return _read_whole(path, descriptor)
            finally:
                os.close(descriptor)

    def look(self, path: str) -> tuple[int, int]:
        """Return the mode and the length of what is there, a link being none. Raises FileMissing."""
        with self._rights(), _named_errors(path), self._parent(path) as (folder, name):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return found.st_mode, found.st_size

    def link(self, path: str) -> str:
        """Return where a symbolic link leads. Raises FileMissing, BadWorkspacePath."""
        with self._rights(), _named_errors(path), self._parent(path) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def make_link(self, path: str, target: str) -> None:
        """Make a symbolic link, which nothing here follows, if nothing is there. Raises BadWorkspacePath."""
        with (
            self._rights(),
            _named_errors(path),
            self._parent(path, make=True) as (folder, name),
            suppress(FileExistsError),
        ):
            os.symlink(target, name, dir_fd=folder)

    def make_folder(self, path: str) -> None:
        """Make a folder, and those around it, where missing. Raises BadWorkspacePath."""
        with self._rights(), _named_errors(path), self._folder(path, make=True):
            pass

    def read_text(self, path: str) -> str:
        """Return the text of a file. Raises as `read` does, and NotText."""
        try:
            return self.read(path).decode()
        except UnicodeDecodeError:
            raise NotText(f"{path}: the file is not UTF-8 text") from None

    def children(self, path: str, most: int = MOST_LISTED) -> list[str]:
        """List the names in a folder, sorted, folders with a trailing slash.

        What is neither a file nor a folder, such as a symbolic link, is listed as a file is. Raises
        FileMissing, BadWorkspacePath, and FolderTooLarge where there are more than `most`.
        """
        with self._rights(), _named_errors(path), self._folder(path) as folder:
            found: list[str] = []
            # A folder that was opened as a place only cannot be read.
            readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            try:
                with os.scandir(readable) as entries:
                    for entry in entries:
                        if len(found) == most:
                            raise FolderTooLarge(f"{path}: the folder has more than {most} entries")
                        mark = "/" if entry.is_dir(follow_symlinks=False) else ""
                        found.append(f"{entry.name}{mark}")
            finally:
                os.close(readable)
            return sorted(found)

    def is_empty(self) -> bool:
        """Return whether there is nothing in the workspace. Raises BadWorkspacePath."""
        try:
            return not self.children(self.root, 0)
        except FolderTooLarge:
            return False

    def write(self, path: str, content: bytes, *, executable: bool = False) -> None:
        """Write a whole file, and its folders where missing; a link is not written through.

        The file is put in its place as a whole; the mode of one that was there stays. Raises
        BadWorkspacePath, and WorkspaceError when there is no room.
        """
        if path == self.root:
            raise BadWorkspacePath(f"{path}: Is a directory")
        room, before = self.room, self.size(path)
        added = 0 if self.is_file(path) else 1
        if room.used_bytes + len(content) - before > room.most_bytes:
            raise WorkspaceError(f"{path}: the workspace may not exceed {room.most_bytes} bytes")
        if room.used_entries + added > room.most_entries:
            raise WorkspaceError(
                f"{path}: the workspace may not exceed {room.most_entries} entries"
            )
        with (
            self._rights(),
            _named_errors(path),
            self._parent(path, make=True) as (folder, name),
            _opened(self._spare, _FOLDER) as spare,
        ):
            mode = self._mode_to_write(path, folder, name) | (EXECUTABLE if executable else 0)
            draft = secrets.token_hex(16)
            descriptor = os.open(draft, _WRITING, FILE_MODE, dir_fd=spare)
            try:
                try:
                    _write_whole(descriptor, content)
                    os.fchmod(descriptor, mode)
                finally:
                    os.close(descriptor)
                os.rename(draft, name, src_dir_fd=spare, dst_dir_fd=folder)
            except BaseException:
                os.unlink(draft, dir_fd=spare)
                raise
        self.room = room._replace(
            used_bytes=room.used_bytes + len(content) - before,
            used_entries=room.used_entries + added,
        )

    def _mode(self, path: str) -> int:
        with self._rights():
            try:
                if path == self.root:
                    with self._folder(path):
                        return stat.S_IFDIR
                with self._parent(path) as (folder, name):
                    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            except (OSError, WorkspaceError):
                return 0

    def _check_readable(self, path: str, found: os.stat_result) -> None:
        if stat.S_ISDIR(found.st_mode):
            raise BadWorkspacePath(f"{path}: Is a directory")
        if not stat.S_ISREG(found.st_mode):
            raise BadWorkspacePath(f"{path}: not a regular file")
        if self._owner is not None and found.st_uid != self._owner.uid:
            raise BadWorkspacePath(f"{path}: the file belongs to somebody else")
        if found.st_size > LONGEST_READ:
            raise WorkspaceError(f"{path}: the file has more than {LONGEST_READ} bytes")

    @staticmethod
    def _mode_to_write(path: str, folder: int, name: str) -> int:
        """Return the mode that a file written there has. Raises BadWorkspacePath."""
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return FILE_MODE
        if stat.S_ISDIR(found.st_mode):
            raise BadWorkspacePath(f"{path}: Is a directory")
        if not stat.S_ISREG(found.st_mode):
            raise BadWorkspacePath(f"{path}: not a regular file")
        return stat.S_IMODE(found.st_mode) & 0o777

    @contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that holds `path`; raises OSError and BadWorkspacePath."""
        folder, _, name = path.rpartition("/")
        if path == self.root:
            raise BadWorkspacePath(f"{path}: Is a directory")
        with self._folder(folder, make=make) as opened:
            yield opened, name

    @contextmanager
    def _folder(self, path: str, *, make: bool = False) -> Iterator[int]:
        opened = os.open(self.root, _FOLDER)
        try:
            for part in filter(None, path.removeprefix(self.root).split("/")):
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, FOLDER_MODE, dir_fd=opened)
                below = os.open(part, _FOLDER, dir_fd=opened)
                os.close(opened)
                opened = below
            yield opened
        finally:
            os.close(opened)

    @contextmanager
    def _rights(self) -> Iterator[None]:
        """Have this thread reach files as the workspace's user; nothing where there is none."""
        if self._owner is None:
            yield
            return
        uid, gid = os.geteuid(), os.getegid()
        _libc.setfsgid(self._owner.gid)
        _libc.setfsuid(self._owner.uid)
        try:
            if _libc.setfsuid(_NOBODY_NEW) != self._owner.uid:
                raise WorkspaceError("the files cannot be reached as their user")
            yield
        finally:
            _libc.setfsuid(uid)
            _libc.setfsgid(gid)


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _named_errors(path: str) -> Iterator[None]:
    """Raise an OSError of the block as what it means for the path."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileMissing(f"{path}: No such file or directory") from error
    except OSError as error:
        text = f"{path}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE):
            raise WorkspaceError(text) from error
        if error.errno == errno.ELOOP:
            text = f"{path}: a symbolic link is not followed"
        raise BadWorkspacePath(text) from error


def _read_whole(path: str, descriptor: int) -> bytes:
    content = bytearray()
    while chunk := os.read(descriptor, _CHUNK):
        content += chunk
        if len(content) > LONGEST_READ:
            raise WorkspaceError(f"{path}: the file has more than {LONGEST_READ} bytes")
    return bytes(content)


def _write_whole(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
