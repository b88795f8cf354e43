"""The state of one log on files: its head and unsealed tail, and reading both back."""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from events.errors import DamagedHead, DamagedRecord, StoreUnavailable
from events.event import StoredEvent
from events.pages import PageCache
from events.stores.files.format import (
    EMPTY,
    FrameKind,
    LogHead,
    events_in,
    head_in,
    read_frames,
    rows_of,
    seed_of,
)
from storage.errors import Damaged, KeyNotFound
from storage.files.base import FileStore
from storage.keys import log_part, segment_key

TRIES = 5
"""Attempts of a read while pages are sealed under it."""

Contents = PageCache[str, bytes]


@dataclass(slots=True)
class LogState:
    """One log. `segments` are the first ids of the tail's files, ascending.

    Events below `sealed` are in pages; a segment may reach below it. `keys` are those of events
    that are not sealed. `lost_keys` is the range of events whose keys cannot be read. `leftovers`
    are segments that were sealed but not removed before a crash.
    """

    head: LogHead = EMPTY
    sealed: int = 0
    segments: list[int] = field(default_factory=list)
    keys: dict[bytes, int] = field(default_factory=dict)
    lost_keys: tuple[int, int] | None = None
    leftovers: list[int] = field(default_factory=list)

    def obsolete(self) -> list[int]:
        """Return the segments all of whose events are sealed."""
        spans = pairwise([*self.segments, self.head.next_id])
        return [first for first, end in spans if end <= self.sealed]


class LogFiles:
    """Reads the files of logs; segments written lately are kept in memory."""

    def __init__(self, files: FileStore, cache_bytes: int) -> None:
        self.files = files
        self.segments: Contents = PageCache(cache_bytes)

    async def load(self, conversation_id: str) -> LogState:
        """Read a log's head and tail. Raises DamagedRecord, StoreUnavailable, StorageError."""
        for _ in range(TRIES):
            try:
                return await self._load(conversation_id)
            except KeyNotFound:  # a segment was sealed and removed since it was listed
                continue
        raise changing(conversation_id)

    async def _load(self, conversation_id: str) -> LogState:
        seed = seed_of(conversation_id)
        kept = await self.kept_head(conversation_id)
        firsts = await self.first_ids(conversation_id)
        # Of the last one it is not known yet where it ends.
        live = [first for first, end in pairwise(firsts) if end > kept.sealed] + firsts[-1:]
        contents = await asyncio.gather(*(self.segment(conversation_id, first) for first in live))
        state = LogState(kept, kept.sealed, live, leftovers=firsts[: len(firsts) - len(live)])
        lost: list[int] = []
        for first, content in zip(live, contents, strict=True):
            head = head_in(seed, content)
            if head is None and first == live[-1]:
                raise DamagedHead(conversation_id, first, first)
            keys = _keys_in(seed, content)
            if head is not None and head.deleted:
                state.head = head
            elif keys is None or head is None:
                lost += (first, first if head is None else head.next_id - 1)
            else:
                state.keys |= {key: one for key, one in keys.items() if one >= state.sealed}
            if head is not None and head.next_id > state.head.next_id:
                state.head = head
        state.lost_keys = (min(lost), max(lost)) if lost else None
        return state

    async def first_ids(self, conversation_id: str) -> list[int]:
        """Return the first ids of the existing segments, ascending."""
        prefix = log_part(conversation_id, "tail/")
        names = [key.removeprefix(prefix) for key in await self.files.keys(prefix)]
        return [int(name) for name in names if name.isdecimal()]

    async def kept_head(self, conversation_id: str) -> LogHead:
        """Return the head that was written with the last pages. Raises DamagedHead, StorageError."""
        try:
            content = await self._content(log_part(conversation_id, "head"))
        except KeyNotFound:
            return EMPTY
        head = head_in(seed_of(conversation_id), content)
        if head is None:
            raise DamagedHead(conversation_id, 0, 0)
        return head

    async def segment(self, conversation_id: str, first_id: int) -> bytes:
        """Return a segment's content; empty when it is too damaged to read. Raises KeyNotFound."""
        key = segment_key(conversation_id, first_id)
        content = self.segments.get(key)
        if content is None:
            content = await self._content(key)
            self.segments.put(key, content, len(content))
        return content

    async def drop_segments(self, conversation_id: str, first_ids: Sequence[int]) -> None:
        """Remove segments, from the disk first. Raises StorageError."""
        keys = [segment_key(conversation_id, first) for first in first_ids]
        await self.files.delete(*keys)
        for key in keys:
            self.segments.discard(key)

    async def _content(self, key: str) -> bytes:
        try:
            return await self.files.read(key)
        except Damaged:
            return b""

    async def events(
        self, conversation_id: str, state: LogState, start_id: int, end_id: int
    ) -> list[StoredEvent]:
        """Return the events of a range that the log has.

        Raises DamagedRecord for what cannot be found, also when `state` is out of date.
        """
        seed = seed_of(conversation_id)
        reads = [
            self._content(log_part(conversation_id, "pages", page_name(page)))
            for page in _pages_between(state, start_id, end_id)
        ]
        reads += [
            self.segment(conversation_id, first)
            for first in _segments_between(state, max(start_id, state.sealed), end_id)
        ]
        found: dict[int, StoredEvent] = {}
        for content in await asyncio.gather(*(_if_there(read) for read in reads)):
            found |= events_in(seed, content)
        return _complete(conversation_id, found, start_id, end_id)


def changing(conversation_id: str) -> StoreUnavailable:
    """Return the error of a read that was overtaken each time."""
    return StoreUnavailable(f"the log of {conversation_id} changes too fast to be read")


async def _if_there(read: Awaitable[bytes]) -> bytes:
    try:
        return await read
    except KeyNotFound:
        return b""


def page_name(page: int) -> str:
    """Return the last part of a page's key; names sort as numbers do."""
    return f"{page:08}"


def _pages_between(state: LogState, start_id: int, end_id: int) -> range:
    end_id = min(end_id, state.sealed)
    if end_id <= start_id:
        return range(0)
    size = state.head.page_events
    return range(start_id // size, (end_id - 1) // size + 1)


def _segments_between(state: LogState, start_id: int, end_id: int) -> Sequence[int]:
    if end_id <= start_id:
        return ()
    begin = max(0, bisect_right(state.segments, start_id) - 1)
    return [first for first in state.segments[begin:] if first < end_id]


def _complete(
    conversation_id: str, found: dict[int, StoredEvent], start_id: int, end_id: int
) -> list[StoredEvent]:
    wanted = range(start_id, end_id)
    missing = [event_id for event_id in wanted if event_id not in found]
    if missing:
        sound = [found[event_id] for event_id in wanted if event_id in found]
        raise DamagedRecord(conversation_id, missing[0], missing[-1], sound)
    return [found[event_id] for event_id in wanted]


def _keys_in(seed: int, content: bytes) -> dict[bytes, int] | None:
    """Return the keys a segment holds; None when they cannot be read."""
    for frame in read_frames(seed, content):
        if frame.kind == FrameKind.KEYS and frame.body is not None:
            return dict(rows_of(frame.body))
    return None
