"""Keeps the open streams of a process up with logs to which other processes append."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from events.errors import DamagedRecord, EventsError
from events.log_ends import HEADS_AT_ONCE, compare_ends
from events.stores.base import EventStore, Range
from events.stream import EventStream

logger = logging.getLogger(__name__)

LOGS_AT_ONCE = 64
"""Logs that are read together."""
EVENTS_AT_ONCE = 1_000
"""Events that are read together, of all of them."""
READ_SECONDS = 10.0


class Follower:
    """Brings streams up to date with logs that other processes write; one per process.

    A ring says that a log has come so far. Rings are hints: they may be lost, doubled, late or
    wrong, and `run` looks at all ends besides, every `look_seconds`, or every `calm_seconds` while
    the doorbell says that it hears. Enter a stream before its head is read, or look at it after.

    What lies behind is read for many streams at a time, by a task that exists only as long as
    something does. A range that cannot be read is left to the next ring or look.
    """

    def __init__(
        self, store: EventStore, *, look_seconds: float, calm_seconds: float = 15.0
    ) -> None:
        self._store = store
        self._look_seconds = look_seconds
        self._calm_seconds = calm_seconds
        self._streams: dict[str, EventStream] = {}
        self._due: dict[str, int] = {}
        """The known ends of logs whose streams are behind, those waiting longest first."""
        self._reading: Task[None] | None = None
        self._hears = False
        self._heard = asyncio.Event()
        self.on_deleted: Callable[[str], None] | None = None
        """Called with the id of each followed conversation whose log was deleted, at every look."""

    def add(self, stream: EventStream) -> None:
        """Follow the log of a stream; there is one of each log."""
        self._streams[stream.conversation_id] = stream

    def discard(self, stream: EventStream) -> None:
        """Stop following a stream; unknown ones are ignored."""
        if self._streams.get(stream.conversation_id) is stream:
            del self._streams[stream.conversation_id]

    def rung(self, rings: Iterable[tuple[str, int]]) -> None:
        """Take conversations and how far their logs have come; never waits."""
        for conversation_id, next_id in rings:
            stream = self._streams.get(conversation_id)
            if stream is not None and next_id > stream.next_id:
                self._due[conversation_id] = max(next_id, self._due.get(conversation_id, 0))
        if self._due and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    def heard(self, *, hears: bool) -> None:
        """Set whether the doorbell is connected; on a change, `run` reads the ends at once."""
        if hears != self._hears:
            self._hears = hears
            self.look_soon()

    def look_soon(self) -> None:
        """Have `run` read the ends at once: rings were lost."""
        self._heard.set()

    async def look(self) -> None:
        """Read the ends of all logs and start reading the missing events, without waiting.

        Raises StoreUnavailable. Deleted logs are left to `on_deleted`.
        """
        streams = list(self._streams.values())
        for begin in range(0, len(streams), HEADS_AT_ONCE):
            self.rung(await self._ends_of(streams[begin : begin + HEADS_AT_ONCE]))

    async def _ends_of(self, streams: Sequence[EventStream]) -> list[tuple[str, int]]:
        """Return how far logs have come that are not deleted; see `compare_ends`."""
        heads = await compare_ends(self._store, streams)
        for name, head in heads.items():
            if head.deleted and self.on_deleted is not None:
                self.on_deleted(name)
            if head.masks and name in self._streams:
                self._streams[name].need_masks(head.masks)
        return [(name, head.next_id) for name, head in heads.items() if not head.deleted]

    async def run(self) -> None:
        """Look again and again, until it is cancelled."""
        while True:
            seconds = self._calm_seconds if self._hears else self._look_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._heard.wait()
            self._heard.clear()
            try:
                async with asyncio.timeout(max(seconds, self._calm_seconds)):
                    await self.look()
            except (EventsError, TimeoutError) as error:
                logger.warning("cannot look at the ends of the open logs: %r", error)
            except Exception:
                logger.exception("cannot look at the ends of the open logs")

    async def close(self) -> None:
        """Read no further."""
        self._streams.clear()
        self._due.clear()
        if self._reading is not None:
            reading, self._reading = self._reading, None
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self) -> None:
        try:
            while self._due:
                await self._read_part(self._take_due())
        finally:
            self._reading = None

    def _take_due(self) -> list[Range]:
        """Return ranges to read together; the rest of a log is queued after the others."""
        ranges: list[Range] = []
        room = EVENTS_AT_ONCE
        for conversation_id in list(self._due):
            if not room or len(ranges) == LOGS_AT_ONCE:
                break
            target = self._due.pop(conversation_id)
            stream = self._streams.get(conversation_id)
            if stream is None or target <= stream.next_id:
                continue
            end_id = min(target, stream.next_id + room)
            ranges.append((conversation_id, stream.next_id, end_id))
            room -= end_id - stream.next_id
            if end_id < target:
                self._due[conversation_id] = target
        return ranges

    async def _read_part(self, ranges: list[Range]) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                runs = await self._store.read_many(ranges)
        except DamagedRecord:
            # Each by itself: a stream reads on behind what is damaged.
            for conversation_id, _, end_id in ranges:
                if conversation_id in self._streams:
                    self._streams[conversation_id].reach(end_id)
            return
        except (EventsError, TimeoutError) as error:
            logger.warning("cannot read on in %d logs: %r", len(ranges), error)
            self._forget(ranges)
            return
        except Exception:
            logger.exception("cannot read on in %d logs", len(ranges))
            self._forget(ranges)
            return
        for (conversation_id, _, end_id), events in zip(ranges, runs, strict=True):
            stream = self._streams.get(conversation_id)
            if stream is not None and events:
                stream.reached(events)
                if stream.next_id <= events[-1].id:
                    # It appends, and reads by itself behind that: no sooner, however often we read.
                    stream.reach(self._due.pop(conversation_id, end_id))
            if not events or events[-1].id + 1 < end_id:
                self._due.pop(conversation_id, None)  # the ring ran ahead of the log

    def _forget(self, ranges: list[Range]) -> None:
        for conversation_id, _, _ in ranges:
            self._due.pop(conversation_id, None)
