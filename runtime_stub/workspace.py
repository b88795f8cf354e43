"""The in-memory workspace of one conversation: folders, files, a current folder, a repository."""

import re
from dataclasses import dataclass, field, replace
from typing import Self

from runtime_stub.errors import BadWorkspacePath, FileMissing, NotText, WorkspaceError, named
from runtime_stub.repository import Repository

ROOT = "/workspace"
MAX_BYTES = 64 * 1024 * 1024
MAX_ENTRIES = 10_000
MAX_PATH_CHARACTERS = 4096
MAX_NAME_BYTES = 255
_UNFIT_FOR_PATHS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")


@dataclass(slots=True, kw_only=True)
class Workspace:
    """Files below `/workspace`, kept as bytes. Nothing here waits or touches the machine.

    Methods take canonical paths, as `resolve` gives them. Each is all or nothing; a write past
    `max_bytes` or `max_entries` (files and folders) raises WorkspaceError and changes nothing.
    """

    max_bytes: int = MAX_BYTES
    max_entries: int = MAX_ENTRIES
    cwd: str = ROOT
    repository: Repository | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {ROOT})
    used_bytes: int = 0

    def copy(self) -> Self:
        """Make an independent copy; the contents are shared, as they never change."""
        return replace(
            self,
            repository=self.repository.copy() if self.repository else None,
            files=dict(self.files),
            folders=set(self.folders),
        )

    def resolve(self, path: str) -> str:
        """Return the canonical form of a path, absolute or from the root. Raises BadWorkspacePath."""
        return resolve(path)

    def is_file(self, path: str) -> bool:
        """Return whether there is a file at `path`."""
        return path in self.files

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder at `path`."""
        return path in self.folders

    def size(self, path: str) -> int:
        """Count the bytes of a file; 0 for anything else."""
        return len(self.files.get(path, b""))

    def read(self, path: str) -> bytes:
        """Return the bytes of a file. Raises FileMissing; BadWorkspacePath for a folder."""
        if path in self.folders:
            raise BadWorkspacePath(f"{path}: Is a directory")
        try:
            return self.files[path]
        except KeyError:
            raise FileMissing(f"{path}: No such file or directory") from None

    def read_text(self, path: str) -> str:
        """Return the text of a file. Raises as `read` does, and NotText."""
        try:
            return self.read(path).decode()
        except UnicodeDecodeError:
            raise NotText(f"{path}: the file is not UTF-8 text") from None

    def children(self, path: str) -> list[str]:
        """List the names in a folder, sorted, folders with a trailing slash. Raises FileMissing."""
        if path not in self.folders:
            raise FileMissing(f"{path}: No such folder")
        inside = f"{path}/"
        files = [name for name in self.files if name.startswith(inside)]
        folders = [f"{name}/" for name in self.folders if name.startswith(inside)]
        names = (name.removeprefix(inside) for name in (*files, *folders))
        return sorted(name for name in names if "/" not in name[:-1])

    def check_write(self, path: str, size: int) -> None:
        """Raise what `write` of `size` bytes would raise; changes nothing."""
        if path in self.folders:
            raise BadWorkspacePath(f"{path}: Is a directory")
        new_folders = self._missing_folders(_parent(path))
        if self.used_bytes - self.size(path) + size > self.max_bytes:
            raise WorkspaceError(f"{path}: the workspace may not exceed {self.max_bytes} bytes")
        self._check_entries(path, len(new_folders) + (path not in self.files))

    def write(self, path: str, content: bytes) -> None:
        """Write a whole file, and its folders where missing. Raises BadWorkspacePath."""
        self.check_write(path, len(content))
        self.folders.update(self._missing_folders(_parent(path)))
        self.used_bytes += len(content) - self.size(path)
        self.files[path] = content

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents, unless they exist. Raises BadWorkspacePath."""
        missing = self._missing_folders(path)
        self._check_entries(path, len(missing))
        self.folders.update(missing)

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with its contents; an absent one is ignored.

        Raises BadWorkspacePath for the root, the current folder and the folders above it.
        """
        if _is_within(self.cwd, path) or path == ROOT:
            raise BadWorkspacePath(f"{path}: the folder is in use")
        for name in [name for name in self.files if _is_within(name, path)]:
            self.used_bytes -= len(self.files.pop(name))
        self.folders = {name for name in self.folders if not _is_within(name, path)}
        if self.repository and _is_within(self.repository.root, path):
            self.repository = None

    def repository_files(self, repository: Repository) -> dict[str, bytes]:
        """Return the files of the repository's folder by path relative to it."""
        inside = f"{repository.root}/"
        return {
            path.removeprefix(inside): content
            for path, content in self.files.items()
            if path.startswith(inside)
        }

    def replace_repository_files(self, repository: Repository, files: dict[str, bytes]) -> None:
        """Make `files` the content of the repository's folder; empty folders stay."""
        twin = self.copy()
        for name in twin.repository_files(repository).keys() - files.keys():
            path = f"{repository.root}/{name}"
            twin.used_bytes -= len(twin.files.pop(path))
        for name, content in files.items():
            twin.write(f"{repository.root}/{name}", content)
        self.files, self.folders, self.used_bytes = twin.files, twin.folders, twin.used_bytes

    def _missing_folders(self, path: str) -> list[str]:
        missing = []
        while path not in self.folders:
            if path in self.files:
                raise BadWorkspacePath(f"{path}: Not a directory")
            missing.append(path)
            path = _parent(path)
        return missing

    def _check_entries(self, path: str, added: int) -> None:
        if added and len(self.files) + len(self.folders) + added > self.max_entries:
            raise WorkspaceError(f"{path}: the workspace may not exceed {self.max_entries} entries")


def resolve(path: str, base: str = ROOT, root: str = ROOT) -> str:
    """Return the canonical form of `path`, absolute or relative to the folder `base`.

    Raises BadWorkspacePath when it is empty, too long, has control characters or leaves `root`.
    """
    if not path or len(path) > MAX_PATH_CHARACTERS or _UNFIT_FOR_PATHS.search(path):
        raise BadWorkspacePath(f"{named(path)!r}: not a valid path")
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{base}/{path}").split("/"):
        if len(part.encode()) > MAX_NAME_BYTES:
            raise BadWorkspacePath(f"{named(part)}: File name too long")
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    found = "/" + "/".join(parts)
    if not _is_within(found, root):
        raise BadWorkspacePath(f"{named(path)}: the path leaves the workspace ({root})")
    if len(found) > MAX_PATH_CHARACTERS:
        raise BadWorkspacePath(f"{named(path)}: File name too long")
    return found


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
