"""The digest of a conversation: of its log and its record alone, the same on every kind of storage."""

import asyncio
import hashlib
from collections.abc import Iterable

from events.event import StoredEvent
from events.transfer.contents import Stores
from storage.conversations.metadata import ConversationMetadata


class LogDigest:
    """SHA-256 over the events of a log, added in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0
        """Events added so far."""

    def add(self, events: Iterable[StoredEvent]) -> None:
        """Add the next events."""
        parts: list[bytes] = []
        for event in events:
            body = event.body
            parts.append(b"%d %d %d\n" % (event.id, event.flag, len(body)))
            parts.append(body)
            self.count += 1
        self._hash.update(b"".join(parts))

    def value(self) -> str:
        """Return the digest of the events so far, as hex digits."""
        return self._hash.hexdigest()

    def with_record(self, record: ConversationMetadata) -> str:
        """Return the digest of the events so far and of a record, as hex digits."""
        whole = self._hash.copy()
        whole.update(record.model_dump_json().encode())
        return whole.hexdigest()


async def log_digest(stores: Stores, conversation_id: str, end_id: int) -> LogDigest:
    """Return the digest of a log's events below `end_id`. Raises EventsError."""
    digest = LogDigest()
    async for part in stores.parts(conversation_id, end_id):
        await asyncio.to_thread(digest.add, part.events)
    return digest


async def conversation_digest(stores: Stores, record: ConversationMetadata) -> str:
    """Return the digest of a conversation. Raises EventsError."""
    head = await stores.events.head(record.conversation_id)
    digest = await log_digest(stores, record.conversation_id, head.next_id)
    return digest.with_record(record)
