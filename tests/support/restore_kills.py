"""A program that restores a kept workspace over other files, and is killed before each call to the system.

Then the next start restores the same snapshot, or a newer one, and what there is must be whole.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NoReturn

from runtime_stub.local import snapshots
from runtime_stub.local.files import LocalFiles, Room
from runtime_stub.local.places import Place, Places
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits
from tests.support.local_worlds import MIB, UIDS

OLD = {"a": b"old", "only/old": b"of the directory"}
KEPT = Snapshot(
    files={"a": b"kept", "b/c": b"kept too", "only/kept": b""}, folders=frozenset(("empty",))
)
NEWER = Snapshot(files={"a": b"newer"})
LIMITS = WorkspaceLimits()


def opened(places: Places, name: str) -> tuple[Place, LocalFiles]:
    """Return the directory of a conversation, and its files."""
    place = places.prepare(name)
    return place, LocalFiles(place.root, place.temporary, place.user, Room(MIB, 1000))


def killed_before(call: int, places: Places, name: str) -> bool:
    """Restore in a process of its own that is killed before one of its calls; whether it was."""
    child = os.fork()
    if child == 0:
        restore_until(call, places, name)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise AssertionError(f"the restoring process ended with {code}")
    return code != 0


def restore_until(call: int, places: Places, name: str) -> NoReturn:
    """Restore, and be killed before one of the calls that find, make, move or remove something."""
    code = 1
    try:
        calls = count()

        def hook(event: str, _: Sequence[object]) -> None:
            reaches = event == "open" or event.startswith("os.")
            if reaches and next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)

        place, files = opened(places, name)
        sys.addaudithook(hook)
        snapshots.given(places, place, files, KEPT)
        code = 0
    finally:
        os._exit(code)


def contents_of(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def check(places: Places, name: str, then: Snapshot) -> None:
    """Start again with what is kept by then; all of it is there, and all that was there before."""
    place, files = opened(places, name)
    said = snapshots.given(places, place, files, then)
    aside = list(Path(place.directory).glob("aside-*"))
    found = snapshots.taken(place, files, LIMITS)
    if (found.files, found.folders) != (then.files, then.folders):
        raise AssertionError(f"{name}: the workspace has {sorted(found.files)}")
    if [contents_of(path) for path in aside] != [OLD]:
        raise AssertionError(f"{name}: set aside are {aside}")
    if said is None or str(aside[0]) not in said:
        raise AssertionError(f"{name}: nothing is said of what was set aside: {said}")


def main() -> None:
    """Restore and kill below the folder that is the argument; print how often it was killed."""
    logging.disable()
    places = Places(Path(sys.argv[1]), UIDS)
    kills = 0
    for then in (KEPT, NEWER):
        for call in count():
            name = f"{len(then.files)}-{call}"
            _, files = opened(places, name)
            for path, content in OLD.items():
                files.write(f"{files.root}/{path}", content)
            killed = killed_before(call, places, name)
            check(places, name, then)
            kills += killed
            if not killed:
                break
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main()
