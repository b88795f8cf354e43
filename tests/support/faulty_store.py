"""An event store that goes wrong as a script says, around one that keeps the contract."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from events.conformance.records import append, records
from events.errors import AppendFailed, AppendUnknown, DamagedRecord, StoreUnavailable
from events.event import StoredEvent
from events.fence import Fence
from events.stores.base import NO_KEYS, EventStore, Form, Formed, Head, Range
from events.summary import SummaryChange


class Attempt(NamedTuple):
    """One call of `append`: what it asked for, and how to have it done."""

    conversation_id: str
    expected_next_id: int
    events: Sequence[StoredEvent]
    inner: EventStore
    write: Callable[[], Awaitable[None]]


Fault = Callable[[Attempt], Awaitable[None]]

FOREIGN = "foreign"
"""The text of the other writer."""


async def passes(attempt: Attempt) -> None:
    """Nothing goes wrong."""
    await attempt.write()


async def fails(attempt: Attempt) -> None:
    """Nothing is written, and that is told."""
    raise AppendFailed("the disk is full")


async def unknown_before(attempt: Attempt) -> None:
    """The connection is lost before the write."""
    raise AppendUnknown("connection lost")


async def unknown_after(attempt: Attempt) -> None:
    """The connection is lost when the write has landed."""
    await attempt.write()
    raise AppendUnknown("connection lost")


class Held:
    """Goes on with `then` when released; `before` is done when the call comes in."""

    def __init__(self, then: Fault = passes, *, before: Fault | None = None) -> None:
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        self._then = then
        self._before = before
        self._task: asyncio.Task[object] | None = None

    async def __call__(self, attempt: Attempt) -> None:
        self._task = asyncio.current_task()
        if self._before is not None:
            await self._before(attempt)
        self.reached.set()
        await self.gate.wait()
        await self._then(attempt)

    def release(self) -> None:
        """Let the call go on."""
        self.gate.set()

    async def end(self) -> None:
        """Let the call go on, and wait until its caller was told what became of it."""
        self.release()
        assert self._task is not None
        await asyncio.wait([self._task])


async def silent(attempt: Attempt) -> None:
    """Nothing more: what a held call does once it has written."""


@dataclass(frozen=True, slots=True)
class Overtaken:
    """Another writer is first, and writes `events` of its own at the expected id."""

    make: Callable[[int], list[StoredEvent]]

    async def __call__(self, attempt: Attempt) -> None:
        events = self.make(attempt.expected_next_id)
        await append(attempt.inner, attempt.conversation_id, events)
        await attempt.write()


FAULTS: dict[str, Fault] = {
    "passes": passes,
    "fails": fails,
    "unknown, not landed": unknown_before,
    "unknown, landed": unknown_after,
    "overtaken": Overtaken(lambda first_id: records(first_id, 1, FOREIGN)),
    "overtaken by three": Overtaken(lambda first_id: records(first_id, 3, FOREIGN)),
}


class FaultyEventStore(EventStore):
    """Takes the next fault of `script` at every append; none are left: nothing goes wrong.

    The next `unreadable` calls of `head` and `read` fail with `read_error`, and the events of the
    ids `damaged` cannot be read. `attempts` holds the first id and the
    count of every append, `most_at_once` how many of one conversation ran at the same time.
    """

    def __init__(self, inner: EventStore, script: Iterable[Fault] = ()) -> None:
        self.inner = inner
        self.script = deque(script)
        self.unreadable = 0
        self.read_error: Exception = StoreUnavailable("connection lost")
        self.damaged: set[int] = set()
        self.attempts: list[tuple[int, int]] = []
        self.most_at_once = 0
        self.reads = 0
        self._running = 0

    async def append(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,
        keys: Mapping[int, bytes] = NO_KEYS,
        fence: Fence | None = None,
        masks: int | None = None,
    ) -> None:
        """See EventStore."""

        async def write() -> None:
            await self.inner.append(
                *(conversation_id, expected_next_id, events),
                summary=summary,
                keys=keys,
                fence=fence,
                masks=masks,
            )

        self.attempts.append((expected_next_id, len(events)))
        fault = self.script.popleft() if self.script else passes
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            await fault(Attempt(conversation_id, expected_next_id, events, self.inner, write))
        finally:
            self._running -= 1

    async def append_next(self, conversation_id: str, form: Form) -> Head:
        """See EventStore: the other's own, unless something is to go wrong."""
        if self.script:
            return await super().append_next(conversation_id, form)

        def formed(head: Head) -> Formed:
            made = form(head)
            self.attempts.append((head.next_id, len(made.events)))
            return made

        return await self.inner.append_next(conversation_id, formed)

    async def head(self, conversation_id: str) -> Head:
        """See EventStore."""
        self._fail_if_unreadable()
        return await self.inner.head(conversation_id)

    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """See EventStore."""
        self._fail_if_unreadable()
        self.reads += 1
        events = await self.inner.read(conversation_id, start_id, end_id)
        damaged = self.damaged.intersection(range(start_id, end_id))
        if damaged:
            sound = [event for event in events if event.id not in damaged]
            raise DamagedRecord(conversation_id, min(damaged), max(damaged), sound)
        return events

    async def heads(self, conversation_ids: Sequence[str]) -> list[Head]:
        """See EventStore."""
        self._fail_if_unreadable()
        return await self.inner.heads(conversation_ids)

    async def read_many(self, ranges: Sequence[Range]) -> list[list[StoredEvent]]:
        """See EventStore."""
        self._fail_if_unreadable()
        self.reads += 1
        return await self.inner.read_many(ranges)

    async def find(self, conversation_id: str, key: bytes) -> int | None:
        """See EventStore."""
        return await self.inner.find(conversation_id, key)

    async def delete(self, conversation_id: str) -> None:
        """See EventStore."""
        await self.inner.delete(conversation_id)

    def _fail_if_unreadable(self) -> None:
        if self.unreadable > 0:
            self.unreadable -= 1
            raise self.read_error
