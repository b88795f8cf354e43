"""Local files as a snapshot, and a snapshot as local files."""

import json
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from runtime_stub.errors import BadWorkspacePath, FileMissing, RuntimeUnavailable
from runtime_stub.local.files import FolderTooLarge, LocalFiles
from runtime_stub.local.keeper import DEEPEST, lock
from runtime_stub.local.lineage import RECORD, Lineage, Restoring, content_name, name_of
from runtime_stub.local.places import ASIDE, Place, Places
from storage.errors import WorkspaceTooLarge
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits

logger = logging.getLogger(__name__)

REPLACED = (
    "The files in the directory of this workspace were not those that were kept last, as when"
    " another server has had the conversation since. The kept ones were restored; the others were"
    " moved to {path}, from where commands can copy them."
)


def taken(place: Place, files: LocalFiles, limits: WorkspaceLimits) -> Snapshot:
    """Read the whole workspace; blocks. Raises WorkspaceErrors, WorkspaceTooLarge, and OSError.

    Nothing is read of a workspace that is too large, unless it grows meanwhile. The directory knows
    the snapshot from then on: what is kept of it is older than its files, or the same.
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
    found_all = Snapshot(files=contents, folders=frozenset(folders))
    record = {"links": links, "executable": executable}
    lineage = Lineage.of(place)
    name = content_name(found_all, record, lineage.directory)
    own = json.dumps({**record, "name": name}).encode()
    snapshot = replace(found_all, own={RECORD: own})
    paths = "".join((*contents, *folders, RECORD)).encode("utf-8", "surrogatepass")
    limits.check(size + len(paths) + len(own), snapshot.entries)
    if lineage.names[-1:] != (name,):
        lineage.with_newest(name).write(place)
    return snapshot


def given(
    places: Places,
    place: Place,
    files: LocalFiles,
    snapshot: Snapshot,
    given_up: Callable[[], bool] = lambda: False,
) -> str | None:
    """Write a snapshot into a workspace, unless its files are those of the snapshot, or newer; blocks.

    Files that know nothing of it are set aside before, and what is returned says so. However a call
    ends, by a kill as well, the next one goes on: neither those files nor the snapshot are lost, and
    it is said. The call for another snapshot does so too. Raises WorkspaceErrors, RuntimeUnavailable,
    OSError; it stops soon where `given_up` holds.
    """
    directory = os.open(place.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock(directory)  # a call that was given up may not be over
        return _given(places, place, files, snapshot, given_up)
    except BlockingIOError:
        raise RuntimeUnavailable("the workspace is being restored; try again") from None
    finally:
        os.close(directory)


def _given(
    places: Places,
    place: Place,
    files: LocalFiles,
    snapshot: Snapshot,
    given_up: Callable[[], bool],
) -> str | None:
    name, lineage, begun = name_of(snapshot), Lineage.of(place), Restoring.of(place)
    is_new = files.is_empty()
    if begun is None and name in lineage.names and not is_new:
        if lineage.names != (name,):  # the later ones were not kept
            replace(lineage, names=(name,)).write(place)
        return None
    aside = begun.aside if begun is not None else None
    if begun is None and not is_new:
        aside = f"{ASIDE}{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    path = f"{place.directory}/{aside}"
    must_move = aside is not None and not os.path.lexists(path)
    if begun is not None and begun.snapshot != name and not must_move:
        places.clear(place)  # of a part of the other one
    Restoring(name, aside).write(place)
    if must_move and aside is not None:
        logger.warning("files of a workspace that were not those kept last are moved to %s", path)
        places.set_aside(place, aside)
    _write(files, snapshot, given_up)
    Lineage.new(name).write(place)
    return None if aside is None else REPLACED.format(path=path)


def _write(files: LocalFiles, snapshot: Snapshot, given_up: Callable[[], bool]) -> None:
    for folder in sorted(snapshot.folders):
        files.make_folder(_place(files, folder))
    record = json.loads(snapshot.own.get(RECORD, b"{}"))
    executable = frozenset(record.get("executable", ()))
    for path, content in snapshot.files.items():
        if given_up():
            raise RuntimeUnavailable("the start was given up")
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
