"""The disk operations of the local file store. They block and belong in a worker thread."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count, groupby
from pathlib import Path

from storage.errors import Conflict, Damaged, KeyExists, KeyNotFound, StorageFull, Unavailable
from storage.failpoints import failpoint
from storage.files.tree import OPEN_FOLDER, Flush, Tree
from storage.keys import is_part

TEMPORARY = ".temporary"
"""Holds files until they are linked; no key begins with a dot, so none is ever in it."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folders:
    """A root folder. Errors of the system leave it as `storage.errors`, except on opening."""

    def __init__(self, root: Path, flush: Flush) -> None:
        self._tree = Tree(root, flush)
        self._names = count()
        try:
            self._temporary = self._prepare()
        except OSError:
            self._tree.close()
            raise

    def missing(self) -> str | None:
        """Look which of the store's folders is not where it was."""
        return self._tree.missing()

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._temporary)
        self._tree.close()

    def read(self, key: str) -> bytes:
        """Return a file's content."""
        with self._reading(key):
            with self._tree.parent(key) as (folder, name):
                descriptor = os.open(name, _READ, dir_fd=folder)
            try:
                mode = os.fstat(descriptor).st_mode
                if stat.S_ISDIR(mode):
                    raise KeyNotFound(key)
                if not stat.S_ISREG(mode):
                    raise Damaged(f"{key} is no regular file")
                with os.fdopen(descriptor, "rb", closefd=False) as file:
                    return file.read()
            finally:
                os.close(descriptor)

    def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the contents, None for each absent file."""
        contents: list[bytes | None] = []
        for key in keys:
            try:
                contents.append(self.read(key))
            except KeyNotFound:
                contents.append(None)
        return contents

    def exists(self, key: str) -> bool:
        """Return whether a file with that key exists."""
        try:
            with self._reading(key), self._tree.parent(key) as (folder, name):
                return stat.S_ISREG(_mode(folder, name))
        except KeyNotFound:
            return False

    def keys(self, prefix: str, after: str) -> list[str]:
        """Return every key with that prefix beyond `after`, ascending."""
        above = prefix.rpartition("/")[0]
        try:
            with self._reading(prefix), self._tree.folder(above) as folder:
                found = [*_walk(folder, f"{above}/" if above else "")]
        except KeyNotFound:
            return []
        return sorted(key for key in found if key.startswith(prefix) and key > after)

    def create(self, key: str, content: bytes) -> None:
        """Create a file, linked once its content is on the disk."""
        with (
            self._writing(key),
            self._temporary_file(content) as temporary,
            self._tree.parent(key, make=True) as (folder, name),
        ):
            try:
                os.link(temporary, name, src_dir_fd=self._temporary, dst_dir_fd=folder)
            except FileExistsError as error:
                if stat.S_ISDIR(_mode(folder, name)):
                    raise IsADirectoryError(key) from error
                raise KeyExists(key) from error
            self._settle_file(folder)

    def write(self, key: str, content: bytes) -> None:
        """Create or replace a file."""
        with (
            self._writing(key),
            self._temporary_file(content) as temporary,
            self._tree.parent(key, make=True) as (folder, name),
        ):
            os.replace(temporary, name, src_dir_fd=self._temporary, dst_dir_fd=folder)
            self._settle_file(folder)

    def write_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Create or replace files of one folder, which is flushed once for all."""
        first, _ = files[0]
        with self._writing(first), self._tree.parent(first, make=True) as (folder, _):
            for key, content in files:
                name = key.rpartition("/")[2]
                with self._temporary_file(content) as temporary:
                    os.replace(temporary, name, src_dir_fd=self._temporary, dst_dir_fd=folder)
            self._settle_file(folder)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the files of those keys; one flush for consecutive keys of one folder."""
        for path, group in groupby(keys, lambda key: key.rpartition("/")[0]):
            with suppress(KeyNotFound), self._reading(path), self._tree.folder(path) as folder:
                for key in group:
                    name = key.rpartition("/")[2]
                    with suppress(FileNotFoundError, IsADirectoryError):
                        os.unlink(name, dir_fd=folder)
                failpoint("file.unlinked")
                self._tree.settle(folder)

    def delete_tree(self, key: str) -> None:
        """Delete everything below that key, and the folder itself."""
        with (
            suppress(KeyNotFound),
            self._reading(key),
            self._tree.removing(),
            self._tree.parent(key) as (folder, name),
        ):
            _remove(folder, name)
            failpoint("file.unlinked")
            self._tree.settle(folder)

    def _settle_file(self, folder: int) -> None:
        failpoint("file.linked")
        self._tree.settle(folder)
        failpoint("file.settled")

    def _prepare(self) -> int:
        """Create the folder for files that are not linked yet, or remove leftovers in it."""
        root = self._tree.root
        with suppress(FileExistsError):
            os.mkdir(TEMPORARY, 0o700, dir_fd=root)
        temporary = os.open(TEMPORARY, OPEN_FOLDER, dir_fd=root)
        try:
            with os.scandir(temporary) as left:
                for entry in left:
                    os.unlink(entry.name, dir_fd=temporary)
            os.close(os.open("Probe", _NEW, 0o600, dir_fd=temporary))
            folded = _exists(temporary, "probe")
            os.unlink("Probe", dir_fd=temporary)
        except OSError:
            os.close(temporary)
            raise
        if folded:
            os.close(temporary)
            raise OSError("the file system does not distinguish upper and lower case")
        return temporary

    @contextmanager
    def _temporary_file(self, content: bytes) -> Iterator[str]:
        """Write a file that is on the disk but not yet linked; return its name."""
        name = str(next(self._names))
        descriptor = os.open(name, _NEW, 0o600, dir_fd=self._temporary)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
                self._tree.flush(descriptor)
            failpoint("file.flushed")
            yield name
        finally:
            with suppress(OSError):  # it was moved to its place; what is left goes at the next open
                os.unlink(name, dir_fd=self._temporary)

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        self._tree.check()
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise KeyNotFound(key) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Damaged(f"{key} is no regular file") from error
            raise Unavailable(f"{key}: {error.strerror}") from error

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        self._tree.check()
        try:
            yield
        except (NotADirectoryError, IsADirectoryError) as error:
            raise Conflict(f"a file and a folder cannot both be {key}") from error
        except OSError as error:
            failure = StorageFull if error.errno in NO_ROOM else Unavailable
            raise failure(f"{key} was not written: {error.strerror}") from error


def _mode(folder: int, name: str) -> int:
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode


def _exists(folder: int, name: str) -> bool:
    try:
        _mode(folder, name)
    except FileNotFoundError:
        return False
    return True


def _walk(folder: int, path: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_part(entry.name):  # nothing of ours, and no call takes such a key
                continue
            if entry.is_file(follow_symlinks=False):
                yield path + entry.name
            elif entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    inner = os.open(entry.name, OPEN_FOLDER, dir_fd=folder)
                    try:
                        yield from _walk(inner, f"{path}{entry.name}/")
                    finally:
                        os.close(inner)


def _remove(folder: int, name: str) -> None:
    inner = os.open(name, OPEN_FOLDER, dir_fd=folder)
    try:
        with os.scandir(inner) as entries:
            for entry in [*entries]:
                if entry.is_dir(follow_symlinks=False):
                    _remove(inner, entry.name)
                else:
                    os.unlink(entry.name, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)
