"""Local files as a snapshot, and a snapshot as local files."""

import json
import stat
from pathlib import Path

from runtime_stub.errors import BadWorkspacePath, FileMissing
from runtime_stub.local.files import FolderTooLarge, LocalFiles
from runtime_stub.local.keeper import DEEPEST
from storage.errors import WorkspaceTooLarge
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits

RECORD = "local"
"""The record that holds what a snapshot has no place for: links, and files that can be executed."""


def taken(files: LocalFiles, limits: WorkspaceLimits) -> Snapshot:
    """Read the whole workspace; blocks. Raises WorkspaceErrors, and WorkspaceTooLarge.

    Nothing is read of a workspace that is too large, unless it grows meanwhile.
    """
    found, folders = _listed(files, limits)
    contents: dict[str, bytes] = {}
    links: dict[str, str] = {}
    executable: list[str] = []
    size = 0
    for path, mode in found.items():
        try:
            if stat.S_ISLNK(mode):
                links[path] = files.link(_place(files, path))
            elif stat.S_ISREG(mode):
                contents[path] = content = files.read(_place(files, path))
                size += len(content)
                limits.check(size, len(contents))
                if mode & stat.S_IXUSR:
                    executable.append(path)
        except FileMissing:
            continue  # a process in the background removed it meanwhile
    own = {}
    if links or executable:
        own[RECORD] = json.dumps({"links": links, "executable": executable}).encode()
    return Snapshot(files=contents, folders=frozenset(folders), own=own)


def given(files: LocalFiles, snapshot: Snapshot, begun: Path) -> None:
    """Write a snapshot into a workspace that is empty; blocks. Raises WorkspaceErrors, OSError.

    The file `begun` is there meanwhile: where a call has not come to its end, the next one goes on.
    """
    if not begun.exists() and not files.is_empty():
        return
    begun.touch()
    for folder in sorted(snapshot.folders):
        files.make_folder(_place(files, folder))
    record = json.loads(snapshot.own.get(RECORD, b"{}"))
    executable = frozenset(record.get("executable", ()))
    for path, content in snapshot.files.items():
        files.write(_place(files, path), content, executable=path in executable)
    for path, target in record.get("links", {}).items():
        files.make_link(_place(files, path), target)
    begun.unlink()


def _listed(files: LocalFiles, limits: WorkspaceLimits) -> tuple[dict[str, int], list[str]]:
    """Return the modes of all files by path, and the folders that hold nothing, within the limits."""
    found: dict[str, int] = {}
    empty: list[str] = []
    size = 0
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        if folder.count("/") >= DEEPEST:
            raise WorkspaceTooLarge(f"it has more than {DEEPEST} folders within each other")
        try:
            names = files.children("/".join(filter(None, (files.root, folder))), limits.max_entries)
        except FileMissing:
            continue  # a process in the background removed it meanwhile
        except FolderTooLarge as error:
            raise WorkspaceTooLarge(
                f"it has more than {limits.max_entries} files and folders"
            ) from error
        if not names and folder:
            empty.append(folder)
            limits.check(size, len(found) + len(empty))
        for name in names:
            path = "/".join(filter(None, (folder, name.removesuffix("/"))))
            if name.endswith("/"):
                waiting.append(path)
                continue
            try:
                found[path], length = files.look(f"{files.root}/{path}")
            except FileMissing:
                continue
            size += length + len(path.encode("utf-8", "surrogatepass"))
            limits.check(size, len(found) + len(empty))
    return found, empty


def _place(files: LocalFiles, path: str) -> str:
    """Return the canonical path of one in a snapshot, whatever characters it has."""
    if "\0" in path or {"", ".", ".."} & set(path.split("/")):
        raise BadWorkspacePath("a snapshot has a path that is none")
    return f"{files.root}/{path}"
