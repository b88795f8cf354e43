"""Reads a log page by page: single-flight, cached, bounded in bytes, and without a hole."""

import asyncio
import logging
from asyncio import Task
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson

from events.damage import whole
from events.errors import (
    ConversationDeleted,
    DamagedHead,
    DamagedRecord,
    LogShortened,
    StoreUnavailable,
)
from events.event import StoredEvent
from events.filter import EventFilter
from events.pages import PageCache, page_bounds, page_of
from events.stores.base import EventStore

logger = logging.getLogger(__name__)

OVERHEAD_BYTES = 200
"""Bytes of memory that a record takes in addition to its body."""


PART_BYTES = 4 * 1024 * 1024
"""A page of long events is read in parts: each ends with the event that makes it so long."""


class PageKey(NamedTuple):
    """Names a page among all conversations."""

    conversation_id: str
    page: int


class Part(NamedTuple):
    """Consecutive events of a page. `is_full`: more of the page does not go into this part."""

    events: tuple[StoredEvent, ...]
    is_full: bool

    @property
    def first_id(self) -> int:
        """The id of the first event."""
        return self.events[0].id

    def serves(self, start_id: int, end_id: int) -> bool:
        """Return whether a read from `start_id` on, below `end_id`, can be answered with it."""
        last_id = self.events[-1].id
        return self.first_id <= start_id <= last_id and (self.is_full or last_id + 1 >= end_id)


class Load(NamedTuple):
    """A read of a page's events in progress, shared by all callers that it satisfies."""

    first_id: int
    end_id: int
    task: Task[Part]


class PageReader:
    """Serves records of any conversation from one cache.

    An event that is damaged is logged, and a marker stands for it, see `events.damage`: what lies
    beside it can be read, and whoever reads on gets past it.

    Stored events never change, so a part of a page that is cached is right as far as it goes.
    Who needs more of it has it loaded again from the first id that somebody asked for: clients
    that come back to a log's end after a start need few events, at once.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        page_size: int,
        cache_bytes: int,
        read_seconds: float = 10.0,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self.page_size = page_size
        self._part_bytes = part_bytes
        self._store = store
        self._read_seconds = read_seconds
        self.cache: PageCache[PageKey, Part] = PageCache(cache_bytes)
        self.made_of_pages: list[PageCache[PageKey, Any]] = []
        """Caches of what is made of pages, which are forgotten with them."""
        self.forgotten = 0
        """The number of calls of `forget`: what was read before one is not cached after it."""
        self._loads: dict[PageKey, Load] = {}

    async def read(
        self, conversation_id: str, start_id: int, next_id: int
    ) -> tuple[StoredEvent, ...]:
        """Return committed events from `start_id` on, below `next_id`, to the end of its page or part.

        At least one when start_id < next_id, none otherwise. Raises StoreUnavailable (also past
        the deadline), DamagedHead, ConversationDeleted, and LogShortened where the log ends before
        `next_id`.
        """
        if start_id >= next_id:
            return ()
        key = PageKey(conversation_id, page_of(start_id, self.page_size))
        end_id = min(page_bounds(key.page, self.page_size)[1], next_id)
        part = self.cache.get(key)
        if part is None or not part.serves(start_id, end_id):
            extends = part is not None and not part.is_full
            first_id = min(start_id, part.first_id) if part is not None and extends else start_id
            part = await self._load_once(key, first_id, end_id)
            if not part.serves(start_id, end_id):  # it was full before it came to `start_id`
                part = await self._load_once(key, start_id, end_id, exactly=True)
        return part.events[start_id - part.first_id : end_id - part.first_id]

    async def read_last(
        self, conversation_id: str, start_id: int, next_id: int
    ) -> tuple[StoredEvent, ...]:
        """Return what `read` returns for a range within a page, or its last events if it spans parts."""
        while True:
            events = await self.read(conversation_id, start_id, next_id)
            if not events or events[-1].id + 1 == next_id:
                return events
            start_id = (events[-1].id + 1 + next_id) // 2

    async def search(
        self,
        conversation_id: str,
        next_id: int,
        *,
        start_id: int = 0,
        end_id: int | None = None,
        reverse: bool = False,
        filter: EventFilter | None = None,  # noqa: A002 - the contract's name
        limit: int | None = None,
    ) -> AsyncIterator[StoredEvent]:
        """Yield events with start_id <= id <= end_id; an `end_id` of None is the newest at the call.

        `reverse` walks the same interval downwards. `limit` counts events that passed `filter`;
        None is no limit and 0 gives nothing. Raises ValueError on negative arguments.
        """
        if start_id < 0 or (end_id is not None and end_id < 0) or (limit is not None and limit < 0):
            raise ValueError("start_id, end_id and limit must not be negative")
        last_id = next_id - 1 if end_id is None else min(end_id, next_id - 1)
        given = 0
        position = last_id if reverse else start_id
        while start_id <= position <= last_id and given != limit:
            if reverse:
                first_id = max(
                    start_id, page_bounds(page_of(position, self.page_size), self.page_size)[0]
                )
                events = await self.read_last(conversation_id, first_id, position + 1)
                position = events[0].id - 1
                events = events[::-1]
            else:
                events = await self.read(conversation_id, position, last_id + 1)
                position = events[-1].id + 1
            for event in events:
                if filter is None or filter.matches(orjson.loads(event.body)):
                    yield event
                    given += 1
                    if given == limit:
                        return
            await asyncio.sleep(0)  # cached pages are read without a pause: let others run

    def cached(self, conversation_id: str, event_id: int) -> Sequence[StoredEvent]:
        """Return the cached part of the page of an event, without reading; nothing where it has none."""
        part = self.cache.get(PageKey(conversation_id, page_of(event_id, self.page_size)))
        return () if part is None else part.events

    def forget(self, conversation_id: str, next_id: int) -> None:
        """Drop the pages of a conversation that was deleted, or has lost events."""
        self.forgotten += 1
        for page in range(page_of(max(next_id - 1, 0), self.page_size) + 1):
            key = PageKey(conversation_id, page)
            self._loads.pop(key, None)
            for cache in (self.cache, *self.made_of_pages):
                cache.discard(key)

    async def _load_once(
        self, key: PageKey, first_id: int, end_id: int, *, exactly: bool = False
    ) -> Part:
        load = self._loads.get(key)
        if (
            load is None
            or load.first_id > first_id
            or load.end_id < end_id
            or (exactly and load.first_id < first_id)
        ):
            task = asyncio.create_task(self._load(key, first_id, end_id, self.forgotten))
            load = self._loads[key] = Load(first_id, end_id, task)
            task.add_done_callback(partial(self._loaded, key))
        return await asyncio.shield(load.task)

    def _loaded(self, key: PageKey, task: Task[Part]) -> None:
        load = self._loads.get(key)
        if load is not None and load.task is task:
            del self._loads[key]
        if not task.cancelled():
            task.exception()  # remaining waiters get it through the shield

    async def _load(self, key: PageKey, first_id: int, end_id: int, forgotten: int) -> Part:
        try:
            async with asyncio.timeout(self._read_seconds):
                events = await self._read(key.conversation_id, first_id, end_id)
        except TimeoutError as error:
            raise StoreUnavailable(f"no answer within {self._read_seconds:g} s") from error
        part = _part_of(events, end_id, self._part_bytes)
        size = sum(len(event.body) for event in part.events) + OVERHEAD_BYTES * len(part.events)
        if forgotten == self.forgotten:
            self.cache.put(key, part, size)
        return part

    async def _read(
        self, conversation_id: str, first_id: int, end_id: int
    ) -> Sequence[StoredEvent]:
        damage: DamagedRecord | None = None
        try:
            events, end_id = await self._read_part(conversation_id, first_id, end_id)
        except DamagedHead:
            raise
        except DamagedRecord as error:
            events, damage = error.sound, error
        if _is_whole(events, first_id, end_id):
            return events
        head = await self._store.head(conversation_id)
        if head.deleted:
            raise ConversationDeleted(conversation_id)
        if head.next_id < end_id:
            raise LogShortened(conversation_id, head.next_id, end_id - 1)
        found = whole(events, first_id, end_id)
        if damage is None:
            known = {event.id for event in events}
            lost = [event.id for event in found if event.id not in known]
            damage = DamagedRecord(conversation_id, lost[0], lost[-1])
        logger.error(
            "%s; serving markers instead", damage, extra={"conversation_id": conversation_id}
        )
        return found

    async def _read_part(
        self, conversation_id: str, first_id: int, end_id: int
    ) -> tuple[Sequence[StoredEvent], int]:
        """Read as much as a part holds; return one past the last id that was examined."""
        try:
            events = await self._store.read_part(
                conversation_id, first_id, end_id, self._part_bytes
            )
        except DamagedHead:
            raise
        except DamagedRecord:
            # How far a part came that is damaged is not known: the whole range is read for once.
            return await self._store.read(conversation_id, first_id, end_id), end_id
        if sum(len(event.body) for event in events) >= self._part_bytes:
            return events, events[-1].id + 1
        return events, end_id


def _part_of(events: Sequence[StoredEvent], end_id: int, part_bytes: int) -> Part:
    """Return as many of the first events as a part holds, at least one."""
    size = 0
    for count, event in enumerate(events, 1):
        size += len(event.body)
        if size >= part_bytes and event.id + 1 < end_id:
            return Part(tuple(events[:count]), is_full=True)
    return Part(tuple(events), is_full=False)


def _is_whole(events: Sequence[StoredEvent], first_id: int, end_id: int) -> bool:
    return len(events) == end_id - first_id and all(
        event.id == first_id + place for place, event in enumerate(events)
    )
