"""The indexer: keeps a search index level with logs and records, behind the appends."""

import asyncio
import logging
import time
from asyncio import Future, Task
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple, Self

from events.damage import with_markers
from events.errors import DamagedHead, EventsError
from events.event import StoredEvent
from events.search.said import mark_of, microseconds_of, said_in
from events.search.throttle import REST, Throttle
from events.stores.base import EventStore, Head
from storage.conversations.base import ConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.errors import ConversationNotFound, StorageError, Unavailable
from storage.search.base import TITLE_ID, Entry, EntryKind, LogChange, LogState, SearchIndex

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.4
"""Seconds from the first change to the write of it and of what came meanwhile."""
MAX_DUE = 10_000
"""Conversations that may wait; when there are more, all logs are compared with the index."""
LOGS = 50
EVENTS = 500
PART_BYTES = 4 * 1024 * 1024
"""Conversations of one write, or of one part of a comparison, and what is read of each for it."""
WRITE_EVENTS = 2_000
"""Events of one write, after which the others wait for the next: so the rest after it is as long as it should be."""
KNOWN_STATES = 2_000
RETRY_SECONDS = 5.0
OPEN_SECONDS = 5.0
"""Seconds that a search waits for an index that is being opened."""


OpenIndex = Callable[[], Awaitable[SearchIndex]]
"""Opens an index. Raises StorageError."""


class Due(NamedTuple):
    """The facts known of a conversation that may have changed.

    With `look` its record is read, too; `record` is the record where that was just done.
    """

    owner: str | None
    look: bool = False
    record: ConversationMetadata | None = None


class _Part(NamedTuple):
    """The next part of a log: its state before, and events from `start` on."""

    conversation_id: str
    owner: str | None
    before: LogState | None
    head: Head
    record: ConversationMetadata | None
    start: int
    events: Sequence[StoredEvent]


class Indexer:
    """Follows what is committed; the log is the truth, and nothing waits for the index.

    `note` wakes it. What is noted is a set of conversations of bounded size; what they have beyond
    the state in the index is read from their logs and written together with the next state, so that
    a process may end at any moment. At its begin, after an overflow and after an error the ends of
    all logs are compared with the states, and what is noted meanwhile is written in between. While
    many events are committed it rests longer after each write, and lags.

    Use it as an async context manager; the index is opened by its task, and closed at the end.
    """

    def __init__(
        self,
        open_index: OpenIndex,
        events: EventStore,
        records: ConversationStores,
        *,
        gather_seconds: float = GATHER_SECONDS,
        max_due: int = MAX_DUE,
        retry_seconds: float = RETRY_SECONDS,
        open_seconds: float = OPEN_SECONDS,
        rest: float = REST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_index = open_index
        self._events = events
        self._records = records
        self._gather_seconds = gather_seconds
        self._max_due = max_due
        self._retry_seconds = retry_seconds
        self._open_seconds = open_seconds
        self._throttle = Throttle(rest, clock)
        self._due: dict[str, Due] = {}
        self._behind = True
        """Whether all logs are to be compared with the index."""
        self._woken = asyncio.Event()
        self._level = asyncio.Event()
        self._known: dict[str, LogState] = {}
        """States that this process has written."""
        self._index: Future[SearchIndex] | None = None
        self._task: Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._index = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name="search indexer")
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._index is not None and self._index.done():
            await self._index.result().close()

    def note(self, conversation_id: str, owner: str | None, events: int = 0) -> None:
        """Report that a conversation has so many events more; with 0 that its record changed.

        A deletion is reported when nothing is left. Never waits.
        """
        self._throttle.note(events)
        known = self._due.get(conversation_id)
        if known is not None and events:
            return
        if known is None and len(self._due) >= self._max_due:
            self._due.clear()
            self._behind = True
        self._due[conversation_id] = Due(owner, look=not events)
        self._level.clear()
        self._woken.set()

    async def index(self) -> SearchIndex:
        """Return the index, once it is open. Raises Unavailable when that takes too long."""
        if self._index is None:
            raise Unavailable("the search index is closed")
        try:
            async with asyncio.timeout(self._open_seconds):
                return await asyncio.shield(self._index)
        except TimeoutError as error:
            raise Unavailable("the search index is not open yet") from error

    async def level(self) -> None:
        """Wait until everything noted so far is in the index."""
        await self._level.wait()

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (StorageError, EventsError, OSError):
                logger.exception(
                    "the search index cannot follow; trying again in %g s", self._retry_seconds
                )
            self._behind = True
            self._known.clear()
            await asyncio.sleep(self._retry_seconds)

    async def _follow(self) -> None:
        index = await self._opened()
        while True:
            if self._behind:
                self._behind = False
                self._due.clear()
                async for _ in self.compare(index):
                    pass
                await self._erase_gone(index)
            elif self._due:
                await asyncio.sleep(self._gather_seconds)
                while self._due and not self._behind:
                    await self._write_due(index)
            else:
                self._level.set()
                self._woken.clear()
                await self._woken.wait()

    async def _opened(self) -> SearchIndex:
        assert self._index is not None  # noqa: S101 - entered
        if not self._index.done():
            index = await self._open_index()
            self._index.set_result(index)
        return self._index.result()

    async def compare(self, index: SearchIndex) -> AsyncIterator[str]:
        """Compare every log that has a record with the index, and write what is missing.

        Yields each conversation that is done. Raises StorageError, EventsError.
        """
        page_id: str | None = None
        while True:
            page = await self._records.search_all(page_id, LOGS)
            due = {one.conversation_id: Due(one.user_id, record=one) for one in page.results}
            while due:
                due = await self._write(index, due)
                await self._write_due(index)
            for one in page.results:
                yield one.conversation_id
            page_id = page.next_page_id
            if page_id is None:
                break

    async def _erase_gone(self, index: SearchIndex) -> None:
        """Erase what the index has of deleted conversations."""
        after = ""
        while True:
            began = self._throttle.clock()
            ids = await index.conversations(after, LOGS)
            if not ids:
                break
            after = ids[-1]
            heads = await self._heads(ids)
            gone = [one for one, head in heads.items() if head.deleted]
            # Without events only the record tells whether it is there.
            empty = [one for one, head in heads.items() if not head.deleted and not head.next_id]
            for one, state in (await index.states(empty)).items():
                if not await self._record(one, state.owner):
                    gone.append(one)
            if gone:
                await self._erase(index, gone)
            await self._throttle.rest_since(began)
            await self._write_due(index)

    async def _write_due(self, index: SearchIndex) -> None:
        """Write the next part of the conversations that have waited longest since they were noted."""
        due = dict(islice(self._due.items(), LOGS))
        if not due:
            return
        for conversation_id in due:
            del self._due[conversation_id]
        for conversation_id, rest in (await self._write(index, due)).items():
            self._due.setdefault(conversation_id, rest)

    async def _write(self, index: SearchIndex, due: Mapping[str, Due]) -> dict[str, Due]:
        """Write the next part of each conversation; what is left of them."""
        began = self._throttle.clock()
        unknown = [one for one in due if one not in self._known]
        states = {one: self._known[one] for one in due if one in self._known}
        states |= await index.states(unknown)
        parts, gone, left = await self._parts(due, states)
        # Texts are taken out of events beside the event loop.
        changes = await asyncio.to_thread(lambda: [_change_of(part) for part in parts])
        if changes:
            applied = await index.write(changes)
            if applied < len(changes):
                raise Unavailable("the search index was written by somebody else")
        for change in changes:
            self._know(change.conversation_id, change.after)
        if gone:
            await self._erase(index, gone)
        await self._throttle.rest_since(began)
        return left | {
            part.conversation_id: Due(part.owner)
            for part, change in zip(parts, changes, strict=True)
            if change.after.next_id < part.head.next_id
        }

    async def _parts(
        self, due: Mapping[str, Due], states: Mapping[str, LogState]
    ) -> tuple[list[_Part], list[str], dict[str, Due]]:
        """Return the next parts of logs, the conversations that are gone, and those left for later."""
        parts: list[_Part] = []
        gone: list[str] = []
        left: dict[str, Due] = {}
        count = 0
        for conversation_id, head in (await self._heads([*due])).items():
            state = states.get(conversation_id)
            one = due[conversation_id]
            if count >= WRITE_EVENTS:
                left[conversation_id] = one
                continue
            try:
                if head.deleted:
                    gone.append(conversation_id)
                elif (part := await self._part(conversation_id, one, head, state)) is not None:
                    parts.append(part)
                    count += len(part.events)
            except ConversationNotFound:
                gone.append(conversation_id)
            except (EventsError, StorageError) as error:
                _log_unread(conversation_id, error)
        return parts, gone, left

    async def _part(
        self, conversation_id: str, due: Due, head: Head, state: LogState | None
    ) -> _Part | None:
        """Return the next part of a log, None where the index has it all.

        Raises ConversationNotFound when there is no record, EventsError, StorageError.
        """
        before = state
        if state is not None and (
            state.owner != due.owner or state.epoch != head.epoch or state.next_id > head.next_id
        ):
            before = None
        record = due.record
        if record is None and (due.look or before is None):
            record = await self._records.for_user(due.owner).get_metadata(conversation_id)
        if before is not None and before.next_id == head.next_id:
            if record is None or record.title == before.title:
                return None
            return _Part(conversation_id, due.owner, before, head, record, before.next_id, ())
        start = 0 if before is None else before.next_id
        trusted = start == 0 or self._known.get(conversation_id) == before
        events = await self._read(conversation_id, start - (not trusted), head.next_id)
        if not events and start < head.next_id:
            return None  # deleted meanwhile: that is noted as well
        if not trusted and before is not None:
            if mark_of(events[0]) != before.mark:
                # The log has been put back to an earlier state, and went on from there.
                return await self._part(conversation_id, due._replace(look=True), head, None)
            events = events[1:]
        return _Part(conversation_id, due.owner, before, head, record, start, events)

    async def _read(self, conversation_id: str, start: int, next_id: int) -> Sequence[StoredEvent]:
        """Return the next events of a log; markers stand for damaged ones."""
        end = min(next_id, start + EVENTS)
        read = self._events.read_part(conversation_id, start, end, PART_BYTES)
        return (await with_markers(read, start, end))[0]

    async def _heads(self, conversation_ids: Sequence[str]) -> dict[str, Head]:
        """Return the ends of those logs that can be read."""
        with suppress(DamagedHead):
            heads = await self._events.heads(conversation_ids)
            return dict(zip(conversation_ids, heads, strict=True))
        found = {}
        for conversation_id in conversation_ids:
            try:
                found[conversation_id] = await self._events.head(conversation_id)
            except DamagedHead as error:
                _log_unread(conversation_id, error)
        return found

    async def _record(self, conversation_id: str, owner: str | None) -> ConversationMetadata | None:
        try:
            return await self._records.for_user(owner).get_metadata(conversation_id)
        except ConversationNotFound:
            return None

    async def _erase(self, index: SearchIndex, conversation_ids: Sequence[str]) -> None:
        for conversation_id in conversation_ids:
            self._known.pop(conversation_id, None)
        await index.erase(conversation_ids)

    def _know(self, conversation_id: str, state: LogState) -> None:
        self._known.pop(conversation_id, None)
        self._known[conversation_id] = state
        if len(self._known) > KNOWN_STATES:
            del self._known[next(iter(self._known))]


def _change_of(part: _Part) -> LogChange:
    before, record, events = part.before, part.record, part.events
    entries = [entry for entry in map(said_in, events) if entry is not None]
    title = before.title if record is None and before is not None else None
    withdrawn: set[int] = set()
    if record is not None:
        title = record.title
        if title is not None and (before is None or before.title != title):
            created = microseconds_of(record.created_at)
            entries.append(Entry(TITLE_ID, created, "", EntryKind.TITLE, title))
        elif title is None:
            withdrawn.add(TITLE_ID)
    mark = 0 if before is None else before.mark
    after = LogState(
        part.owner,
        part.start + len(events),
        part.head.epoch,
        mark_of(events[-1]) if events else mark,
        title,
    )
    return LogChange(part.conversation_id, before, after, entries, withdrawn)


def _log_unread(conversation_id: str, error: Exception) -> None:
    logger.error(
        "the search index is left as it is for %s, which cannot be read: %r",
        *(conversation_id, error),
        extra={"conversation_id": conversation_id},
    )
