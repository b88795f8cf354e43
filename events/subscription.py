"""A subscriber's bounded queue, and the task that drains it: lagging instead of losing."""

import asyncio
import logging
from asyncio import Task
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context

from events.errors import ConversationDeleted, LogShortened
from events.event import StoredEvent

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
QUEUE_BYTES = 4 * 1024 * 1024
"""Bytes of the events one subscriber may lag behind."""

Callback = Callable[[Sequence[StoredEvent]], Awaitable[None]]
"""Takes 1..N events, ascending and without a hole since the last call."""

Read = Callable[[int], Awaitable[Sequence[StoredEvent]]]
"""Reads committed events from an id on: at least one if there are any."""


class Subscription:
    """Hands every event after `position` to one callback: each once, in order, one call at a time.

    `offer` never waits and never drops: what does not fit the queue makes the subscription
    *lagging*, and its task reads on from the log until it is level. The task exists only while
    there is something to hand over, and runs in the context of whoever subscribed. An exception of the callback is logged with its cause and
    counted in `errors`; the events count as handed over.
    """

    def __init__(
        self,
        name: str,
        callback: Callback,
        read: Read,
        *,
        position: int,
        capacity: int,
        capacity_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.name = name
        self.position = position
        self.errors = 0
        self.lagged = 0
        self._callback = callback
        self._read = read
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._queued_bytes = 0
        self._queue: deque[StoredEvent] = deque()
        self._lagging = False
        self._closed = False
        self._task: Task[None] | None = None
        self._context = copy_context()

    def offer(self, events: Sequence[StoredEvent], size_bytes: int = 0) -> bool:
        """Queue newly committed events; return whether the subscription began to lag.

        `size_bytes` is their approximate total size.
        """
        if self._closed:
            return False
        lagged = self.lagged
        self._queued_bytes += size_bytes
        if not self._lagging and (
            len(self._queue) + len(events) > self._capacity
            or self._queued_bytes > self._capacity_bytes
        ):
            self._queue.clear()
            self._lagging = True
            self.lagged += 1
        elif not self._lagging:
            self._queue.extend(events)
        self.wake()
        return self.lagged > lagged

    def wake(self) -> None:
        """Start delivery if it is not in progress."""
        if self._task is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._drain(), name=self.name, context=self._context)

    def catch_up(self) -> None:
        """Read the log from `position` on, for a subscription that starts behind."""
        self._queue.clear()
        self._lagging = True
        self.wake()

    async def level(self) -> None:
        """Wait until everything was delivered, as of some time during the wait."""
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait([self._task])

    async def close(self, *, drain_seconds: float = 0.0) -> None:
        """Stop; first hand over what waits, for at most `drain_seconds`.

        Called from within the callback itself it only marks the end.
        """
        task = self._task
        if task is asyncio.current_task():
            self._closed = True
            return
        if task is not None and drain_seconds > 0:
            await asyncio.wait([task], timeout=drain_seconds)
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._queue.clear()

    async def _drain(self) -> None:
        try:
            while not self._closed:
                events = await self._next()
                if not events:
                    return
                await self._hand_over(events)
        except (ConversationDeleted, LogShortened):
            self._closed = True
        finally:
            # No await between the last look at the queue and this line: nothing can slip between.
            self._task = None

    async def _next(self) -> Sequence[StoredEvent]:
        while self._lagging:
            try:
                events = await self._read(self.position + 1)
            except (ConversationDeleted, LogShortened):
                raise
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                self.errors += 1
                logger.exception("subscription %s cannot read the log; retrying", self.name)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if events:
                return events
            self._lagging = False
        events = [event for event in self._queue if event.id > self.position]
        self._queue.clear()
        self._queued_bytes = 0
        return events

    async def _hand_over(self, events: Sequence[StoredEvent]) -> None:
        try:
            await self._callback(events)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            self.errors += 1
            logger.exception(
                "subscriber %s failed at events %d-%d", self.name, events[0].id, events[-1].id
            )
        self.position = events[-1].id
        await asyncio.sleep(0)  # a callback that never waits must not keep the loop from others


def _is_cancelled() -> bool:
    # What is awaited may have been cancelled without this task being so.
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
