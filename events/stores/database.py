"""The event store over a Database: the conversation's head row decides every append."""

import asyncio
import zlib
from asyncio import Future
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from events.errors import (
    AppendConflict,
    AppendFailed,
    AppendUnknown,
    ConversationDeleted,
    DamagedRecord,
    DuplicateClientId,
    StoreUnavailable,
)
from events.event import EventFlag, StoredEvent
from events.stores.base import NO_KEYS, EventStore, Head
from events.summary import SummaryChange
from storage.database.base import Database, Row, Script, Statement
from storage.errors import OutcomeUnknown, StorageError

FORMAT_VERSION = 1
KEY_BITS = 32
LAST_ID = 2**KEY_BITS - 1
PURGE_LIMIT = 2_000
"""Events deleted in one commit at most, so that a long log's end does not hold others up."""


class DatabaseEventStore(EventStore):
    """Events as rows keyed `conversation number << 32 | id`."""

    folds_metadata: ClassVar[bool] = True

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,
        keys: Mapping[int, bytes] = NO_KEYS,
        fence: int = 0,
    ) -> Awaitable[None]:
        """See EventStore. Returns a bare future: one loop callback completes a whole commit."""
        script = _append(conversation_id, expected_next_id, events, summary, keys, fence)
        outcome: Future[None] = asyncio.get_running_loop().create_future()
        write = self._database.write(script)
        write.add_done_callback(lambda done: _translate(done, outcome))
        return outcome

    async def head(self, conversation_id: str) -> Head:
        """See EventStore."""
        row = await self._read(_one(Statement("read_head", (conversation_id,))))
        if row is None:
            return Head(0, None, "")
        _, next_id, last_state_id, epoch, deleted_at, _ = row
        return Head(next_id, last_state_id, epoch, deleted=deleted_at is not None)

    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """See EventStore."""
        if end_id <= start_id or start_id > LAST_ID:
            return []
        bounds = (max(0, start_id), conversation_id, min(end_id - 1, LAST_ID), conversation_id)
        rows = await self._read(_all(Statement("read_events", bounds)))
        return _verified(conversation_id, rows)

    async def find(self, conversation_id: str, key: bytes) -> int | None:
        """See EventStore."""
        row = await self._read(_one(Statement("find_client_id_by_name", (conversation_id, key))))
        return None if row is None else int(row[0])

    async def delete(self, conversation_id: str) -> None:
        """See EventStore."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        number = await self._write(_bury(conversation_id, now))
        await self._purge(number)

    async def finish_deletions(self) -> int:
        """Drop what deletions cut short by a crash left over; how many logs that was."""
        rows = await self._read(_all(Statement("unpurged_conversations")))
        for (number,) in rows:
            await self._purge(number)
        return len(rows)

    async def _purge(self, number: int) -> None:
        while await self._write(_purge(number)):
            continue

    async def _read(self, script: Script[Any]) -> Any:
        try:
            return await self._database.read(script)
        except StorageError as error:
            raise StoreUnavailable(str(error)) from error

    async def _write(self, script: Script[Any]) -> Any:
        try:
            return await self._database.write(script)
        except OutcomeUnknown as error:
            raise AppendUnknown(str(error)) from error
        except StorageError as error:
            raise AppendFailed(str(error)) from error


def _translate(done: Future[None], outcome: Future[None]) -> None:
    if outcome.done():
        done.exception()
        return
    error = done.exception()
    if isinstance(error, OutcomeUnknown):
        failure: BaseException = AppendUnknown(str(error))
    elif isinstance(error, StorageError):
        failure = AppendFailed(str(error))
    elif error is not None:
        outcome.set_exception(error)
        return
    else:
        outcome.set_result(None)
        return
    failure.__cause__ = error
    outcome.set_exception(failure)


def _append(
    conversation_id: str,
    expected: int,
    events: Sequence[StoredEvent],
    summary: SummaryChange,
    keys: Mapping[int, bytes],
    fence: int,
) -> Script[None]:
    states = [event.id for event in events if event.flag == EventFlag.STATE]
    head = Statement(
        "advance_head",
        (
            len(events),
            states[-1] if states else None,
            fence,
            summary.last_updated_at,
            summary.accumulated_cost,
            summary.prompt_tokens,
            summary.completion_tokens,
            summary.total_tokens,
            conversation_id,
            expected,
            fence,
        ),
    )
    rows = (yield head).rows
    if not rows and expected == 0:
        yield Statement("create_head", (conversation_id,))
        rows = (yield head).rows
    if not rows:
        found = (yield Statement("read_head", (conversation_id,))).rows
        if found and found[0][4] is not None:
            raise ConversationDeleted(conversation_id)
        raise AppendConflict(f"the log of {conversation_id} is not at {expected}")
    number = rows[0][0]
    if keys:
        yield from _insert_keys(number, events, keys)
    base = number << KEY_BITS
    records = [
        (base | event.id, FORMAT_VERSION, event.flag, zlib.crc32(event.body, event.id), event.body)
        for event in events
    ]
    yield Statement("insert_events", records, many=True)


def _insert_keys(
    number: int, events: Sequence[StoredEvent], keys: Mapping[int, bytes]
) -> Script[None]:
    rows = [(number, digest, events[place].id) for place, digest in keys.items()]
    inserted = yield Statement("insert_client_ids", rows, many=True)
    if inserted.touched == len(rows):
        return
    taken: dict[int, int] = {}
    for place, digest in keys.items():
        found = (yield Statement("find_client_id", (number, digest))).rows
        if found and found[0][0] != events[place].id:
            taken[place] = found[0][0]
    raise DuplicateClientId(taken)


def _bury(conversation_id: str, now: str) -> Script[int]:
    return int((yield Statement("bury_conversation", (conversation_id, now))).rows[0][0])


def _purge(number: int) -> Script[bool]:
    bounds = (number << KEY_BITS, number << KEY_BITS | LAST_ID, PURGE_LIMIT)
    if (yield Statement("purge_events", bounds)).touched > 0:
        return True
    yield Statement("purge_client_ids", (number,))
    yield Statement("mark_purged", (number,))
    return False


def _one(statement: Statement) -> Script[Row | None]:
    rows = (yield statement).rows
    return rows[0] if rows else None


def _all(statement: Statement) -> Script[list[Row]]:
    return (yield statement).rows


def _verified(conversation_id: str, rows: list[Row]) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    damaged: list[int] = []
    for event_id, version, flag, crc, body in rows:
        if version != FORMAT_VERSION or zlib.crc32(body, event_id) != crc:
            damaged.append(event_id)
        else:
            events.append(StoredEvent(event_id, flag, body))
    if damaged:
        raise DamagedRecord(conversation_id, damaged[0], damaged[-1])
    return events
