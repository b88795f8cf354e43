"""One append to a database, put in both of the ways in which a database takes it."""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from events.errors import (
    AppendConflict,
    ConversationDeleted,
    DamagedHead,
    DamagedRecord,
    DuplicateClientId,
    Fenced,
    MasksChanged,
)
from events.event import StoredEvent
from events.fence import Fence
from events.summary import SummaryChange, head_fields
from storage.database.base import Row, Rows, Statement, Steps
from storage.database.row_checksums import row_checksum

FORMAT_VERSION = 1
KEY_BITS = 32
NO_CHANGE: Row = (-1, "", -1, -1, -1, -1, "")
"""A fold that changes nothing, as a row of `appends` has it."""
NO_HEAD: Row = (0, *NO_CHANGE)
NO_KEY = ""


class Append(NamedTuple):
    """One append, as rows for a log whose number is known and as the script that decides all."""

    conversation_id: str
    expected: int
    events: Sequence[StoredEvent]
    summary: SummaryChange
    keys: Mapping[int, bytes]
    fence: Fence | None = None
    masks: int | None = None

    def rows(self, number: int) -> Rows:
        """Return the write as rows, one for each event; the first contains the new head.

        Rows claim nothing: a fence or a version of masks that is not known to be the head's is
        decided by the script.

        All values are of the types that the driver binds as they are, see 0005_row_of_an_append.
        """
        keys = self.keys
        rows: list[Row] = []
        head: Row = (len(self.events), *self._told_fold())
        for place, one in enumerate(self.events):
            key = bytearray(keys[place]) if place in keys else NO_KEY
            version, flag, crc, body = _record(one)
            record = (version, int(flag), crc, bytearray(body), key)
            rows.append((number, self.conversation_id, one.id, *head, *record))
            head = NO_HEAD
        return (("append_events", rows),)

    def script(self, *, in_place: bool = False) -> Steps[int | None]:
        """Advance the head or say why not, then insert; the log's number.

        The events arrive, or they are put `in_place` at once, where they are many.
        """
        head = Statement("advance_head", self._head())
        rows = (yield head).rows
        is_new = not rows and self.expected == 0
        if is_new:
            yield Statement("create_head", (self.conversation_id,))
            rows = (yield head).rows
        if not rows:
            found = (yield Statement("read_head", (self.conversation_id,))).rows
            if found and found[0][4] is not None:
                raise ConversationDeleted(self.conversation_id)
            if found and found[0][1] == self.expected:
                self._refuse(found[0])
            raise AppendConflict(f"the log of {self.conversation_id} is not at {self.expected}")
        number = int(rows[0][0])
        if not is_new:
            yield from self._check_end(number)
        if self.keys:
            yield from self._insert_keys(number)
        query = "insert_events_in_place" if in_place else "insert_events"
        yield Statement(query, self._records(number), many=True)
        return number

    def _refuse(self, head: Row) -> NoReturn:
        """Raise what keeps an append from a log that is at the expected id."""
        *_, number, holder, _, masks = head
        held = None if holder is None else Fence(number, holder)
        if self.fence is not None and self.fence.is_stale(held):
            raise Fenced(f"another holds the loop of {self.conversation_id}")
        raise MasksChanged(masks)

    def _check_end(self, number: int) -> Steps[None]:
        """Raise DamagedHead if the head would assign an id a second time.

        Appends to a log whose number is known skip this: the script has run before.
        """
        newest = (yield Statement("newest_in_place", (number,))).rows[0][0]
        if newest is not None and newest >= self.expected:
            raise DamagedHead(self.conversation_id, self.expected, newest)

    def _insert_keys(self, number: int) -> Steps[None]:
        rows = self._key_rows(number)
        inserted = yield Statement("insert_client_ids", rows, many=True)
        if inserted.touched == len(rows):
            return
        taken: dict[int, int] = {}
        for place, digest in self.keys.items():
            found = (yield Statement("find_client_id", (number, digest))).rows
            if found and found[0][0] != self.events[place].id:
                taken[place] = found[0][0]
        if not taken:
            # One was there for the very id that its event was to get now.
            taken = {place: self.events[place].id for place in self.keys}
        newest = max(taken.values())
        if newest >= self.expected:
            # Nothing that was committed has such an id: the key of a lost event was left behind.
            raise DamagedRecord(self.conversation_id, self.expected, newest)
        raise DuplicateClientId(taken)

    def _head(self) -> Row:
        """Return the values of `advance_head`; what is not claimed or named is null."""
        state_id, *summary = head_fields(self.summary, self.events)
        claim = self.fence or (None, None)
        moved = (len(self.events), state_id, *claim, self.masks, *summary)
        return (*moved, self.conversation_id, self.expected, *claim, claim[0], self.masks)

    def _told_fold(self) -> Row:
        state_id, updated_at, cost, prompt, completion, total, said_at = head_fields(
            self.summary, self.events
        )
        # One by one, since every append comes through here.
        return (
            -1 if state_id is None else state_id,
            "" if updated_at is None else updated_at,
            -1 if cost is None else cost,
            -1 if prompt is None else prompt,
            -1 if completion is None else completion,
            -1 if total is None else total,
            "" if said_at is None else said_at,
        )

    def _records(self, number: int) -> list[Row]:
        base = number << KEY_BITS
        return [(base | one.id, *_record(one)) for one in self.events]

    def _key_rows(self, number: int) -> list[Row]:
        return [(number, digest, self.events[place].id) for place, digest in self.keys.items()]


def aside_checksum(conversation_id: str, name: str, body: bytes) -> int:
    """Return the checksum of an aside, which no other log and no other name has."""
    names = (one.encode("utf-8", "surrogateescape") for one in (conversation_id, name))
    return row_checksum(*names, body)


def _record(event: StoredEvent) -> Row:
    return FORMAT_VERSION, int(event.flag), zlib.crc32(event.body, event.id), event.body
