"""Lineage: of which kept snapshots a directory has the files, or newer ones.

A conversation may have been served elsewhere since, or its records may come from a backup. What is
kept is then none of what this directory has given or was given, and is newer than its files, or meant
to replace them. So each snapshot has a name, and the names stand beside the directory.
"""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from runtime_stub.local.places import ASIDE, Place
from storage.workspaces.snapshot import Snapshot

RECORD = "local"
"""The record that holds what a snapshot has no place for: its name, links, files that can be executed."""
MOST_NAMES = 256
"""Snapshots that a directory remembers: those since its loop began, of which any may be the one kept."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The id of a directory's files, and the names of the snapshots given to it and taken of it.

    A name that is given by a directory holds its id: equal files of two directories differ in it.
    """

    directory: str
    names: tuple[str, ...] = ()

    @classmethod
    def new(cls, *names: str) -> Self:
        """Return the lineage of new files."""
        return cls(secrets.token_hex(16), names)

    @classmethod
    def of(cls, place: Place) -> Self:
        """Return what stands beside a directory; where nothing does that can be read, a new one."""
        try:
            found = json.loads(Path(place.lineage).read_bytes())
            return cls(str(found["directory"]), tuple(map(str, found["names"])))
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return cls.new()

    def with_newest(self, name: str) -> Self:
        """Return it with another snapshot, without those in the middle if there are too many."""
        names = (*(one for one in self.names if one != name), name)
        if len(names) > MOST_NAMES:
            names = (names[0], *names[-MOST_NAMES + 1 :])
        return type(self)(self.directory, names)

    def write(self, place: Place) -> None:
        """Let it stand beside a directory, as a whole. Raises OSError."""
        write_whole(place.lineage, {"directory": self.directory, "names": self.names})


@dataclass(frozen=True, slots=True)
class Restoring:
    """A snapshot that is being written to a workspace, and the name that its earlier files get."""

    snapshot: str
    aside: str | None

    @classmethod
    def of(cls, place: Place) -> Self | None:
        """Return what is under way in a directory, or was as the server was killed."""
        try:
            found = json.loads(Path(place.restoring).read_bytes())
            snapshot, aside = str(found["snapshot"]), found["aside"]
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return None
        if aside is not None and ("/" in str(aside) or not str(aside).startswith(ASIDE)):
            return None
        return cls(snapshot, aside)

    def write(self, place: Place) -> None:
        """Let it stand in a directory, as a whole. Raises OSError."""
        write_whole(place.restoring, {"snapshot": self.snapshot, "aside": self.aside})


def name_of(snapshot: Snapshot) -> str:
    """Return the name that the directory of a snapshot has given it; one of its content without."""
    record = json.loads(snapshot.own.get(RECORD, b"{}"))
    return str(record["name"]) if "name" in record else content_name(snapshot, record, "")


def content_name(snapshot: Snapshot, record: Mapping[str, Any], directory: str) -> str:
    """Return the name of what a directory has in it: a keyless hash, as long as its files are there."""
    paths = sorted(snapshot.files)
    head = [
        directory,
        sorted(snapshot.folders),
        {key: record[key] for key in sorted(record)},
        [[path, len(snapshot.files[path])] for path in paths],
    ]
    digest = sha256(json.dumps(head).encode())
    for path in paths:
        digest.update(snapshot.files[path])
    return digest.hexdigest()[:32]


def write_whole(path: str, content: Mapping[str, object]) -> None:
    """Replace a file by another content in one step, which outlasts a loss of power. Raises OSError."""
    draft = f"{path}.draft"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(draft, flags, 0o600), "wb") as file:  # noqa: PTH123 - opened for nobody else
        file.write(json.dumps(content).encode())
        file.flush()
        os.fsync(file.fileno())
    Path(draft).replace(path)
