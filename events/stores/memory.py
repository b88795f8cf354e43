"""The in-memory event store: the reference implementation, and for temporary servers."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from events.errors import (
    AppendConflict,
    ConversationDeleted,
    DuplicateClientId,
    EventsError,
    Fenced,
    MasksChanged,
)
from events.event import STATE, StoredEvent
from events.fence import Fence
from events.stores.base import NO_KEYS, Aside, EventStore, Form, Formed, Head, Range
from events.summary import SummaryChange
from storage.counters import Counters
from storage.errors import ConversationDeleted as RecordDeleted, ConversationNotFound
from storage.promise import Promise


class MemoryLog:
    """One conversation's events, keys and head."""

    __slots__ = (
        "asides",
        "deleted",
        "epoch",
        "events",
        "fence",
        "keys",
        "last_state_id",
        "last_timestamp",
        "masks",
    )

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.keys: dict[bytes, int] = {}
        self.asides: dict[str, bytes] = {}
        self.last_state_id: int | None = None
        self.last_timestamp = ""
        self.epoch = secrets.token_hex(8)
        self.fence: Fence | None = None
        self.masks = 0
        self.deleted = False


Fold = Callable[[str, SummaryChange], None]
"""Updates a conversation's record at once; an unknown one is ignored."""


class MemoryEventStore(EventStore):
    """Logs in a dict. Durable as long as the process lives.

    `fold` is given where the records are in memory, too.
    """

    def __init__(self, fold: Fold | None = None) -> None:
        self.counters = Counters()
        self._logs: dict[str, MemoryLog] = {}
        self._fold = fold
        self.folds_metadata = fold is not None

    def append(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,
        keys: Mapping[int, bytes] = NO_KEYS,
        fence: Fence | None = None,
        masks: int | None = None,
    ) -> Promise[None]:
        """See EventStore. Decided at once."""
        try:
            formed = Formed(events, summary, keys, fence, masks)
            self._append(conversation_id, expected_next_id, formed)
        except EventsError as refusal:
            return Promise[None].rejected(refusal)
        return Promise[None].resolved(None)

    async def append_next(self, conversation_id: str, form: Form) -> Head:
        """See EventStore."""
        head = self._head(conversation_id)
        if head.deleted:
            raise ConversationDeleted(conversation_id)
        self._append(conversation_id, head.next_id, form(head))
        return head

    def _append(self, conversation_id: str, expected_next_id: int, formed: Formed) -> None:
        events, summary, keys, fence, masks = formed
        log = self._logs.get(conversation_id) or MemoryLog()
        refusal = _refusal(conversation_id, log, expected_next_id, formed)
        if refusal is not None:
            raise refusal
        self._logs[conversation_id] = log
        log.last_timestamp = summary.last_updated_at or log.last_timestamp
        log.fence = fence or log.fence
        log.masks = log.masks if masks is None else masks
        log.events.extend(events)
        for place, key in keys.items():
            log.keys[key] = events[place].id
        for event in events:
            if event.flag == STATE:
                log.last_state_id = event.id
        if self._fold is not None:
            self._fold(conversation_id, summary)

    async def head(self, conversation_id: str) -> Head:
        """See EventStore."""
        return self._head(conversation_id)

    def _head(self, conversation_id: str) -> Head:
        log = self._logs.get(conversation_id)
        if log is None:
            return Head(0, None, "")
        return Head(
            len(log.events),
            log.last_state_id,
            log.epoch,
            log.deleted,
            log.fence,
            log.last_timestamp,
            log.masks,
            asides=bool(log.asides),
        )

    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """See EventStore."""
        return self._read(conversation_id, start_id, end_id)

    async def read_many(self, ranges: Sequence[Range]) -> list[list[StoredEvent]]:
        """See EventStore."""
        return [self._read(*one) for one in ranges]

    def _read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        log = self._logs.get(conversation_id)
        return log.events[max(0, start_id) : max(0, end_id)] if log else []

    async def find(self, conversation_id: str, key: bytes) -> int | None:
        """See EventStore."""
        log = self._logs.get(conversation_id)
        return log.keys.get(key) if log else None

    async def put_asides(self, asides: Sequence[Aside]) -> None:
        """See EventStore."""
        for conversation_id, name, body in asides:
            log = self._logs.get(conversation_id)
            if log is None or log.deleted:
                continue
            if body is None:
                log.asides.pop(name, None)
            else:
                log.asides[name] = body

    async def asides(self, conversation_id: str) -> Mapping[str, bytes]:
        """See EventStore."""
        log = self._logs.get(conversation_id)
        return dict(log.asides) if log else {}

    @asynccontextmanager
    async def beside(self, conversation_id: str) -> AsyncIterator[None]:
        """Hold a log while something is written beside it.

        Raises ConversationNotFound where there is none, ConversationDeleted, of `storage.errors`.
        """
        log = self._logs.get(conversation_id)
        if log is None:
            raise ConversationNotFound(conversation_id)
        if log.deleted:
            raise RecordDeleted(conversation_id)
        yield

    async def delete(self, conversation_id: str) -> None:
        """See EventStore."""
        log = self._logs.setdefault(conversation_id, MemoryLog())
        log.deleted = True
        log.events = []
        log.keys = {}
        log.asides = {}
        log.last_state_id = None


def _refusal(
    conversation_id: str, log: MemoryLog, expected: int, formed: Formed
) -> EventsError | None:
    _, _, keys, fence, masks = formed
    if log.deleted:
        return ConversationDeleted(conversation_id)
    if len(log.events) != expected:
        return AppendConflict(f"next id is {len(log.events)}, expected {expected}")
    if fence is not None and fence.is_stale(log.fence):
        return Fenced(f"another holds the loop of {conversation_id}")
    if masks is not None and masks < log.masks:
        return MasksChanged(log.masks)
    taken = {place: log.keys[key] for place, key in keys.items() if key in log.keys}
    return DuplicateClientId(taken) if taken else None
