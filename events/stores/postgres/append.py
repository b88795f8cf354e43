"""One append to PostgreSQL: its arguments, and what refused it."""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from events.errors import (
    AppendConflict,
    AppendFailed,
    ConversationDeleted,
    DuplicateClientId,
    EventsError,
    Fenced,
    MasksChanged,
)
from events.event import StoredEvent
from events.fence import Fence
from events.summary import SummaryChange, head_fields
from storage.database.base import Row

FORMAT_VERSION = 1
DIGEST_BYTES = 16
"""Of a key's digest so many bytes are stored: in each log there are few, and an index holds them."""
_SIGN = 2**31


def checksum(event_id: int, body: bytes) -> int:
    """Return the CRC-32 of a body, seeded with the event's id, as a signed 32-bit number."""
    crc = zlib.crc32(body, event_id)
    return crc - 2 * _SIGN if crc >= _SIGN else crc


class Append(NamedTuple):
    """The request that EventStore.append was called with."""

    number: int
    conversation_id: str
    expected: int
    events: Sequence[StoredEvent]
    summary: SummaryChange
    keys: Mapping[int, bytes]
    fence: Fence | None = None
    masks: int | None = None

    @property
    def is_one(self) -> bool:
        """Whether the short statement takes it: one event without a key, of a log that is there."""
        return len(self.events) == 1 and not self.keys and self.expected > 0

    @property
    def fold(self) -> Row:
        """The values of the head that it changes; null where it does not."""
        return head_fields(self.summary, self.events)

    @property
    def size_bytes(self) -> int:
        """The bytes of its events."""
        return sum([len(one.body) for one in self.events])

    def as_one(self) -> Row:
        """Return the arguments of `append_one`."""
        (event,) = self.events
        claim = self.fence or (None, None)
        named = (self.number, self.conversation_id, self.expected, *claim, self.masks)
        return (*named, *self.fold, int(event.flag), checksum(event.id, event.body), event.body)

    def refusal(self, row: Row) -> EventsError | None:
        """Return why `append_logs` gave that row; None where only another's lock was in the way."""
        _, name, next_id, state, number, holder, masks, digests, ids = row
        conversation_id = self.conversation_id
        if name is not None and name != conversation_id:
            return AppendFailed(f"{conversation_id} cannot be used: its number is another id's")
        if state:
            return ConversationDeleted(conversation_id)
        if (next_id or 0) != self.expected:
            return AppendConflict(f"the log of {conversation_id} is not at {self.expected}")
        held = None if number is None else Fence(number, holder)
        if self.fence is not None and self.fence.is_stale(held):
            return Fenced(f"another holds the loop of {conversation_id}")
        if self.masks is not None and masks is not None and self.masks < masks:
            return MasksChanged(masks)
        known = dict(zip(digests or (), ids or (), strict=True))
        taken = {
            place: known[key[:DIGEST_BYTES]]
            for place, key in self.keys.items()
            if key[:DIGEST_BYTES] in known
        }
        return DuplicateClientId(taken) if taken else None


def arguments_of(group: Sequence[Append]) -> Sequence[Sequence[object] | None]:
    """Return the arguments of `append_logs`: columns for the logs, the events, and the keys."""
    logs = [
        (
            *(one.number, one.conversation_id, one.expected, len(one.events)),
            *(one.fence or (None, None)),
            one.masks,
            *one.fold,
        )
        for one in group
    ]
    numbers: list[int] = []
    ids: list[int] = []
    flags: list[int] = []
    crcs: list[int] = []
    bodies: list[bytes] = []
    key_numbers: list[int] = []
    digests: list[bytes] = []
    key_ids: list[int] = []
    for one in group:
        for event in one.events:
            numbers.append(one.number)
            ids.append(event.id)
            flags.append(int(event.flag))
            crcs.append(checksum(event.id, event.body))
            bodies.append(event.body)
        for place, key in one.keys.items():
            key_numbers.append(one.number)
            digests.append(key[:DIGEST_BYTES])
            key_ids.append(one.events[place].id)
    columns = [_array_of(column) for column in zip(*logs, strict=True)]
    return (*columns, numbers, ids, flags, crcs, bodies, key_numbers, digests, key_ids)


def _array_of(column: Sequence[object]) -> Sequence[object] | None:
    """Return an array for `unnest`; null stands for one of nulls, which it makes of it."""
    return None if column.count(None) == len(column) else column
