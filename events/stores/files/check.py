"""Reads every log of a folder of files, without changing anything."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from events.errors import DamagedRecord, NewerFormat
from events.event import StoredEvent
from events.stores.base import MEMORY, PARTIALS, aside_problem
from events.stores.files.format import (
    ASIDE_KIND,
    ASIDES,
    EMPTY,
    FrameKind,
    LogHead,
    events_in,
    head_in,
    lacks_end,
    read_frames,
    rows_of,
    seed_of,
)
from events.stores.files.sealing import TABLE_PAGES
from events.stores.files.state import page_name
from events.verification import KEYS_MISSING, LogFold, differs
from storage.conversations.check import content_of, shortened
from storage.conversations.files.documents import Document
from storage.errors import Damaged
from storage.files.format import checked_body
from storage.inventory import Track, untracked
from storage.keys import RECORDS, UNSETTLED, log_part

LOGS = log_part("")
KEYS_AT_ONCE = 10_000
"""Keys of events that are looked for in one pass through the tables."""
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


def _record_of(folder: Path) -> Document | None:
    """Return the record of that log; None if it has none, or one that cannot be read."""
    key = RECORDS + folder.name
    path = folder.parent.parent / key
    try:
        return Document.decode(key, content_of(path)) if path.exists() else None
    except Damaged:  # the check of the records tells
        return None


def _is_in_use(folder: Path) -> bool:
    """Return whether the record of that log may be behind it, which a start mends."""
    return (folder.parent.parent / UNSETTLED / folder.name).exists()


def _look_at(folder: Path) -> Iterator[str]:
    conversation_id, seed = folder.name, seed_of(folder.name)
    # Before the log, which a server may append to meanwhile.
    record, in_use = _record_of(folder), _is_in_use(folder)
    folded_until = None if record is None else record.last_updated_at
    kept = head_in(seed, content_of(folder / "head")) if (folder / "head").exists() else EMPTY
    if kept is None:
        yield f"{DamagedRecord(conversation_id, 0, 0)}: the head"
        return
    paths = sorted(path for path in (folder / "tail").glob("*") if path.name.isdecimal())
    tail = [(int(path.name), content_of(path)) for path in paths]
    heads = [head_in(seed, content) for _, content in tail]
    readable = [head for head in (kept, *heads) if head is not None]
    if any(head.deleted for head in readable):
        return
    newest = max(readable, key=lambda one: one.next_id)
    end = newest.next_id
    has_end = False
    if heads and heads[-1] is None:
        end = tail[-1][0]
        yield f"{DamagedRecord(conversation_id, end, end)}: the end of the log"
    elif lacks_end(newest, folded_until):
        yield (
            f"{DamagedRecord(conversation_id, end, end)}: the log ends there, and its record knows"
            f" a later event, of {folded_until:%Y-%m-%dT%H:%M:%SZ}"
        )
    else:
        has_end = True
    ids, whole = _Ids(), LogFold()
    yield from _problems_of_events(folder, kept, tail, ids, whole)
    holes = ids.holes(end)
    for first, last in holes:
        yield str(DamagedRecord(conversation_id, first, last))
    if has_end and not holes:
        recorded = (record.fold if record is not None and not in_use else None) or {}
        yield from _differences(conversation_id, whole, newest.summary, recorded)
    for first, last in _lost_keys(folder, seed, kept):
        yield f"{DamagedRecord(conversation_id, first, last)}: their idempotency keys"
    for ((first, content), (behind, _)), head in zip(
        pairwise([*tail, (end, b"")]), heads, strict=True
    ):
        # A segment all of whose events are in pages is not needed any more.
        is_needed = first < behind and behind > kept.sealed
        if is_needed and (head is None or not _has_keys(seed, content)):
            yield f"{DamagedRecord(conversation_id, first, behind - 1)}: keys or head"
    yield from _problems_of_asides(folder)


def _problems_of_asides(folder: Path) -> Iterator[str]:
    paths = [folder / ASIDES / name for name in (PARTIALS, MEMORY)]
    for path in (one for one in paths if one.exists()):
        try:
            body = checked_body(ASIDE_KIND, content_of(path), path.name)
        except Damaged:
            body = None
        problem = aside_problem(folder.name, path.name, body)
        if problem is not None:
            yield problem


class _Ids:
    """The ids of a log's events, added in order, as the ranges that are missing."""

    def __init__(self) -> None:
        self._missing: list[tuple[int, int]] = []
        self._next = 0

    def add(self, event_id: int) -> None:
        """Note the next id."""
        if event_id > self._next:
            self._missing.append((self._next, event_id - 1))
        self._next = max(self._next, event_id + 1)

    def holes(self, end: int) -> list[tuple[int, int]]:
        """Return the ranges below `end` that are missing, both ends included."""
        return [*self._missing, *([(self._next, end - 1)] if self._next < end else [])]


def _problems_of_events(
    folder: Path, kept: LogHead, tail: list[tuple[int, bytes]], ids: _Ids, whole: LogFold
) -> Iterator[str]:
    """Add the events to `ids` and `whole`, and yield what is odd in them or in their index."""
    conversation_id, seed = folder.name, seed_of(folder.name)
    digests: dict[bytes, int] = {}
    unfound: list[int] = []
    for event in _events_in(folder, seed, kept, [content for _, content in tail]):
        digest = whole.add(event)
        ids.add(event.id)
        if digest is not None:
            digests[digest] = event.id
        if len(digests) >= KEYS_AT_ONCE:
            unfound += _unfound(folder, seed, kept, tail, digests)
            digests.clear()
    unfound += _unfound(folder, seed, kept, tail, digests)
    for one in whole.odd:
        yield f"{DamagedRecord(conversation_id, one, one)}: not as a server writes them"
    for one in sorted(unfound):
        yield f"{DamagedRecord(conversation_id, one, one)}: {KEYS_MISSING}"


def _differences(
    conversation_id: str, whole: LogFold, *recorded: Mapping[str, Any]
) -> Iterator[str]:
    differing = {name for one in recorded for name in whole.differing(one)}
    if differing:
        yield differs(conversation_id, sorted(differing))


def _events_in(folder: Path, seed: int, kept: LogHead, tail: list[bytes]) -> Iterator[StoredEvent]:
    """Yield the events where they are looked for, in order: in pages below `sealed`, else in the tail."""
    for page in range(kept.sealed // kept.page_events if kept.sealed else 0):
        found = events_in(seed, content_of(folder / "pages" / page_name(page)))
        yield from (found[one] for one in sorted(found))
    for content in tail:
        found = events_in(seed, content)
        yield from (found[one] for one in sorted(found) if one >= kept.sealed)


def _unfound(
    folder: Path,
    seed: int,
    kept: LogHead,
    tail: list[tuple[int, bytes]],
    digests: Mapping[bytes, int],
) -> list[int]:
    """Return the events that the tables of keys do not name under these keys."""
    if not digests:
        return []
    wanted = dict(digests)
    tables = (
        [content_of(path) for path in sorted((folder / "keys").glob("*"))] if kept.sealed else []
    )
    for content in (*tables, *(content for _, content in tail)):
        for frame in read_frames(seed, content):
            if frame.kind == FrameKind.KEYS and frame.body is not None:
                for digest, event_id in rows_of(frame.body):
                    if wanted.get(digest) == event_id:
                        del wanted[digest]
    return list(wanted.values())


def _lost_keys(folder: Path, seed: int, kept: LogHead) -> Iterator[tuple[int, int]]:
    size = TABLE_PAGES * kept.page_events
    for first in range(0, kept.sealed, size or 1):
        if not _has_keys(seed, content_of(folder / "keys" / page_name(first // size))):
            yield first, min(first + size, kept.sealed) - 1


def _has_keys(seed: int, content: bytes) -> bool:
    frames = read_frames(seed, content)
    return any(frame.kind == FrameKind.KEYS and frame.body is not None for frame in frames)
