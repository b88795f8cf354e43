"""Writes conversations into a storage so that a run that was cut short can go on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from events.batch import digest_of
from events.errors import AppendUnknown, DuplicateClientId
from events.event import StoredEvent
from events.stores.base import Aside, Head
from events.summary import NO_CHANGE, fold
from events.transfer.contents import Stores
from events.verification import NAMES_KEY
from storage.conversations.metadata import ConversationMetadata
from storage.errors import ConversationNotFound, StorageError
from storage.usage.model import ConversationUsage

TRIES = 3
"""Attempts at an append of which the outcome is not known."""


class Begun(NamedTuple):
    """A conversation that is being written: where its log ended, and whether it was not there."""

    head: Head
    is_new: bool


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
        keys: dict[int, bytes] = {}
        summary = NO_CHANGE
        for place, event in enumerate(events):
            payload = orjson.loads(event.body)
            summary = fold(summary, event.id, payload)
            key = payload.get("client_id") if NAMES_KEY in event.body else None
            if isinstance(key, str) and digest_of(key) not in keys.values():
                keys[place] = digest_of(key)
        first, tries = events[0].id, 0
        while True:
            try:
                await self.stores.events.append(
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
