"""Reads every record and list of a folder, without changing anything."""

from pathlib import Path

from storage.conversations.blocks import KeptListing
from storage.conversations.documents import Document
from storage.errors import Damaged
from storage.locations import LISTS, RECORDS

NAMED = 10
"""Problems that are named at most."""


def check_records(root: Path) -> list[str]:
    """What is wrong with records and lists below `root`; nothing where there are none. Blocks."""
    problems: list[str] = []
    for path in sorted((root / LISTS).glob("*")):
        key = str(path.relative_to(root))
        problems += (
            f"{damaged} is damaged" for damaged in KeptListing().load([(key, _content(path))])
        )
    for path in sorted((root / RECORDS).glob("*")):
        try:
            Document.decode(str(path.relative_to(root)), _content(path))
        except Damaged as damage:
            problems.append(str(damage))
    rest = len(problems) - NAMED
    return problems[:NAMED] + ([f"and {rest} more"] if rest > 0 else [])


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
