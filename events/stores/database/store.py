"""The event store over a Database: the conversation's head row decides every append."""

import asyncio
import logging
import zlib
from asyncio import Lock, TimerHandle
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson

from events.errors import (
    AppendFailed,
    AppendUnknown,
    DamagedHead,
    DamagedRecord,
    EventsError,
    StoreUnavailable,
)
from events.event import StoredEvent
from events.fence import Fence
from events.pages import PageCache
from events.stores.base import (
    NO_KEYS,
    Aside,
    EventStore,
    Form,
    Formed,
    Head,
    Range,
    append_at_end,
    not_written,
)
from events.stores.database.append import FORMAT_VERSION, KEY_BITS, Append, aside_checksum
from events.stores.database.arrivals import Arrivals
from events.summary import SummaryChange, head_fields
from storage.database.base import Row, RowDatabase, Script, Statement, Steps, bytes_in, rerunnable
from storage.errors import Conflict, OutcomeUnknown, StorageError
from storage.keyed_locks import KeyedLocks
from storage.promise import Promise
from storage.reserve import making_room

logger = logging.getLogger(__name__)

LAST_ID = 2**KEY_BITS - 1
KNOWN_LOGS = 20_000
"""Logs of which is remembered what their appends would have to look up."""
PURGE_LIMIT = 2_000
PURGE_BLOBS = 4
"""Maximum number of events deleted in one commit, so that a long log does not block others."""

PLACE_COUNT = 4_000
PLACE_BYTES = 8 * 1024 * 1024
"""Number of arrivals moved together, during which other commits wait some 40 ms."""
PLACE_SECONDS = 0.25
"""Fewer are, after this time."""


class KnownLog:
    """The facts of a log that appends need, as long as this process is its only writer.

    `fence` and `masks` are the head's, if they are known; while appends that name others are under
    way, so many as `claims` says, they may not be.
    """

    __slots__ = ("claims", "fence", "masks", "number")

    def __init__(self) -> None:
        self.number: int | None = None
        self.fence: Fence | None = None
        self.masks: int | None = None
        self.claims = 0

    def knows(self, fence: Fence | None, masks: int | None) -> bool:
        """Return whether the log takes both, without having to look."""
        if fence is None and masks is None:
            return True
        fits = (fence is None or fence == self.fence) and (masks is None or masks == self.masks)
        return fits and not self.claims

    def settle_claim(
        self, fence: Fence | None, masks: int | None, done: Promise[int | None]
    ) -> None:
        """Note the outcome of an append that named either; after an error it may be written."""
        self.claims -= 1
        if done.error is not None:
            self.fence = self.masks = None
        else:
            self.fence = fence or self.fence
            self.masks = self.masks if masks is None else masks


class DatabaseEventStore(EventStore):
    """Events as rows keyed `conversation number << 32 | id`, placed some time after they arrived.

    A commit writes to the end of one table, in the order of arrival; from there events are moved
    into their conversations' places many at a time. Until then readers have them from memory, and
    what memory does not hold, after a restart or an unknown outcome, is read from both tables.
    """

    folds_metadata = True

    def __init__(self, database: RowDatabase) -> None:
        self.counters = database.counters
        self._database = database
        self._logs: PageCache[str, KnownLog] = PageCache(KNOWN_LOGS)
        self._arrivals = Arrivals()
        self._placing = False
        self._turns: KeyedLocks[str] = KeyedLocks()
        """Appends to logs to whose ends somebody appends: in the order in which they came."""
        self._misplaced: set[int | None] = set()
        """Numbers of logs that have events without a place, and of which that was told.

        None stands for events whose log is not known any more.
        """
        self._place_later: TimerHandle | None = None

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
    ) -> Promise[int | None]:
        """See EventStore. One loop callback completes a whole commit."""
        write = Append(conversation_id, expected_next_id, events, summary, keys, fence, masks)
        turn = self._turns.in_use(conversation_id)
        return self._submit(write) if turn is None else Promise.of(self._wait(turn, write))

    async def append_many(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,
        keys: Mapping[int, bytes] = NO_KEYS,
    ) -> None:
        """See EventStore. The events get their places in the same commit."""
        write = Append(conversation_id, expected_next_id, events, summary, keys)
        async with self._turns.of(conversation_id):
            script = partial(write.script, in_place=True)
            await self._database.submit(script, failure=_translated)

    async def append_next(self, conversation_id: str, form: Form) -> Head:
        """See EventStore. The end is read behind all appends that were taken before it."""

        async def end() -> Head:
            read = Statement("read_checked_head", (conversation_id,))
            row = await self._write(_one(read))
            return await self._checked(conversation_id, row, self._arrivals.of(conversation_id))

        def write(next_id: int, formed: Formed) -> Promise[int | None]:
            return self._submit(Append(conversation_id, next_id, *formed))

        async with self._turns.of(conversation_id):
            return await append_at_end(conversation_id, end, form, write)

    async def _wait(self, turn: Lock, write: Append) -> int | None:
        """Append to a log to whose end somebody is appending now."""
        async with turn:
            return await self._submit(write)

    def _submit(self, write: Append) -> Promise[int | None]:
        log = self._logs.get(write.conversation_id)
        if log is None:
            log = KnownLog()
            self._logs.put(write.conversation_id, log, 1)
        fence, masks = write.fence, write.masks
        done: Promise[int | None]
        if log.number is not None and log.knows(fence, masks):
            rows = write.rows(log.number)
            done = self._database.submit_rows(rows, write.script, failure=_translated)
        else:
            done = self._database.submit(write.script, failure=_translated)
            if fence is not None or masks is not None:
                log.claims += 1
                done.then(partial(log.settle_claim, fence, masks))
        done.then(partial(self._arrived, log, write))
        return done

    def _arrived(self, log: KnownLog, write: Append, done: Promise[int | None]) -> None:
        if done.error is not None:
            return
        number = done.result()
        if number is not None:
            log.number = number
        arrivals = self._arrivals
        arrivals.add(write.conversation_id, write.events)
        if arrivals.count >= PLACE_COUNT or arrivals.size >= PLACE_BYTES:
            self._place()
        elif self._place_later is None:
            loop = asyncio.get_running_loop()
            self._place_later = loop.call_later(PLACE_SECONDS, self._place)

    def _place(self) -> None:
        if self._place_later is not None:
            self._place_later.cancel()
            self._place_later = None
        if not self._placing and not self._database.closed:
            self._placing = True
            self._arrivals.begin()
            self._database.submit(_place()).then(self._placed)

    def _placed(self, done: Promise[Sequence[Row]]) -> None:
        if isinstance(done.error, Conflict):
            # Somebody's place is taken: the others' events do not wait for that.
            self._database.submit(_place_fitting()).then(self._placed)
            return
        self._placing = False
        if done.error is None:
            self._arrivals.placed()
            self._tell_misplaced(done.result())
        else:
            logger.error("cannot move new events into their table; retrying: %s", done.error)
            self._arrivals.failed()
        if self._arrivals.count and self._place_later is None:
            loop = asyncio.get_running_loop()
            self._place_later = loop.call_later(PLACE_SECONDS, self._place)

    async def head(self, conversation_id: str) -> Head:
        """See EventStore."""
        known = self._arrivals.of(conversation_id)
        row = await self._read(_one(Statement("read_checked_head", (conversation_id,))))
        return await self._checked(conversation_id, row, known)

    async def heads(self, conversation_ids: Sequence[str]) -> list[Head]:
        """See EventStore. One read, unless a head is to be compared with events out of their place."""
        known = {one: self._arrivals.of(one) for one in conversation_ids}
        asked = Statement("read_checked_heads", (orjson.dumps(conversation_ids).decode(),))
        rows = {place: row for place, *row in await self._read(_all(asked))}
        return [
            await self._checked(one, rows.get(place), known[one])
            for place, one in enumerate(conversation_ids)
        ]

    async def _checked(
        self, conversation_id: str, row: Sequence[Any] | None, known: Sequence[StoredEvent]
    ) -> Head:
        """Return the head of a row of `read_checked_head`, once it agrees with the log's events."""
        if row is None:
            return Head(0, None, "")
        in_place = row[-1]
        head = _head_of(conversation_id, row[:-1], in_place)
        next_id = head.next_id
        # The usual cases first: all is in its place, or the newest is in memory.
        if not head.deleted and in_place != next_id - 1:
            in_memory = known[-1].id if known else None
            if in_memory != next_id - 1 or (in_place is not None and in_place >= next_id):
                await self._check_end(conversation_id)
        return head

    async def _check_end(self, conversation_id: str) -> None:
        row = await self._read(_one(Statement("read_ends", (conversation_id,))))
        if row is not None and row[0] != row[1]:
            logger.error(
                "the head of %s names %d as the next event id, but its events end before %d",
                *(conversation_id, *row),
                extra={"conversation_id": conversation_id},
            )
            raise DamagedHead(conversation_id, min(row), max(row) - 1)

    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """See EventStore."""
        return await self.read_part(conversation_id, start_id, end_id, None)

    async def read_many(self, ranges: Sequence[Range]) -> list[list[StoredEvent]]:
        """See EventStore. One read, and one more for each range with events out of their place."""
        found = {place: self._in_memory(*one) for place, one in enumerate(ranges)}
        places = [place for place, events in found.items() if events is None]
        bounds = [
            (ranges[place][0], max(0, ranges[place][1]), min(ranges[place][2] - 1, LAST_ID))
            for place in places
        ]
        rows: list[list[Row]] = [[] for _ in places]
        if places:
            query = Statement("read_ranges", (orjson.dumps(bounds).decode(),))
            for number, *row in await self._read(_all(query)):
                rows[number].append(tuple(row))
        for place, (conversation_id, first_id, last_id), read in zip(
            places, bounds, rows, strict=True
        ):
            if len(read) > last_id - first_id:
                found[place] = _verified(conversation_id, read)
            else:
                found[place] = await self.read(conversation_id, first_id, last_id + 1)
        return [events or [] for events in found.values()]

    def _in_memory(
        self, conversation_id: str, start_id: int, end_id: int
    ) -> list[StoredEvent] | None:
        """Return the events of a range that is empty or whole in memory; None where it is neither."""
        start_id = max(0, start_id)
        if end_id <= start_id or start_id > LAST_ID:
            return []
        newest = self._arrivals.of(conversation_id)
        if not newest or start_id < newest[0].id or end_id > newest[-1].id + 1:
            return None
        return newest[start_id - newest[0].id : end_id - newest[0].id]

    async def read_part(
        self, conversation_id: str, start_id: int, end_id: int, limit_bytes: int | None
    ) -> list[StoredEvent]:
        """See EventStore. What has not been placed yet is in memory and counts for nothing."""
        if end_id <= start_id or start_id > LAST_ID:
            return []
        start_id = max(0, start_id)
        newest = self._arrivals.of(conversation_id)
        if not newest or end_id <= newest[0].id or end_id > newest[-1].id + 1:
            return await self._read_rows(conversation_id, start_id, end_id, limit_bytes)
        first_id = newest[0].id
        if start_id >= first_id:
            return newest[start_id - first_id : end_id - first_id]
        known = newest[: end_id - first_id]
        older = await self._read_rows(conversation_id, start_id, first_id, limit_bytes)
        return older if _fill(limit_bytes, (one.body for one in older)) else older + known

    async def _read_rows(
        self, conversation_id: str, first: int, end_id: int, limit_bytes: int | None
    ) -> list[StoredEvent]:
        last = min(end_id - 1, LAST_ID)
        bounds = (first, conversation_id, last, conversation_id)
        rows = await self._read(_all(Statement("read_events", bounds, limit_bytes=limit_bytes)))
        if len(rows) <= last - first and not _fill(
            limit_bytes, (bytes_in(row[-1]) for row in rows)
        ):
            placed_or_not = (first, last, conversation_id)
            everywhere = Statement("read_all_events", placed_or_not, limit_bytes=limit_bytes)
            rows = await self._read(_all(everywhere))
        return _verified(conversation_id, rows)

    async def find(self, conversation_id: str, key: bytes) -> int | None:
        """See EventStore."""
        row = await self._read(_one(Statement("find_client_id_by_name", (conversation_id, key))))
        return None if row is None else int(row[0])

    async def put_asides(self, asides: Sequence[Aside]) -> None:
        """See EventStore. One commit."""
        if asides:
            await self._write(_put_asides(asides))

    async def asides(self, conversation_id: str) -> Mapping[str, bytes]:
        """See EventStore."""
        rows = await self._read(_all(Statement("read_asides", (conversation_id,))))
        found: dict[str, bytes] = {}
        for name, crc, body in rows:
            if isinstance(body, bytes) and aside_checksum(conversation_id, name, body) == crc:
                found[name] = body
            else:
                ids = {"conversation_id": conversation_id}
                logger.error("the aside %s of %s is damaged", name, conversation_id, extra=ids)
        return found

    async def refold(self, conversation_id: str, next_id: int, summary: SummaryChange) -> None:
        """See EventStore."""
        values = (*head_fields(summary, ()), conversation_id, next_id)
        await self._write(_one(Statement("refold", values)))

    async def index_keys(self, conversation_id: str, keys: Mapping[bytes, int]) -> None:
        """See EventStore. One commit."""
        await self._write(_index_keys(conversation_id, keys))

    async def delete(self, conversation_id: str) -> None:
        """See EventStore."""
        await making_room(
            self._database.reserve,
            partial(self._delete, conversation_id),
            (AppendFailed, AppendUnknown),
        )

    async def _delete(self, conversation_id: str) -> None:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        number = await self._write(_bury(conversation_id, now))
        self._arrivals.forget(conversation_id)
        await self._purge(number)

    async def place_arrivals(self) -> None:
        """Move the arrivals that an earlier process left, which makes reads faster.

        Those that cannot be moved are logged, and stay readable.
        """
        try:
            try:
                misplaced = await self._database.write(_place())
            except Conflict:
                misplaced = await self._database.write(_place_fitting())
        except StorageError:
            logger.exception("cannot move new events into their table; retrying later")
        else:
            self._tell_misplaced(misplaced)

    def _tell_misplaced(self, rows: Sequence[Row]) -> None:
        """Log, once for each log, the events whose places hold others."""
        for number, conversation_id, first_id, last_id in rows:
            if number in self._misplaced:
                continue
            self._misplaced.add(number)
            if number is None:
                logger.error("cannot move %d events into their table: they have no id", first_id)
            else:
                logger.error(
                    "cannot move events %d-%d of %s into their table: their ids are taken",
                    *(first_id, last_id, conversation_id),
                    extra={"conversation_id": conversation_id},
                )

    async def finish_deletions(self) -> int:
        """Drop what deletions cut short by a crash left over; how many logs that was.

        What cannot be dropped is logged and left for the next time.
        """
        finished = 0
        try:
            for (number,) in await self._read(_all(Statement("unpurged_conversations"))):
                await self._purge(number)
                finished += 1
        except EventsError:
            logger.exception("cannot finish interrupted deletions; retrying at the next start")
        return finished

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
            raise not_written(error) from error


def _translated(error: StorageError) -> EventsError:
    unknown = isinstance(error, OutcomeUnknown)
    failure = AppendUnknown(str(error)) if unknown else not_written(error)
    failure.__cause__ = error
    return failure


def _head_of(conversation_id: str, row: Sequence[Any], in_place: int | None = None) -> Head:
    """Return the head of a row of `read_checked_head` without its last column. Raises DamagedHead."""
    _, next_id, last_state_id, epoch, deleted_at, number, holder, updated_at, masks, asides = row
    known_ids = isinstance(next_id, int) and isinstance(last_state_id, int | None)
    if deleted_at is None and not known_ids:
        logger.error(
            "the head of %s holds what is no id",
            conversation_id,
            extra={"conversation_id": conversation_id},
        )
        raise DamagedHead(conversation_id, 0, in_place or 0)
    fence = None if holder is None else Fence(number, holder)
    told = updated_at if next_id and isinstance(updated_at, str) else ""
    deleted = deleted_at is not None
    return Head(next_id, last_state_id, epoch, deleted, fence, told, masks, asides=bool(asides))


@rerunnable
def _bury(conversation_id: str, now: str) -> Steps[int]:
    return int((yield Statement("bury_conversation", (conversation_id, now))).rows[0][0])


@rerunnable
def _place() -> Steps[Sequence[Row]]:
    placed = (yield Statement("place_arrivals")).touched
    if (yield Statement("drop_arrivals")).touched != placed:
        raise Conflict("an event has an id that is no number")
    return ()


@rerunnable
def _place_fitting() -> Steps[Sequence[Row]]:
    """Leave the arrivals whose places are taken where they are; these, by log."""
    yield Statement("place_fitting_arrivals")
    yield Statement("drop_placed_arrivals")
    return (yield Statement("arrivals_without_place")).rows


@rerunnable
def _purge(number: int) -> Steps[bool]:
    bounds = (number << KEY_BITS, number << KEY_BITS | LAST_ID)
    yield Statement("purge_arrivals", bounds)
    if (yield Statement("purge_events", (*bounds, PURGE_LIMIT))).touched > 0:
        return True
    if (yield Statement("purge_workspace_blobs", (number, PURGE_BLOBS))).touched > 0:
        return True
    yield Statement("purge_workspace", (number,))
    yield Statement("purge_client_ids", (number,))
    yield Statement("purge_asides", (number,))
    yield Statement("mark_purged", (number,))
    return False


@rerunnable
def _put_asides(asides: Sequence[Aside]) -> Steps[None]:
    for conversation_id, name, body in asides:
        if body is None:
            yield Statement("drop_aside", (name, conversation_id))
        else:
            crc = aside_checksum(conversation_id, name, body)
            yield Statement("put_aside", (name, crc, body, conversation_id))


@rerunnable
def _index_keys(conversation_id: str, keys: Mapping[bytes, int]) -> Steps[None]:
    rows = [(digest, event_id, conversation_id) for digest, event_id in keys.items()]
    yield Statement("index_key", rows, many=True)


@rerunnable
def _one(statement: Statement) -> Steps[Row | None]:
    rows = (yield statement).rows
    return rows[0] if rows else None


@rerunnable
def _all(statement: Statement) -> Steps[list[Row]]:
    return (yield statement).rows


def _fill(limit_bytes: int | None, bodies: Iterable[bytes]) -> bool:
    return limit_bytes is not None and sum(map(len, bodies)) >= limit_bytes


def _verified(conversation_id: str, rows: list[Row]) -> list[StoredEvent]:
    events: list[StoredEvent] = []
    damaged: list[int] = []
    for event_id, version, flag, crc, body in rows:
        if version != FORMAT_VERSION or not _is_sound(event_id, crc, body):
            damaged.append(event_id)
        else:
            events.append(StoredEvent(event_id, flag, body))
    if damaged:
        raise DamagedRecord(conversation_id, damaged[0], damaged[-1], events)
    return events


def _is_sound(event_id: int, crc: int, body: object) -> bool:
    # A damaged row may hold a value of any type.
    return isinstance(body, bytes | bytearray) and zlib.crc32(body, event_id) == crc
