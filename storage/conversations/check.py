"""Reads every record and list of a folder, without changing anything."""

from collections.abc import Sequence
from pathlib import Path

from storage.conversations.entries import ListEntry
from storage.conversations.files.blocks import StoredListing
from storage.conversations.files.documents import Document
from storage.errors import Damaged, NewerFormat
from storage.inventory import Track, untracked
from storage.keys import LISTS, RECORDS, UNSETTLED

NAMED = 10
"""Problems that are named at most."""


def check_records(root: Path, track: Track = untracked) -> list[str]:
    """Return the problems of records and lists below `root`; none where there are none. Blocks."""
    problems: list[str] = []
    listing = StoredListing()
    for path in sorted((root / LISTS).glob("*")):
        key = str(path.relative_to(root))
        try:
            damaged = listing.load([(key, content_of(path))])
        except NewerFormat as newer:
            problems.append(str(newer))
        else:
            problems += (f"{one} is damaged" for one in damaged)
    # Where lists are damaged, a start makes them anew.
    listed = None if problems else listing
    paths = sorted((root / RECORDS).glob("*"))
    for path in track(paths, "records", len(paths)):
        try:
            document = Document.decode(str(path.relative_to(root)), content_of(path))
        except Damaged as damage:
            problems.append(str(damage))
            continue
        in_use = (root / UNSETTLED / path.name).exists()
        if listed is not None and not in_use and not _is_listed(path.name, document, listed):
            problems.append(
                f"the lists do not say of conversation {path.name} what its record says"
            )
    return shortened(problems)


def _is_listed(name: str, document: Document, listing: StoredListing) -> bool:
    record, entry = document.visible(), listing.get(name)
    if record is None or entry is None:
        return record is None and entry is None
    return ListEntry.of(record, entry.block).facts() == entry.facts()


def shortened(problems: Sequence[str]) -> list[str]:
    """Return the first problems, and a line with the number of the rest."""
    rest = len(problems) - NAMED
    return [*problems[:NAMED], *([f"and {rest} more"] if rest > 0 else [])]


def content_of(path: Path) -> bytes:
    """Return a file's content; empty, and so damaged, if it is not a regular file."""
    return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
