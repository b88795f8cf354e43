"""Open conversations whose logs a failover has shortened: noticed, and opened anew."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Awaitable, Callable, Iterable, Sequence
from zlib import crc32

from events.errors import DamagedRecord, EventsError, LogShortened
from events.log_ends import HEADS_AT_ONCE, compare_ends
from events.stores.base import EventStore
from events.stream import EventStream, TakenBack
from server.observability.logs import context_of

logger = logging.getLogger(__name__)

EVENTS_AT_ONCE = 64
"""Events that are read in one call."""
LOOK_SECONDS = 10.0
"""Deadline of one such call."""
RETRY_SECONDS = 0.5
TAKEN_BACK_SECONDS = 60.0
"""Clients that come back within so long are sent anew what was put in the place of lost events."""
MOST_KNOWN = 10_000
"""Conversations whose lost events are remembered; beyond that those that lost theirs first are forgotten."""


class LostEvents:
    """Compares the ends of logs with what was published after a failover; one per process.

    A conversation that has lost events is told to `reopen`, which drops its clients and closes it.
    What was lost is remembered for a while: until their clients are back, the ids of lost events may
    have been given to new ones, which a client would take for events that it has.
    """

    def __init__(
        self,
        store: EventStore,
        streams: Callable[[], Iterable[EventStream]],
        reopen: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._streams = streams
        self._reopen = reopen
        self._known: dict[str, TakenBack] = {}
        self._due = False
        self._comparing: Task[None] | None = None
        self._tasks: set[Task[None]] = set()
        # One method object for all streams: each would hold another otherwise.
        self._shortened = self._note
        store.when_failed_over(self.failed_over)

    def failed_over(self) -> None:
        """Compare all logs, in a task; again if that is under way."""
        self._due = True
        if self._comparing is None:
            self._comparing = asyncio.get_running_loop().create_task(self._compare_all())

    def opened(self, stream: EventStream) -> None:
        """Watch a stream, and have it serve the clients anew that were sent what its log has lost."""
        stream.when_shortened(self._shortened)
        known = self._known.get(stream.conversation_id)
        if known is not None:
            stream.take_back(known)

    async def close(self) -> None:
        """End what is under way."""
        tasks = [*self._tasks, *([] if self._comparing is None else [self._comparing])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _note(self, stream: EventStream, lost: LogShortened) -> None:
        """Remember what a log has lost, and have its conversation opened anew."""
        loop = asyncio.get_running_loop()
        until = loop.time() + TAKEN_BACK_SECONDS
        self._forget(loop.time())
        self._known[stream.conversation_id] = TakenBack(lost.first_id, lost.last_id, until)
        work = self._reopened(stream.conversation_id)
        context = context_of(conversation_id=stream.conversation_id)
        task = loop.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reopened(self, conversation_id: str) -> None:
        try:
            await self._reopen(conversation_id)
        except Exception:
            logger.exception("%s could not be closed after it lost events", conversation_id)

    def _forget(self, now: float) -> None:
        for conversation_id, known in list(self._known.items()):
            if known.until >= now and len(self._known) < MOST_KNOWN:
                break
            del self._known[conversation_id]

    async def _compare_all(self) -> None:
        try:
            while self._due:
                self._due = False
                try:
                    streams = list(self._streams())
                    for begin in range(0, len(streams), HEADS_AT_ONCE):
                        await self._compare(streams[begin : begin + HEADS_AT_ONCE])
                except (EventsError, TimeoutError) as error:
                    logger.warning("cannot compare logs after a failover; trying again: %r", error)
                    self._due = True
                    await asyncio.sleep(RETRY_SECONDS)
                except Exception:
                    logger.exception("cannot compare logs after a failover")
        finally:
            self._comparing = None

    async def _compare(self, streams: Sequence[EventStream]) -> None:
        async with asyncio.timeout(LOOK_SECONDS):
            heads = await compare_ends(self._store, streams)
        await self._compare_contents(
            [one for one in streams if one.shortened is None and one.conversation_id in heads]
        )

    async def _compare_contents(self, streams: Sequence[EventStream]) -> None:
        """Find logs in which other servers have put new events in the place of all that were lost."""
        ends = [(stream, *end) for stream in streams if (end := stream.last_published) is not None]
        for begin in range(0, len(ends), EVENTS_AT_ONCE):
            some = ends[begin : begin + EVENTS_AT_ONCE]
            ranges = [(one.conversation_id, last_id, last_id + 1) for one, last_id, _ in some]
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    runs = await self._store.read_many(ranges)
                    for (stream, last_id, mark), found in zip(some, runs, strict=True):
                        if found and crc32(found[0].body) != mark:
                            stream.shorten(await stream.first_other(last_id))
            except DamagedRecord as damage:
                logger.warning("cannot compare some logs after a failover: %s", damage)
