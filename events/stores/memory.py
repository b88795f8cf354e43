"""The in-memory event store: the reference, and the one for throw-away servers."""

import secrets
from collections.abc import Mapping, Sequence

from events.errors import AppendConflict, ConversationDeleted, DuplicateClientId
from events.event import EventFlag, StoredEvent
from events.stores.base import NO_KEYS, EventStore, Head
from events.summary import SummaryChange


class MemoryLog:
    """One conversation's events, keys and head."""

    __slots__ = ("deleted", "epoch", "events", "fence", "keys", "last_state_id")

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.keys: dict[bytes, int] = {}
        self.last_state_id: int | None = None
        self.epoch = secrets.token_hex(8)
        self.fence = 0
        self.deleted = False


class MemoryEventStore(EventStore):
    """Logs in a dict. Durable as long as the process lives."""

    def __init__(self) -> None:
        self._logs: dict[str, MemoryLog] = {}

    async def append(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,  # noqa: ARG002 - the record is elsewhere: folds_metadata is False
        keys: Mapping[int, bytes] = NO_KEYS,
        fence: int = 0,
    ) -> None:
        """See EventStore."""
        log = self._logs.get(conversation_id) or MemoryLog()
        if log.deleted:
            raise ConversationDeleted(conversation_id)
        if len(log.events) != expected_next_id or fence < log.fence:
            raise AppendConflict(f"next id is {len(log.events)}, expected {expected_next_id}")
        taken = {place: log.keys[key] for place, key in keys.items() if key in log.keys}
        if taken:
            raise DuplicateClientId(taken)
        self._logs[conversation_id] = log
        log.fence = fence
        log.events.extend(events)
        for place, key in keys.items():
            log.keys[key] = events[place].id
        for event in events:
            if event.flag == EventFlag.STATE:
                log.last_state_id = event.id

    async def head(self, conversation_id: str) -> Head:
        """See EventStore."""
        log = self._logs.get(conversation_id)
        if log is None:
            return Head(0, None, "")
        return Head(len(log.events), log.last_state_id, log.epoch, log.deleted)

    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """See EventStore."""
        log = self._logs.get(conversation_id)
        return log.events[max(0, start_id) : max(0, end_id)] if log else []

    async def find(self, conversation_id: str, key: bytes) -> int | None:
        """See EventStore."""
        log = self._logs.get(conversation_id)
        return log.keys.get(key) if log else None

    async def delete(self, conversation_id: str) -> None:
        """See EventStore."""
        log = self._logs.setdefault(conversation_id, MemoryLog())
        log.deleted = True
        log.events = []
        log.keys = {}
        log.last_state_id = None
