"""Forms batches, submits them to the store one at a time, and resolves every outcome."""

import asyncio
import logging
import re
from asyncio import AbstractEventLoop, Future, Task, TimerHandle
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from zlib import crc32

import orjson

from events.batch import Appended, AppendQueue, Batch, Draft, Settled, Waiting
from events.damage import with_markers
from events.errors import (
    AppendConflict,
    AppendFailed,
    AppendUnknown,
    ConversationDeleted,
    DamagedHead,
    DamagedRecord,
    DuplicateClientId,
    EventsError,
    Fenced,
    LogShortened,
    MasksChanged,
    StoreUnavailable,
)
from events.event import STATE, StoredEvent
from events.fence import Fence
from events.stores.base import EventStore, Formed, Head
from events.summary import SummaryChange, fold
from storage.promise import Promise

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0
T = TypeVar("T")

READ_EVENTS = 1_000
"""Events of another writer that are read and published together."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)

Publish = Callable[[Sequence[StoredEvent], SummaryChange, int], None]
"""Receives committed events, their fold, and their approximate size in bytes."""


class AppendPump:
    """The serial section of one conversation: at most one batch is in flight.

    It runs in loop callbacks; a task exists only while an unknown outcome is resolved by reading
    the tail back, while a batch that met a conflict waits to be appended at the log's end, or
    while what another writer appended is read. Until that is done nothing further is submitted.
    """

    def __init__(
        self,
        conversation_id: str,
        store: EventStore,
        head: Head,
        *,
        queue: AppendQueue,
        append_seconds: float,
        publish: Publish,
        masks_changed: Callable[[int], None] | None = None,
        shortened: Callable[[LogShortened], None] | None = None,
    ) -> None:
        self.next_id = head.next_id
        self.last_state_id = head.last_state_id
        self.last_mark: int | None = None
        """The checksum of the event published last; None before the first."""
        self._conversation_id = conversation_id
        self._ids = {"conversation_id": conversation_id}
        self._store = store
        self._append_seconds = append_seconds
        self._publish = publish
        self._queue = queue
        self._in_flight: Batch | None = None
        self._attempts: list[Promise[Any]] = []
        self._deadline: TimerHandle | None = None
        self._due = 0.0
        self._scheduled = False
        self._loop: AbstractEventLoop | None = None
        self._recovery: Task[None] | None = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._last_timestamp = ""
        self._idle: Promise[None] | None = None
        self._stopped: EventsError | None = None
        self._wanted = 0
        """The next id of the log as reported by others; 0 once that is published."""
        self._reading: Task[None] | None = None
        self._waiting_for: list[tuple[int, Future[None]]] = []
        self._masks_changed = masks_changed
        self._shortened = shortened
        self._masks_learned: Future[None] | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing is queued or in flight."""
        return self._in_flight is None and not self._queue.waiting

    def put(
        self,
        draft: Draft,
        digest: bytes | None,
        caller: Settled,
        own: bool = False,  # noqa: FBT001, FBT002 - see EventStream.submit
        fence: Fence | None = None,
    ) -> None:
        """Queue an event; see AppendQueue.put. Raises what `stop` was given."""
        if self._stopped is not None:
            raise self._stopped
        self._queue.put(draft, digest, caller, own, fence)
        if self._in_flight is None and not self._scheduled:
            # What else this turn of the loop brings goes into the same batch.
            self._scheduled = True
            if self._loop is None:
                self._loop = asyncio.get_running_loop()  # each time it would be a system call
            self._loop.call_soon(self._pump)

    def reach(self, next_id: int, reached: Future[None] | None = None) -> None:
        """Read what another writer appended below `next_id` and publish it, after what is in flight.

        `reached` is done when it is published or the pump is stopped, and has StoreUnavailable or
        DamagedHead when it cannot be read. Nothing is tried again unless somebody asks again.
        """
        if reached is not None:
            self._waiting_for.append((next_id, reached))
        self._wanted = max(self._wanted, next_id)
        self._pump()

    def reached(self, events: Sequence[StoredEvent]) -> None:
        """Publish events of another writer, if they directly follow the published end."""
        unseen = [one for one in events if one.id >= self.next_id]
        if self._busy or self._reading is not None:
            self.reach(events[-1].id + 1)
        elif unseen and unseen[0].id == self.next_id and self._stopped is None:
            self._take_over(unseen)

    @property
    def masks(self) -> int | None:
        """The version of the masks of waiting events; None before one was learned."""
        return self._queue.masks

    def learn_masks(self, version: int, remask: Callable[[Waiting], None]) -> None:
        """Name that version in every batch formed from now on, with its events masked again."""
        self._queue.masks = max(version, self._queue.masks or 0)
        if self._in_flight is not None:
            for one in self._in_flight.waiting:  # it may come back
                remask(one)
        self._queue.remask(remask)
        learned, self._masks_learned = self._masks_learned, None
        if learned is not None and not learned.done():  # who waited may have been given up
            learned.set_result(None)

    def stop(self, reason: EventsError) -> None:
        """Accept no more events; accepted ones proceed."""
        self._stopped = self._stopped or reason

    def shorten(self, next_id: int) -> LogShortened:
        """Take nothing more: the log ends at `next_id`, before what was published here.

        What waits is told LogShortened, which is returned.
        """
        error = LogShortened(self._conversation_id, next_id, self.next_id - 1)
        self._abandon(error)
        return error

    @property
    def shortened(self) -> LogShortened | None:
        """The error that tells which events are gone; None while the log has all of them."""
        return self._stopped if isinstance(self._stopped, LogShortened) else None

    async def drain(self, seconds: float) -> None:
        """Wait after `stop` for accepted events, then fail the rest with the reason."""
        self._pump()
        if self._busy or self._reading is not None:
            self._idle = self._idle or Promise()
            await asyncio.wait([self._idle.future()], timeout=seconds)
        self._abandon(self._stopped or AppendUnknown("given up"))

    @property
    def _busy(self) -> bool:
        """Whether a batch has no outcome yet, or waits to be appended at the log's end."""
        return self._in_flight is not None or self._recovery is not None

    def _pump(self) -> None:
        self._scheduled = False
        if self._busy:
            return
        if self._wanted and self._reads_on():
            return
        self._submit_next()

    def _submit_next(self) -> None:
        if self._queue.waiting:
            batch = self._queue.form(self.next_id, self._last_timestamp)
            self._attempts = []
            self._submit(batch)
        elif self._idle is not None:
            self._idle.resolve(None)

    def _submit(self, batch: Batch) -> None:
        self._in_flight = batch
        attempt = Promise.of(
            self._store.append(
                self._conversation_id,
                batch.first_id,
                batch.events,
                summary=batch.summary,
                keys=batch.keys,
                fence=batch.fence,
                masks=batch.masks,
            )
        )
        self._attempts.append(attempt)
        if not attempt.done:
            loop = self._loop = self._loop or asyncio.get_running_loop()
            self._due = loop.time() + self._append_seconds
            if self._deadline is None:
                self._deadline = loop.call_at(self._due, self._check_deadline)
        attempt.then(partial(self._settled, batch))

    def _check_deadline(self) -> None:
        """Handle the deadline of whichever batch is in flight: one timer serves all batches."""
        self._deadline = None
        if self._in_flight is None or self._recovery is not None or self._attempts[-1].done:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._due:
            self._deadline = loop.call_at(self._due, self._check_deadline)
        else:
            self._recover(AppendUnknown(f"no outcome within {self._append_seconds:g} s"))

    def _settled(self, batch: Batch, attempt: Promise[object]) -> None:
        error = attempt.error
        if self._in_flight is not batch or self._recovery is not None:
            return  # its outcome is being, or has been, read from the log
        if error is not None and attempt is not self._attempts[-1]:
            return  # given up at its deadline; the one that followed decides
        if isinstance(error, AppendConflict) and len(self._attempts) == 1:
            self._take_back(batch)
            self._recovery = asyncio.get_running_loop().create_task(self._append_next())
        else:
            self._settle(batch, error)

    def _settle(self, batch: Batch, error: Exception | None) -> None:
        """Resolve the outcome of a batch's newest attempt, once everything before it is published."""
        match error:
            case None:
                self._committed(batch)
            case DuplicateClientId(taken=taken):
                self._end(batch)
                for place, event_id in taken.items():
                    self._queue.settle(batch.waiting[place], Appended(event_id, duplicate=True))
                rest = (one for place, one in enumerate(batch.waiting) if place not in taken)
                self._queue.put_back(rest)
                self._pump()
            case Fenced() if batch.fence is not None:
                # No earlier attempt of the batch can land any more: it carried the same claim.
                self._fail_some(batch, error, lambda one: one.fence is not None)
            case MasksChanged() if batch.masks is not None:
                self._recovery = asyncio.get_running_loop().create_task(self._renew(batch, error))
            case AppendFailed() | DamagedHead() | Fenced() | MasksChanged() if all(
                one.done for one in self._attempts
            ):
                self._failed(batch, error)
            case DamagedRecord() if batch.keys and all(one.done for one in self._attempts):
                # Nobody can say whether these keys were used. That is not mended by waiting.
                logger.error(
                    "append to %s failed: %s", self._conversation_id, error, extra=self._ids
                )
                self._store.counters.append_failed(len(batch.keys))
                self._fail_some(batch, error, lambda one: one.digest is not None)
            case ConversationDeleted():
                self._abandon(error)
            case _:
                self._recover(error)

    async def _append_next(self) -> None:
        """Append at the log's end, wherever that is by then, and publish first what others wrote.

        A conflict is no accident: another writer is at work, and trying again alone may always lose.
        """
        call = await self._append_at_end()
        while call.batch is None or call.head is None:
            error = call.error
            if isinstance(error, ConversationDeleted | DamagedHead | LogShortened):
                self._abandon(error)
                return
            if isinstance(error, AppendFailed):
                self._recovery = None
                self._failed(self._queue.form(self.next_id, self._last_timestamp), error)
                return
            logger.warning(
                "nothing was appended to %s behind another writer; trying again: %r",
                self._conversation_id,
                error,
                extra=self._ids,
            )
            await self._pause()
            call = await self._append_at_end()
        try:
            while self.next_id < call.head.next_id:
                events = await self._insist(partial(self._read_part, call.head.next_id))
                if not events:
                    self._abandon(ConversationDeleted(self._conversation_id))
                    return
                self._take_over(events)
        except DamagedHead as damage:
            self._abandon(damage)
            return
        self._recovery = None
        self._attempts = [call.attempt]
        self._settle(call.batch, call.error)

    async def _append_at_end(self) -> "NextAppend":
        """Call `append_next`, and wait for its outcome at most so long as for any other."""
        call = NextAppend(self._form)
        call.attempt = Promise.of(self._store.append_next(self._conversation_id, call.form))
        try:
            async with asyncio.timeout(self._append_seconds):
                await call.attempt
        except Exception:  # noqa: BLE001, S110 - the call tells it
            pass
        finally:
            call.ended = True
        return call

    def _form(self, head: Head) -> Batch:
        """Form the next batch for an end of the log; put back one formed for an earlier end first."""
        before = self._in_flight
        if before is not None:
            self._take_back(before)
        if head.next_id < self.next_id:
            # Events behind that end were committed: they were published here.
            raise LogShortened(self._conversation_id, head.next_id, self.next_id - 1)
        if not self._queue.waiting:
            raise AppendFailed("nothing is left to be appended")  # it was given up
        batch = self._queue.form(
            head.next_id, max(self._last_timestamp, _moment_in(head.last_timestamp))
        )
        self._in_flight = batch
        return batch

    def _committed(self, batch: Batch) -> None:
        self._end(batch)
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._last_timestamp = batch.timestamp
        self._store.counters.events += len(batch.events)
        self._advance(batch.events)
        for one, event in zip(batch.waiting, batch.events, strict=True):
            if one.digest is not None:
                self._queue.release(one.digest)
            one.settle(Appended(event.id))
        self._publish(batch.events, batch.summary, batch.size_bytes)
        if self._queue.waiting or self._wanted or self._idle is not None:
            self._pump()

    def _end(self, batch: Batch) -> None:
        self._in_flight = None
        self._queue.end(batch)

    def _take_back(self, batch: Batch) -> None:
        """Queue the events of a batch again, in front of all others."""
        self._end(batch)
        self._queue.put_back(batch.waiting)

    def _advance(self, events: Sequence[StoredEvent]) -> None:
        self.next_id = events[-1].id + 1
        self.last_mark = crc32(events[-1].body)
        for event in events:
            if event.flag == STATE:
                self.last_state_id = event.id

    def _failed(self, batch: Batch, error: Exception) -> None:
        logger.error("append to %s failed: %s", self._conversation_id, error, extra=self._ids)
        self._store.counters.append_failed(len(batch.events))
        self._end(batch)
        for one in batch.waiting:
            self._queue.fail(one, error)
        self._pump()

    def _fail_some(
        self, batch: Batch, error: EventsError, concerned: Callable[[Waiting], bool]
    ) -> None:
        """Fail those events of a batch that an error concerns; the others go on without them."""
        self._end(batch)
        self._queue.put_back(one for one in batch.waiting if not concerned(one))
        for one in batch.waiting:
            if concerned(one):
                self._queue.fail(one, error)
        self._pump()

    async def _renew(self, batch: Batch, error: MasksChanged) -> None:
        """Ask for the masks that came since the batch was formed, and form it anew under them.

        No earlier attempt of it can land any more: it had the same masks.
        """
        try:
            async with asyncio.timeout(self._append_seconds):
                while (self.masks or 0) < error.version:
                    self._masks_learned = learned = asyncio.get_running_loop().create_future()
                    if self._masks_changed is not None:
                        self._masks_changed(error.version)
                    await learned
        except TimeoutError:
            self._recovery = self._masks_learned = None
            self._failed(batch, error)
            return
        self._recovery = None
        self._take_back(batch)
        self._pump()

    def _abandon(self, error: EventsError) -> None:
        shortens = isinstance(error, LogShortened) and self.shortened is None
        self._stopped = error if shortens else self._stopped or error
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        recovery, self._recovery = self._recovery, None
        if recovery is not None and recovery is not asyncio.current_task():
            recovery.cancel()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        batch = self._in_flight
        if batch is not None:
            self._end(batch)
            for one in batch.waiting:
                self._queue.fail(one, error)
        self._queue.fail_all(error)
        self._pump()
        if shortens and isinstance(error, LogShortened) and self._shortened is not None:
            self._shortened(error)

    def _recover(self, error: Exception) -> None:
        if not isinstance(error, AppendConflict):
            logger.warning(
                "unknown outcome of an append to %s: %s; reading the log back",
                self._conversation_id,
                error,
                extra=self._ids,
            )
            self._store.counters.append_unknown()
        task = asyncio.get_running_loop().create_task(self._resolve(error))
        self._recovery = task

    async def _resolve(self, error: Exception) -> None:
        """Read the tail back until it shows the outcome of the batch in flight."""
        batch = self._in_flight
        if batch is None:
            return
        try:
            tail = await self._read_tail(batch.first_id)
        except (DamagedHead, LogShortened) as error_of_log:
            self._recovery = None
            self._abandon(error_of_log)
            return
        self._recovery = None
        if tail is None:
            self._abandon(ConversationDeleted(self._conversation_id))
        elif list(tail[: len(batch.events)]) == list(batch.events):
            self._committed(batch)
        elif tail:
            self._overtaken(batch, tail)
        elif isinstance(error, AppendConflict):
            self._failed(batch, AppendFailed(f"the log ends before the expected id: {error}"))
        else:
            self._submit(batch)

    def _overtaken(self, batch: Batch, tail: Sequence[StoredEvent]) -> None:
        """Handle a conflict: publish the other writer's events, then try again after them."""
        self._take_back(batch)
        self._take_over(tail)
        self._pump()

    def _take_over(self, tail: Sequence[StoredEvent]) -> None:
        """Publish events of another writer after the newest event known here."""
        self._advance(tail)
        self._last_timestamp = max(self._last_timestamp, _timestamp_of(tail[-1]))
        self._publish(tail, _fold_of(tail), sum(len(event.body) for event in tail))
        self._tell_reached()

    def _reads_on(self) -> bool:
        """Return whether a read is in progress; drop wants that are already satisfied."""
        if self._reading is not None:
            return True
        if self._wanted <= self.next_id or self._stopped is not None:
            self._wanted = 0
            self._tell_reached()
            return False
        self._reading = asyncio.get_running_loop().create_task(self._read_on())
        return True

    async def _read_on(self) -> None:
        first_id = self.next_id
        end_id = min(self._wanted, first_id + READ_EVENTS)
        error: EventsError | None = None
        events: Sequence[StoredEvent] = ()
        try:
            async with asyncio.timeout(self._append_seconds):
                events = await self._read(first_id, end_id)
        except (EventsError, TimeoutError) as failure:
            error = failure if isinstance(failure, EventsError) else None
            logger.warning(
                "cannot read the log of %s on: %r", self._conversation_id, failure, extra=self._ids
            )
        except Exception:
            logger.exception("cannot read the log of %s on", self._conversation_id, extra=self._ids)
        if self._reading is not asyncio.current_task():
            return  # abandoned
        self._reading = None
        if events and events[0].id == first_id:
            self._take_over(events)
        else:
            self._wanted = 0
            self._tell_reached(error or StoreUnavailable(f"event {first_id} cannot be read"))
        # What waits here has its turn before more is read, however fast the other appends.
        if self._queue.waiting:
            self._submit_next()
        else:
            self._pump()

    def _tell_reached(self, error: EventsError | None = None) -> None:
        """Resolve waiters whose id is reached; all if there is nothing to wait for."""
        waiting, self._waiting_for = self._waiting_for, []
        for next_id, reached in waiting:
            if next_id > self.next_id and self._wanted:
                self._waiting_for.append((next_id, reached))
            elif reached.done():
                continue
            elif error is not None and next_id > self.next_id:
                reached.set_exception(error)
            else:
                reached.set_result(None)

    async def _read(self, first_id: int, end_id: int) -> Sequence[StoredEvent]:
        """Return stored events; a marker stands for a damaged one, as for readers."""
        read = self._store.read(self._conversation_id, first_id, end_id)
        events, damage = await with_markers(read, first_id, end_id)
        if damage is not None:
            logger.error("%s; going on behind them", damage, extra=self._ids)
        return events

    async def _read_tail(self, first_id: int) -> Sequence[StoredEvent] | None:
        """Return events from `first_id` on; None when the log is deleted. Retries without a limit.

        Raises DamagedHead: the end of the log will not be known by waiting; and LogShortened.
        """

        async def tail() -> Sequence[StoredEvent] | None:
            head = await self._store.head(self._conversation_id)
            if head.deleted:
                return None
            if head.next_id < self.next_id:
                raise LogShortened(self._conversation_id, head.next_id, self.next_id - 1)
            if head.next_id <= first_id:
                return ()
            return await self._read(first_id, head.next_id)

        await self._pause()
        return await self._insist(tail)

    async def _read_part(self, end_id: int) -> Sequence[StoredEvent]:
        """Return some of the next events to publish; none when the log is deleted.

        Raises StoreUnavailable where the next one is missing.
        """
        first_id = self.next_id
        events = await self._read(first_id, min(end_id, first_id + READ_EVENTS))
        if events and events[0].id == first_id:
            return events
        if (await self._store.head(self._conversation_id)).deleted:
            return ()
        raise StoreUnavailable(f"event {first_id} cannot be read")

    async def _insist(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read until it succeeds. Raises DamagedHead, LogShortened: they are not mended by waiting."""
        while True:
            try:
                async with asyncio.timeout(self._append_seconds):
                    return await read()
            except (DamagedHead, LogShortened):
                raise
            except (EventsError, TimeoutError) as error:
                logger.warning(
                    "cannot read the log of %s back: %r",
                    self._conversation_id,
                    error,
                    extra=self._ids,
                )
            except Exception:  # giving up would hold the whole conversation up for ever
                logger.exception(
                    "cannot read the log of %s back", self._conversation_id, extra=self._ids
                )
            await self._pause()

    async def _pause(self) -> None:
        seconds = self._pause_seconds
        self._pause_seconds = min(seconds * 2, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(seconds)


class NextAppend:
    """One call of `append_next`: `batch` is what was formed last, for the end `head`."""

    attempt: Promise[Head]

    def __init__(self, form: Callable[[Head], Batch]) -> None:
        self._form = form
        self.head: Head | None = None
        self.batch: Batch | None = None
        self.ended = False
        """Nobody waits for it any more: nothing further may be formed."""

    def form(self, head: Head) -> Formed:
        """Form the batch for that end. Raises AppendFailed when nothing is to be written there."""
        if self.ended:
            raise AppendFailed("its time was up")
        self.batch = None
        batch = self._form(head)
        self.head, self.batch = head, batch
        return Formed(batch.events, batch.summary, batch.keys, batch.fence, batch.masks)

    @property
    def error(self) -> Exception | None:
        """The error that kept it from the log, as far as that is known now; None if it was written."""
        if self.attempt.done:
            return self.attempt.error
        return AppendUnknown("there was no outcome in time")


def _fold_of(events: Sequence[StoredEvent]) -> SummaryChange:
    summary = SummaryChange()
    for event in events:
        summary = fold(summary, event.id, orjson.loads(event.body))
    return summary


def _timestamp_of(event: StoredEvent) -> str:
    return _moment_in(orjson.loads(event.body).get("timestamp"))


def _moment_in(stored: object) -> str:
    """Return a valid timestamp unchanged, else "", since it is written into events' JSON."""
    return stored if isinstance(stored, str) and _MOMENT.fullmatch(stored) else ""
