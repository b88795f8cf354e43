"""Local files as a snapshot, and a snapshot as local files."""

import json
import stat

from runtime_stub.errors import BadWorkspacePath, FileMissing
from runtime_stub.local.files import LocalFiles
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits

RECORD = "local"
"""The record that holds what a snapshot has no place for: links, and files that can be executed."""


def taken(files: LocalFiles, limits: WorkspaceLimits) -> Snapshot:
    """Read the whole workspace; blocks. Raises WorkspaceTooLarge, before it reads anything, and WorkspaceErrors."""
    found, folders = _listed(files, limits)
    contents: dict[str, bytes] = {}
    links: dict[str, str] = {}
    executable: list[str] = []
    for path, mode in found.items():
        try:
            if stat.S_ISLNK(mode):
                links[path] = files.link(_place(files, path))
            elif stat.S_ISREG(mode):
                contents[path] = files.read(_place(files, path))
                if mode & stat.S_IXUSR:
                    executable.append(path)
        except FileMissing:
            continue  # a process in the background removed it meanwhile
    own = {}
    if links or executable:
        own[RECORD] = json.dumps({"links": links, "executable": executable}).encode()
    return Snapshot(files=contents, folders=frozenset(folders), own=own)


def given(files: LocalFiles, snapshot: Snapshot) -> None:
    """Write a snapshot into a workspace that is empty; blocks. Raises WorkspaceErrors."""
    if files.children(files.root):
        return
    for folder in sorted(snapshot.folders):
        files.make_folder(_place(files, folder))
    record = json.loads(snapshot.own.get(RECORD, b"{}"))
    executable = frozenset(record.get("executable", ()))
    for path, content in snapshot.files.items():
        files.write(_place(files, path), content, executable=path in executable)
    for path, target in record.get("links", {}).items():
        files.make_link(_place(files, path), target)


def _listed(files: LocalFiles, limits: WorkspaceLimits) -> tuple[dict[str, int], list[str]]:
    """Return the modes of all files by path, and the folders that hold nothing, within the limits."""
    found: dict[str, int] = {}
    empty: list[str] = []
    size = 0
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            names = files.children("/".join(filter(None, (files.root, folder))))
        except FileMissing:
            continue  # a process in the background removed it meanwhile
        if not names and folder:
            empty.append(folder)
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
