"""The in-memory workspace as a snapshot, and back: files, folders, the repository, the current folder."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from runtime_stub.errors import WorkspaceError
from runtime_stub.repository import Commit, Repository
from runtime_stub.workspace import ROOT, Workspace, resolve
from storage.workspaces.snapshot import Snapshot

STATE = "state"
OBJECTS = "objects/"
Tasks = list[dict[str, object]]
Tree = Mapping[str, str]
"""The name of each path's content among the objects."""


def snapshot_of(workspace: Workspace, tasks: Tasks) -> Snapshot:
    """Return a workspace and the list of tasks as they are; the contents are shared."""
    inside = f"{ROOT}/"
    folders = {path.removeprefix(inside) for path in workspace.folders if path != ROOT}
    above = {path.rpartition("/")[0] for path in (*workspace.files, *workspace.folders)}
    objects: dict[int, tuple[str, bytes]] = {}

    def named(tree: Mapping[str, bytes]) -> Tree:
        # Trees share their contents, and what is the same object needs one name.
        return {
            path: objects.setdefault(id(content), (f"{OBJECTS}{len(objects)}", content))[0]
            for path, content in tree.items()
        }

    state = {
        "cwd": workspace.cwd,
        "tasks": tasks,
        "repository": None
        if workspace.repository is None
        else _written(workspace.repository, named),
    }
    return Snapshot(
        files={path.removeprefix(inside): content for path, content in workspace.files.items()},
        folders=frozenset(path for path in folders if inside + path not in above),
        own={STATE: json.dumps(state).encode(), **dict(objects.values())},
    )


def restore(workspace: Workspace, snapshot: Snapshot) -> Tasks:
    """Fill an empty workspace from a snapshot; return the list of tasks.

    Without the records of its own it has the files, and no repository. Raises WorkspaceError.
    """
    for path in snapshot.folders:
        workspace.make_folder(resolve(path))
    for path, content in snapshot.files.items():
        workspace.write(resolve(path), content)
    try:
        state = json.loads(snapshot.own[STATE]) if STATE in snapshot.own else {}
        found = state.get("repository")
        workspace.repository = None if found is None else _read(found, snapshot.own)
        cwd = resolve(state.get("cwd", ROOT))
        workspace.cwd = cwd if workspace.is_folder(cwd) else ROOT
        return list(state.get("tasks", ()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WorkspaceError("the workspace's own records cannot be read") from error


def _written(
    repository: Repository, named: Callable[[Mapping[str, bytes]], Tree]
) -> Mapping[str, Any]:
    return {
        "root": repository.root,
        "max_bytes": repository.max_bytes,
        "branch": repository.branch,
        "index": named(repository.index),
        "commits": {
            branch: {"digest": commit.digest, "files": named(commit.files)}
            for branch, commit in repository.commits.items()
        },
    }


def _read(found: Mapping[str, Any], objects: Mapping[str, bytes]) -> Repository:
    def tree(names: Tree) -> dict[str, bytes]:
        return {path: objects[name] for path, name in names.items()}

    return Repository(
        root=found["root"],
        max_bytes=found["max_bytes"],
        branch=found["branch"],
        commits={
            branch: Commit(commit["digest"], tree(commit["files"]))
            for branch, commit in found["commits"].items()
        },
        index=tree(found["index"]),
    )
