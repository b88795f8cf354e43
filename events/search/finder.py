"""Searches as a user makes them: what the index finds, as the log and the records have it now."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from events.errors import EventsError
from events.event import StoredEvent
from events.search.indexer import Indexer
from events.search.said import microseconds_of, said_in
from events.stores.base import EventStore
from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.errors import ConversationNotFound, Damaged
from storage.search.base import TITLE_ID, Entry, EntryKind, Found, SearchQuery
from storage.search.words import Phrase, Piece, snippet_of, spans_of

ROUNDS = 5
"""Calls of the index for one page, when much of what it finds is gone from the logs."""


class Result(NamedTuple):
    """An entry that was found, its conversation's record, and the text around the words."""

    entry: Entry
    record: ConversationMetadata
    snippet: Sequence[Piece]


class ResultPage(NamedTuple):
    """Results, the newest first, and the place behind which the next page begins, if there is one."""

    results: Sequence[Result]
    below: int | None


class Finder:
    """Answers searches of one index.

    Each entry is read again from its log or record, under its owner: an index that lags, or that is
    wrong, shows nothing that is deleted, and nobody what is another's.
    """

    def __init__(self, indexer: Indexer, events: EventStore, records: ConversationStores) -> None:
        self.indexer = indexer
        self._events = events
        self._records = records

    async def find(self, query: SearchQuery, limit: int) -> ResultPage:
        """Return a page. Raises SearchTooSlow, SearchBusy, StorageError.

        A page with less than `limit` results may be followed by another.
        """
        index = await self.indexer.index()
        results: list[Result] = []
        for _ in range(ROUNDS):
            wanted = limit - len(results)
            found = await index.find(query, wanted + 1)
            more = len(found) > wanted
            results += await self._resolved(query, found[:wanted])
            if not more:
                return ResultPage(results, None)
            query = query._replace(below=found[wanted - 1].place)
            if len(results) == limit:
                break
        return ResultPage(results, query.below)

    async def _resolved(self, query: SearchQuery, found: Sequence[Found]) -> list[Result]:
        records = await self._visible(query.owner, {one.conversation_id for one in found})
        seen = [one for one in found if one.conversation_id in records]
        events = await self._read([one for one in seen if one.event_id != TITLE_ID])

        def resolve() -> list[Result]:
            results = []
            for one in seen:
                record = records[one.conversation_id]
                entry = _entry_of(one, record, events)
                snippet = None if entry is None else _snippet(entry.text, query.phrases)
                if entry is not None and snippet is not None:
                    results.append(Result(entry, record, snippet))
            return results

        # Long texts are looked through beside the event loop.
        return await asyncio.to_thread(resolve)

    async def _visible(
        self, owner: str | None, conversation_ids: set[str]
    ) -> dict[str, ConversationMetadata]:
        """Return the records of those conversations that the owner can see now."""
        store = self._records.for_user(owner)
        ids = sorted(conversation_ids)
        try:
            return dict(zip(ids, await store.get_all_metadata(ids), strict=True))
        except (ConversationNotFound, Damaged):
            found = {one: await _record(store, one) for one in ids}
            return {one: record for one, record in found.items() if record is not None}

    async def _read(self, found: Sequence[Found]) -> dict[tuple[str, int], StoredEvent]:
        ranges = [(one.conversation_id, one.event_id, one.event_id + 1) for one in found]
        try:
            read = await self._events.read_many(ranges)
        except EventsError:
            read = [await self._read_one(*one) for one in ranges]
        return {
            (conversation_id, event.id): event
            for (conversation_id, _, _), events in zip(ranges, read, strict=True)
            for event in events
        }

    async def _read_one(
        self, conversation_id: str, start_id: int, end_id: int
    ) -> list[StoredEvent]:
        try:
            return await self._events.read(conversation_id, start_id, end_id)
        except EventsError:
            return []


async def _record(store: ConversationStore, conversation_id: str) -> ConversationMetadata | None:
    try:
        return await store.get_metadata(conversation_id)
    except (ConversationNotFound, Damaged):
        return None


def _entry_of(
    found: Found, record: ConversationMetadata, events: dict[tuple[str, int], StoredEvent]
) -> Entry | None:
    if found.event_id == TITLE_ID:
        created = microseconds_of(record.created_at)
        return Entry(TITLE_ID, created, "", EntryKind.TITLE, record.title or "")
    event = events.get((found.conversation_id, found.event_id))
    return None if event is None else said_in(event)


def _snippet(text: str, phrases: Sequence[Phrase]) -> list[Piece] | None:
    spans = spans_of(text, phrases)
    return None if spans is None else snippet_of(text, spans)
