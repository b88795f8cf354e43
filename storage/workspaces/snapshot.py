"""A workspace at rest, as a runtime gives and takes it, and how large one may be."""

from collections.abc import Mapping, Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from storage.errors import WorkspaceTooLarge


class WorkspaceLimits(NamedTuple):
    """The most that a workspace may hold to be kept.

    `max_bytes` counts names, and contents that differ, `max_entries` files, empty folders and the
    runtime's own records.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_entries: int = 10_000

    def check(self, size: int, entries: int) -> None:
        """Raise WorkspaceTooLarge, which says what a workspace of that size has too much of."""
        if entries > self.max_entries:
            raise WorkspaceTooLarge(
                f"it has more than {self.max_entries} files and folders ({entries})"
            )
        if size > self.max_bytes:
            raise WorkspaceTooLarge(f"it has more than {self.max_bytes} bytes ({size})")


USUAL_LIMITS = WorkspaceLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The content of a workspace at one moment; it never changes.

    Paths are relative to the workspace's root: parts joined by slashes, none of them empty, `.` or
    `..`; what is no Unicode is written as `os.fsdecode` does. `folders` are those that hold nothing:
    others follow from the files. `own` are records by which a runtime comes up as it was (a history,
    modes of files), under names that only the runtime knows; nobody else is shown them.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    folders: AbstractSet[str] = frozenset()
    own: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """The number of files, empty folders and own records."""
        return len(self.files) + len(self.folders) + len(self.own)
