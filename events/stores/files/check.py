"""Reads every log of a folder of files, without changing anything."""

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from events.errors import DamagedRecord, NewerFormat
from events.stores.files.format import (
    EMPTY,
    FrameKind,
    LogHead,
    events_in,
    head_in,
    lacks_end,
    read_frames,
    seed_of,
)
from events.stores.files.sealing import TABLE_PAGES
from events.stores.files.state import page_name
from storage.conversations.check import content_of, shortened
from storage.conversations.files.documents import Document
from storage.errors import Damaged
from storage.inventory import Track, untracked
from storage.keys import RECORDS, log_part

LOGS = log_part("")
TRIES = 3
"""Attempts at reading a log that seems damaged: a server may be moving events to a page."""


def check_logs(root: Path, track: Track = untracked) -> list[str]:
    """Return the problems of the logs below `root`, by ranges of ids; none without logs. Blocks."""
    folders = sorted((root / LOGS).glob("*"))
    recorded = {path.name for path in (root / RECORDS).glob("*")}
    # A record without a log is one of a conversation without events, or the log is lost.
    folders += sorted(root / LOGS / name for name in recorded - {one.name for one in folders})
    tracked = track(folders, "logs", len(folders))
    return shortened([problem for folder in tracked for problem in _problems_of(folder)])


def _problems_of(folder: Path) -> list[str]:
    found: list[str] = []
    for _ in range(TRIES):
        try:
            before, found = found, list(_look_at(folder))
        except NewerFormat as newer:
            return [f"conversation {folder.name}: {newer}"]
        if before == found:
            break
    return found


def _folded_until(folder: Path) -> datetime | None:
    """Return the time of the newest event in the record of that log; None if it has none."""
    key = RECORDS + folder.name
    path = folder.parent.parent / key
    try:
        return Document.decode(key, content_of(path)).last_updated_at if path.exists() else None
    except Damaged:  # the check of the records tells
        return None


def _look_at(folder: Path) -> Iterator[str]:
    conversation_id, seed = folder.name, seed_of(folder.name)
    # Before the log, which a server may append to meanwhile.
    folded_until = _folded_until(folder)
    kept = head_in(seed, content_of(folder / "head")) if (folder / "head").exists() else EMPTY
    if kept is None:
        yield f"{DamagedRecord(conversation_id, 0, 0)}: the head"
        return
    paths = sorted(path for path in (folder / "tail").glob("*") if path.name.isdecimal())
    tail = [(int(path.name), content_of(path)) for path in paths]
    heads = [head_in(seed, content) for _, content in tail]
    if any(head is not None and head.deleted for head in heads):
        return
    end = max(head.next_id for head in (kept, *heads) if head is not None)
    if heads and heads[-1] is None:
        end = tail[-1][0]
        yield f"{DamagedRecord(conversation_id, end, end)}: the end of the log"
    elif lacks_end(
        max((head for head in (kept, *heads) if head is not None), key=lambda one: one.next_id),
        folded_until,
    ):
        yield (
            f"{DamagedRecord(conversation_id, end, end)}: the log ends there, and its record knows"
            f" a later event, of {folded_until:%Y-%m-%dT%H:%M:%SZ}"
        )
    for first, last in _holes(_ids_in(folder, seed, kept, [content for _, content in tail]), end):
        yield str(DamagedRecord(conversation_id, first, last))
    for first, last in _lost_keys(folder, seed, kept):
        yield f"{DamagedRecord(conversation_id, first, last)}: their idempotency keys"
    for ((first, content), (behind, _)), head in zip(
        pairwise([*tail, (end, b"")]), heads, strict=True
    ):
        # A segment all of whose events are in pages is not needed any more.
        is_needed = first < behind and behind > kept.sealed
        if is_needed and (head is None or not _has_keys(seed, content)):
            yield f"{DamagedRecord(conversation_id, first, behind - 1)}: keys or head"


def _ids_in(folder: Path, seed: int, kept: LogHead, tail: list[bytes]) -> set[int]:
    """Return the events where they are looked for: in pages below `sealed`, else in the tail."""
    ids = {one for content in tail for one in events_in(seed, content) if one >= kept.sealed}
    for page in range(kept.sealed // kept.page_events if kept.sealed else 0):
        ids |= events_in(seed, content_of(folder / "pages" / page_name(page))).keys()
    return ids


def _holes(ids: set[int], end: int) -> Iterator[tuple[int, int]]:
    begin = None
    for event_id in range(end + 1):
        is_missing = event_id < end and event_id not in ids
        if is_missing and begin is None:
            begin = event_id
        elif not is_missing and begin is not None:
            yield begin, event_id - 1
            begin = None


def _lost_keys(folder: Path, seed: int, kept: LogHead) -> Iterator[tuple[int, int]]:
    size = TABLE_PAGES * kept.page_events
    for first in range(0, kept.sealed, size or 1):
        if not _has_keys(seed, content_of(folder / "keys" / page_name(first // size))):
            yield first, min(first + size, kept.sealed) - 1


def _has_keys(seed: int, content: bytes) -> bool:
    frames = read_frames(seed, content)
    return any(frame.kind == FrameKind.KEYS and frame.body is not None for frame in frames)
