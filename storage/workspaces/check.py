"""Reads every kept workspace of a folder of files, without changing anything and without a key."""

from collections.abc import Collection, Iterator
from pathlib import Path

from storage.errors import Damaged
from storage.inventory import Track, untracked
from storage.keys import WORKSPACE, log_part
from storage.workspaces.files import BLOBS, MANIFEST
from storage.workspaces.sealing import blobs_of, is_sound

LOGS = log_part("")
TRIES = 3
"""Attempts at reading a workspace that seems damaged: a server may be saving it."""


def check_workspaces(root: Path, track: Track = untracked) -> list[str]:
    """Return the problems of the workspaces below `root`; none where there are none. Block."""
    manifests = sorted((root / LOGS).glob(f"*/{WORKSPACE}/{MANIFEST}"))
    return [
        problem
        for path in track(manifests, "workspaces", len(manifests))
        for problem in _problems_of(path)
    ]


def manifest_problem(conversation_id: str, manifest: bytes, names: Collection[str]) -> str | None:
    """Return the problem of a workspace that has the blobs of those names; None if there is none."""
    key = f"the workspace of {conversation_id}"
    try:
        missing = blobs_of(manifest, conversation_id) - set(names)
    except Damaged as damage:
        return str(damage)
    return f"{key} lacks {len(missing)} of its blobs" if missing else None


def blob_problem(conversation_id: str, name: str, body: bytes) -> str | None:
    """Return the problem of a blob; None if there is none."""
    if is_sound(name, body):
        return None
    return f"a blob of the workspace of {conversation_id} is damaged: {name}"


def _problems_of(manifest: Path) -> list[str]:
    found: list[str] = []
    for _ in range(TRIES):
        before, found = found, list(_look_at(manifest))
        if before == found:
            break
    return found


def _look_at(manifest: Path) -> Iterator[str]:
    conversation_id = manifest.parent.parent.name
    try:
        content = manifest.read_bytes()
        blobs = {path.name: path for path in (manifest.parent / BLOBS).glob("*")}
        bodies = {name: path.read_bytes() for name, path in blobs.items()}
    except FileNotFoundError:  # it was saved or deleted meanwhile
        return
    problem = manifest_problem(conversation_id, content, blobs.keys())
    if problem is not None:
        yield problem
    for name, body in bodies.items():
        problem = blob_problem(conversation_id, name, body)
        if problem is not None:
            yield problem
