"""The event store over PostgreSQL: the head row of a log decides every append, whoever makes it."""

import asyncio
import logging
import zlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from events.errors import (
    AppendFailed,
    AppendUnknown,
    ConversationDeleted,
    DamagedHead,
    DamagedRecord,
    EventsError,
    StoreUnavailable,
)
from events.event import StoredEvent
from events.fence import Fence
from events.stores.base import (
    NEXT_TRIES,
    NO_KEYS,
    Aside,
    EventStore,
    Form,
    Head,
    Range,
    not_written,
)
from events.stores.postgres.append import DIGEST_BYTES, FORMAT_VERSION, Append, checksum
from events.stores.postgres.group import LOCK_SECONDS, GroupAppends, append_in
from events.stores.postgres.pages import PAGE_EVENTS, PAGE_VERSION, unpacked
from events.stores.postgres.sealer import Sealer
from events.summary import SummaryChange, head_fields
from storage.database.base import Row
from storage.database.outcomes import Rerun
from storage.database.postgres import PostgresPool, Role, Session, number_of
from storage.errors import OutcomeUnknown, StorageError
from storage.promise import Promise

logger = logging.getLogger(__name__)

LAST_ID = 2**31 - 1
PURGES = {"purge_events": 2_000, "purge_pages": 20}
"""Maximum number of rows deleted in one commit, so that none takes long."""
UNSURE_SECONDS = 60.0
"""A log is read behind a barrier for so long after an append of unknown outcome."""


class PostgresEventStore(EventStore):
    """Events as rows keyed by their log's number and their id, appended in groups, and sealed in pages.

    Other processes may append to the same logs. Nothing about a log is remembered between calls,
    but for an append of unknown outcome: until another is acknowledged, the log is read behind a
    barrier, a commit of its own that is as durable as an acknowledgement, so that nothing is told
    of as written that a standby may not have.
    """

    folds_metadata = True

    def __init__(self, pool: PostgresPool, *, page_events: int = PAGE_EVENTS) -> None:
        self.counters = pool.counters
        self._pool = pool
        self._appends = GroupAppends(pool, self._told)
        self._sealer = Sealer(pool, page_events, lambda: self._appends.busy)
        self._loop = asyncio.get_running_loop()
        self.appended: Callable[[int, int], None] | None = None
        """Called with a log's number and its new end after each append of this process, in the step
        that settles it; must neither wait nor raise."""
        self._unsure: dict[int, float] = {}
        """Numbers of logs with an append of unknown outcome, and when that was."""
        self._tasks: set[asyncio.Task[Head]] = set()

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
        """See EventStore. One loop callback completes a whole statement."""
        number = number_of(conversation_id)
        write = Append(
            *(number, conversation_id, expected_next_id, events, summary, keys, fence, masks)
        )
        return self._appends.submit(write)

    def _told(self, write: Append, refusal: EventsError | None) -> None:
        if refusal is None:
            self._written(write.number, write.expected, len(write.events))
        elif isinstance(refusal, AppendUnknown):
            self._unsure[write.number] = self._loop.time()

    def _written(self, number: int, next_id: int, count: int) -> None:
        if self._unsure:
            self._unsure.pop(number, None)
        self._sealer.appended(number, next_id, count)
        if self.appended is not None:
            self.appended(number, next_id + count)

    async def append_next(self, conversation_id: str, form: Form) -> Head:
        """See EventStore. The lock of the head is held meanwhile, for which others wait in a row."""
        call = NextAppend(conversation_id, form)
        task = self._loop.create_task(self._append_next(call))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            call.given_up = True
            raise

    def _ended(self, task: "asyncio.Task[Head]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.debug("an append at the end failed: %r", task.exception())

    async def _append_next(self, call: "NextAppend") -> Head:
        await self._appends.enter(call.number)
        try:
            for _ in range(NEXT_TRIES):
                if call.given_up:
                    raise AppendFailed("the caller has given up")
                try:
                    head = await self._pool.lend(Role.RECORD, call.work)
                except Rerun:
                    continue
                self._written(call.number, head.next_id, call.count)
                return head
            raise AppendFailed(f"in the way of others {NEXT_TRIES} times")
        except OutcomeUnknown as error:
            self._unsure[call.number] = self._loop.time()
            raise AppendUnknown(str(error)) from error
        except StorageError as error:
            raise (not_written(error) if call.formed else StoreUnavailable(str(error))) from error
        finally:
            self._appends.leave(call.number)

    async def head(self, conversation_id: str) -> Head:
        """See EventStore."""
        return (await self.heads([conversation_id]))[0]

    async def heads(self, conversation_ids: Sequence[str]) -> list[Head]:
        """See EventStore. One read."""
        if not conversation_ids:
            return []
        numbers = [number_of(one) for one in conversation_ids]
        rows = await self._read(numbers, "read_heads", numbers, conversation_ids)
        found = {row[0]: row[1:] for row in rows}
        for place, (next_id, *_, sealed) in found.items():
            self._sealer.seen(numbers[place - 1], next_id, sealed)
        return [
            head_of(one, found.get(place)) for place, one in enumerate(conversation_ids, start=1)
        ]

    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """See EventStore."""
        return await self.read_part(conversation_id, start_id, end_id, None)

    async def read_part(
        self, conversation_id: str, start_id: int, end_id: int, limit_bytes: int | None
    ) -> list[StoredEvent]:
        """See EventStore."""
        first_id, last_id = max(0, start_id), min(end_id - 1, LAST_ID)
        if last_id < first_id:
            return []
        number = number_of(conversation_id)
        if limit_bytes is not None:
            limit_bytes = max(1, limit_bytes)  # the first event comes whatever may be read
        rows = await self._read(
            *([number], "read_events", number, conversation_id, first_id, last_id, limit_bytes)
        )
        events = _verified(conversation_id, first_id, last_id, rows)
        return events if limit_bytes is None else _up_to(limit_bytes, events)

    async def read_many(self, ranges: Sequence[Range]) -> list[list[StoredEvent]]:
        """See EventStore. One read."""
        if not ranges:
            return []
        names = [one for one, _, _ in ranges]
        numbers = [number_of(one) for one in names]
        firsts = [min(max(0, start_id), LAST_ID) for _, start_id, _ in ranges]
        lasts = [max(-1, min(end_id - 1, LAST_ID)) for _, _, end_id in ranges]
        rows: list[list[Row]] = [[] for _ in ranges]
        for place, *row in await self._read(numbers, "read_ranges", numbers, names, firsts, lasts):
            rows[place - 1].append(tuple(row))
        return [_verified(*one) for one in zip(names, firsts, lasts, rows, strict=True)]

    async def find(self, conversation_id: str, key: bytes) -> int | None:
        """See EventStore."""
        number = number_of(conversation_id)
        rows = await self._read(
            [number], "find_client_id", number, key[:DIGEST_BYTES], conversation_id
        )
        return int(rows[0][0]) if rows else None

    async def put_asides(self, asides: Sequence[Aside]) -> None:
        """See EventStore. One commit."""
        newest = {(one.conversation_id, one.name): one.body for one in asides}
        if not newest:
            return
        rows = [
            (number_of(one), one, name, None if body is None else zlib.crc32(body), body)
            # In one order for all, so that two that put the same wait for each other in no circle.
            for (one, name), body in sorted(newest.items(), key=lambda aside: aside[0])
        ]
        await self._write("put_asides", *(list(column) for column in zip(*rows, strict=True)))

    async def asides(self, conversation_id: str) -> Mapping[str, bytes]:
        """See EventStore."""
        number = number_of(conversation_id)
        found: dict[str, bytes] = {}
        for name, crc, body in await self._read([number], "read_asides", number, conversation_id):
            if zlib.crc32(body) == crc:
                found[name] = body
            else:
                ids = {"conversation_id": conversation_id}
                logger.error("the aside %s of %s is damaged", name, conversation_id, extra=ids)
        return found

    async def refold(self, conversation_id: str, next_id: int, summary: SummaryChange) -> None:
        """See EventStore. One commit."""
        fields = head_fields(summary, ())
        await self._write("refold", number_of(conversation_id), conversation_id, next_id, *fields)

    async def index_keys(self, conversation_id: str, keys: Mapping[bytes, int]) -> None:
        """See EventStore. One commit."""
        digests = [one[:DIGEST_BYTES] for one in keys]
        number = number_of(conversation_id)
        await self._write("index_keys", number, conversation_id, digests, [*keys.values()])

    def when_failed_over(self, callback: Callable[[], None]) -> None:
        """See EventStore. A standby that is promoted may lack the newest commits of its primary."""
        self._pool.when_failed_over(callback)

    async def delete(self, conversation_id: str) -> None:
        """See EventStore."""
        number = number_of(conversation_id)
        await self._write("bury_log", number, conversation_id)
        await self._purge(number)

    async def finish_deletions(self) -> int:
        """Drop what deletions cut short by a crash left over; return how many logs that was.

        What cannot be dropped is logged and left for the next time.
        """
        finished = 0
        try:
            for (number,) in await self._read([], "unpurged_logs"):
                await self._purge(number)
                finished += 1
        except EventsError:
            logger.exception("cannot finish interrupted deletions; retrying at the next start")
        return finished

    async def finish_sealing(self) -> None:
        """Wait until every page that is known to be due is sealed, or PostgreSQL is away."""
        await self._sealer.finish()

    async def close(self) -> None:
        """Take no more appends, and wait until those taken have their outcomes."""
        await self._appends.close()
        await self._sealer.close()

    async def _purge(self, number: int) -> None:
        for query, limit in PURGES.items():
            purged = limit
            while purged == limit:
                ((purged,),) = await self._write(query, number, limit)
        await self._write("purge_rest", number)

    async def _read(self, numbers: Sequence[int], query: str, *arguments: object) -> Sequence[Row]:
        try:
            if self._unsure and self._is_unsure(numbers):
                work = partial(_behind_barrier, query, arguments)
                return await self._pool.run(Role.RECORD, work)
            return await self._pool.fetch(Role.READ, query, *arguments)
        except StorageError as error:
            raise StoreUnavailable(str(error)) from error

    def _is_unsure(self, numbers: Sequence[int]) -> bool:
        due = self._loop.time() - UNSURE_SECONDS
        while self._unsure and next(iter(self._unsure.values())) < due:
            del self._unsure[next(iter(self._unsure))]
        return any(number in self._unsure for number in numbers)

    async def _write(self, query: str, *arguments: object) -> Sequence[Row]:
        try:
            return await self._pool.fetch(Role.RECORD, query, *arguments)
        except OutcomeUnknown as error:
            raise AppendUnknown(str(error)) from error
        except StorageError as error:
            raise not_written(error) from error


class NextAppend:
    """One call of `append_next`."""

    def __init__(self, conversation_id: str, form: Form) -> None:
        self.conversation_id = conversation_id
        self.number = number_of(conversation_id)
        self.given_up = False
        self.formed = False
        self.count = 0
        """Events that were formed."""
        self._form = form

    async def work(self, session: Session) -> Head:
        """Lock the log's end, form the events for it, and append them, in one transaction."""
        async with session.transaction(LOCK_SECONDS):
            head = await self._locked(session)
            if head.deleted:
                raise ConversationDeleted(self.conversation_id)
            self.formed = True
            formed = self._form(head)
            self.count = len(formed.events)
            await append_in(
                session, Append(self.number, self.conversation_id, head.next_id, *formed)
            )
        return head

    async def _locked(self, session: Session) -> Head:
        named = (self.number, self.conversation_id)
        while not await session.fetch("lock_head", self.number):
            if await session.fetch("create_head", *named):
                return Head(0, None, "")  # of no log, until the commit
        # In a statement of its own, which sees what the one who had the lock has written.
        rows = await session.fetch("read_heads", [named[0]], [named[1]])
        if not rows:
            raise AppendFailed(f"{named[1]} cannot be used: its number is another id's")
        return head_of(self.conversation_id, rows[0][1:])


async def _behind_barrier(query: str, arguments: Sequence[object], session: Session) -> list[Row]:
    """Read, and then commit: when that is acknowledged, so is all that was read."""
    rows = await session.fetch(query, *arguments)
    await session.fetch("pass_barrier")
    return rows


def head_of(conversation_id: str, row: Sequence[Any] | None) -> Head:
    """Return the head of a row of `read_heads` without its place. Raises DamagedHead."""
    if row is None:
        return Head(0, None, "")
    next_id, last_state_id, epoch, state, number, holder, moment, masks, asides, newest, _ = row
    if not state and newest != next_id - 1:
        end = newest + 1
        logger.error(
            "the head of %s names %d as the next event id, but its events end before %d",
            *(conversation_id, next_id, end),
            extra={"conversation_id": conversation_id},
        )
        raise DamagedHead(conversation_id, min(next_id, end), max(next_id, end) - 1)
    fence = None if number is None else Fence(number, holder)
    told = moment or ""
    return Head(next_id, last_state_id, epoch, state > 0, fence, told, masks, asides=asides)


def _verified(
    conversation_id: str, first_id: int, last_id: int, rows: Sequence[Row]
) -> list[StoredEvent]:
    """Return the events of parts of a log, from one id to another. Raises DamagedRecord."""
    events: list[StoredEvent] = []
    damaged: list[int] = []
    for event_id, version, flag, crc, body in rows:
        if version == FORMAT_VERSION and checksum(event_id, body) == crc:
            events.append(StoredEvent(event_id, flag, body))
        elif version == PAGE_VERSION and flag > 0:
            begin = max(0, first_id - event_id)
            page = unpacked(event_id, flag, body)[begin : last_id + 1 - event_id]
            sound = [event for event in page if event is not None]
            if len(sound) < len(page):
                found = enumerate(page, event_id + begin)
                damaged += [found_id for found_id, event in found if event is None]
            events += sound
        else:
            damaged.append(event_id)
    if damaged:
        raise DamagedRecord(conversation_id, damaged[0], damaged[-1], events)
    return events


def _up_to(limit_bytes: int, events: list[StoredEvent]) -> list[StoredEvent]:
    """Return the events that end with the one that makes the bodies together so long."""
    sizes = accumulate([len(event.body) for event in events])
    return events[: bisect_left([*sizes], limit_bytes) + 1]
