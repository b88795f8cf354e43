"""Writes conversations into a storage so that a run that was cut short can go on."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from events.batch import digest_of
from events.errors import AppendUnknown, DuplicateClientId
from events.event import StoredEvent
from events.stores.base import Aside, Head
from events.summary import NO_CHANGE, SummaryChange, fold
from events.transfer.contents import Stores
from events.verification import NAMES_KEY
from storage.conversations.metadata import ConversationMetadata
from storage.errors import (
    ConversationDeleted,
    ConversationNotFound,
    OwnerConflict,
    StorageError,
)
from storage.usage.model import ConversationUsage

MARKS: Sequence[tuple[Sequence[str], Callable[[bytes], object]]] = (
    (("last_updated_at",), re.compile(rb'"timestamp"').search),
    (("accumulated_cost",), re.compile(rb'"llm_metrics"').search),
    (("prompt_tokens", "completion_tokens", "total_tokens"), re.compile(rb'"llm_metrics"').search),
    (("last_state_id",), re.compile(rb'"agent_state_changed"').search),
    (("last_message_at",), re.compile(rb'"action"\s*:\s*"(?:message|finish)"').search),
)
"""Fields of a fold that are set together, and what stands in each body that may set them."""
TRIES = 3
"""Attempts at an append of which the outcome is not known."""


class Begun(NamedTuple):
    """A conversation that is being written: where its log ended, and whether it was not there."""

    head: Head
    is_new: bool


class Derived(NamedTuple):
    """The facts that an append tells of its events: their fold, and by place the digests of their keys."""

    summary: SummaryChange
    keys: Mapping[int, bytes]


def derived(events: Sequence[StoredEvent]) -> Derived:
    """Return what the bodies of events, of which there is at least one, say besides themselves.

    Only those bodies are decoded that have a part in it. Of several events with one key it is the
    first's. It may take long.
    """
    keys: dict[int, bytes] = {}
    known: set[bytes] = set()
    for place, event in enumerate(events):
        if NAMES_KEY not in event.body:
            continue
        key = orjson.loads(event.body).get("client_id")
        digest = digest_of(key) if isinstance(key, str) else None
        if digest is not None and digest not in known:
            known.add(digest)
            keys[place] = digest
    summary = NO_CHANGE._replace(last_event_id=events[-1].id)
    for names, mark in MARKS:
        summary = summary._replace(**_newest(events, names, mark))
    return Derived(summary, keys)


def _newest(
    events: Sequence[StoredEvent], names: Sequence[str], mark: Callable[[bytes], object]
) -> Mapping[str, Any]:
    """Return the fields of a fold that are set together, as the newest event that sets them does."""
    for event in reversed(events):
        if mark(event.body):
            told = fold(None, event.id, orjson.loads(event.body))
            if getattr(told, names[0]) is not None:
                return {name: getattr(told, name) for name in names}
    return {}


class Loader:
    """Writes into the stores of one storage, which nobody else writes to.

    Methods raise StorageError and EventsError.
    """

    def __init__(self, stores: Stores) -> None:
        self.stores = stores

    async def begin(self, record: ConversationMetadata) -> "Begun":
        """Make the conversation unless it is there.

        A new record has no times of events: a log may end before those after a crash.
        """
        view = self.stores.storage.conversations.for_user(record.user_id)
        head = await self.stores.events.head(record.conversation_id)
        is_new = not head.next_id and not await view.exists(record.conversation_id)
        if is_new:
            blank = record.checked_copy(last_updated_at=None, last_message_at=None)
            await view.save_metadata(blank)
        return Begun(head, is_new)

    async def append(self, conversation_id: str, events: Sequence[StoredEvent]) -> None:
        """Append events with their ids, which follow the log's end, and the keys they carry."""
        summary, keys = await asyncio.to_thread(derived, events)
        first, tries = events[0].id, 0
        while True:
            try:
                await self.stores.events.append_many(
                    conversation_id, first, events, summary=summary, keys=keys
                )
            except DuplicateClientId as taken:
                # An event may carry a key that its server did not keep.
                keys = {place: key for place, key in keys.items() if place not in taken.taken}
            except AppendUnknown:
                tries += 1
                end = (await self.stores.events.head(conversation_id)).next_id
                if end == events[-1].id + 1:
                    return
                if end != first or tries == TRIES:
                    raise
            else:
                return

    async def finish(self, record: ConversationMetadata) -> ConversationMetadata:
        """Give the conversation its record; return that as it is now, with the fold of its log."""
        view = self.stores.storage.conversations.for_user(record.user_id)
        try:
            kept = await view.get_metadata(record.conversation_id)
        except ConversationNotFound:
            kept = None
        if kept == record:
            return record
        await view.save_metadata(record)
        return await view.get_metadata(record.conversation_id)

    async def spend(self, conversation_id: str) -> bool:
        """Make an id one of a deleted conversation; return whether it is one now.

        One that a conversation has is left.
        """
        events, view = self.stores.events, self.stores.storage.conversations.for_user(None)
        head = await events.head(conversation_id)
        if (head.next_id and not head.deleted) or await view.exists(conversation_id):
            return False
        # A record without an owner: a tombstone says of nobody what it was.
        record = ConversationMetadata(conversation_id=conversation_id, created_at=datetime.now(UTC))
        try:
            await view.save_metadata(record)
        except OwnerConflict:
            return False
        except ConversationDeleted:
            pass
        else:
            await view.delete_metadata(conversation_id)
        if not head.deleted:
            await events.delete(conversation_id)
        return True

    async def put_asides(self, conversation_id: str, asides: Mapping[str, bytes]) -> None:
        """Keep the records beside a log."""
        if asides:
            await self.stores.events.put_asides(
                [Aside(conversation_id, name, body) for name, body in asides.items()]
            )

    async def put_usage(self, usage: ConversationUsage) -> None:
        """Keep a count where there is none. Its mark was that of another storage."""
        store = self.stores.storage.usage
        try:
            kept = await store.load(usage.conversation_id)
        except StorageError:
            return  # counted anew by the server
        if kept is None:
            await store.save(usage.model_copy(update={"mark": ""}), 0)
