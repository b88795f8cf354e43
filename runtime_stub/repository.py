"""A tiny version history: branches, an index and whole-tree commits over plain mappings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Self

from runtime_stub.base import FileChange
from runtime_stub.errors import WorkspaceError

MAX_BRANCHES = 100
_BRANCH_NAME = re.compile(
    r"(?!.*(?:\.\.|//|/\.|\.lock$))[A-Za-z0-9_][A-Za-z0-9._/-]{0,99}(?<![./])", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Commit:
    """A whole tree: relative path -> content. `digest` depends on nothing but the history."""

    digest: str
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A file's changes from the last commit to the index (`staged`) and on to the files (`working`).

    Each is one of M A D, a space for no change; both are `?` for an untracked file.
    """

    staged: str
    working: str
    path: str


@dataclass(slots=True)
class Repository:
    """The history of the folder `root`; every `files` argument is that folder as it is now.

    `index` and the trees of `commits` (by branch) map relative paths to contents. Refusals are WorkspaceErrors worded like git's: `fatal: ...` where git exits with 128,
    `error: ...` where it exits with 1.
    """

    root: str
    max_bytes: int
    branch: str = "main"
    commits: dict[str, Commit] = field(default_factory=dict)
    index: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> Self:
        """Make an independent copy; the contents are shared, as they never change."""
        return replace(self, commits=dict(self.commits), index=dict(self.index))

    @property
    def head(self) -> Commit | None:
        """The last commit of the current branch; None before the first."""
        return self.commits.get(self.branch)

    def stage(self, files: Mapping[str, bytes], folder: str = "") -> bool:
        """Add `folder` (or one file) to the index, including deletions; False if nothing matches."""

        def within(path: str) -> bool:
            return folder in ("", path) or path.startswith(f"{folder}/")

        kept = {path: content for path, content in self.index.items() if not within(path)}
        taken = {path: content for path, content in files.items() if within(path)}
        index = kept | taken
        self._check_size(index)
        matched = bool(taken) or len(kept) < len(self.index)
        self.index = index
        return matched

    def commit(self, message: str) -> Commit | None:
        """Keep the index as a commit of the current branch; None when it changes nothing."""
        parent = self.head
        if self.index == (parent.files if parent else {}):
            return None

        digest = sha256(f"{parent.digest if parent else ''}\n{message}\n".encode())
        for path in sorted(self.index):
            digest.update(f"{path}\n{len(self.index[path])}\n".encode())
            digest.update(self.index[path])
        commit = Commit(digest.hexdigest()[:40], dict(self.index))
        self.commits[self.branch] = commit
        return commit

    def create_branch(self, name: str) -> None:
        """Point a new branch at the last commit."""
        self._check_new(name)
        if self.head is None:
            raise WorkspaceError(f"fatal: not a valid object name: '{self.branch}'")
        if len(self.commits) >= MAX_BRANCHES:
            raise WorkspaceError(f"fatal: more than {MAX_BRANCHES} branches are not supported")
        self.commits[name] = self.head

    def start_branch(self, name: str) -> None:
        """Go on in a new branch, keeping every change; without a commit the branch is renamed."""
        if self.head is None:
            self._check_new(name)
        else:
            self.create_branch(name)
        self.branch = name

    def switch(self, name: str, files: Mapping[str, bytes]) -> dict[str, bytes] | None:
        """Switch to the branch `name`; return the folder's new files, None without such a branch.

        Changes that do not collide with the other branch are carried over.
        """
        target = self.commits.get(name)
        if target is None:
            return None
        old = self.head.files if self.head else {}
        moved = [p for p in old.keys() | target.files.keys() if old.get(p) != target.files.get(p)]
        lost = sorted(
            path
            for path in moved
            if files.get(path) != old.get(path) or self.index.get(path) != old.get(path)
        )
        if lost:
            raise WorkspaceError(
                "error: your local changes to these files would be overwritten:\n"
                + "".join(f"\t{path}\n" for path in lost)
                + "Commit them first."
            )
        self.branch = name
        result = dict(files)
        for tree in (result, self.index):
            for path in moved:
                tree.pop(path, None)
            tree.update((path, target.files[path]) for path in moved if path in target.files)
        return result

    def status(self, files: Mapping[str, bytes]) -> list[FileStatus]:
        """List every path that differs between the last commit, the index and `files`, sorted."""
        head = self.head.files if self.head else {}
        found = []
        for path in sorted(head.keys() | self.index.keys() | files.keys()):
            staged = _difference(head.get(path), self.index.get(path))
            working = _difference(self.index.get(path), files.get(path))
            if working == "A":
                if staged == "D":
                    found.append(FileStatus(staged, " ", path))
                staged = working = "?"
            if (staged, working) != (" ", " "):
                found.append(FileStatus(staged, working, path))
        return found

    def changes(self, files: Mapping[str, bytes]) -> list[FileChange]:
        """List what differs from the last commit, sorted by path; `U` is a file nobody added."""
        head = self.head.files if self.head else {}
        found = []
        for path in sorted(head.keys() | files.keys()):
            status = _difference(head.get(path), files.get(path))
            if status == "A" and path not in self.index:
                status = "U"
            if status != " ":
                found.append(FileChange(status, path))
        return found

    def _check_new(self, name: str) -> None:
        if not _BRANCH_NAME.fullmatch(name):
            raise WorkspaceError(f"fatal: '{name}' is not a valid branch name")
        if name in self.commits:
            raise WorkspaceError(f"fatal: a branch named '{name}' already exists")

    def _check_size(self, index: Mapping[str, bytes]) -> None:
        trees = [index, *(commit.files for commit in self.commits.values())]
        # Contents are shared between trees, so each object is counted once.
        sizes = {id(content): len(content) for tree in trees for content in tree.values()}
        if sum(sizes.values()) > self.max_bytes:
            raise WorkspaceError(f"fatal: the repository may not exceed {self.max_bytes} bytes")


def _difference(before: bytes | None, after: bytes | None) -> str:
    if before == after:
        return " "
    if before is None:
        return "A"
    return "D" if after is None else "M"
