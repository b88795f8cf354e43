"""What waits to be appended, and the batches formed of it."""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from events.draft import Draft
from events.errors import StreamOverloaded
from events.event import StoredEvent
from events.summary import SummaryChange, fold

logger = logging.getLogger(__name__)

BATCH_EVENTS = 500
BATCH_BYTES = 4 * 1024 * 1024


class Appended(NamedTuple):
    """The outcome of an append: the event's id, and whether its key had been appended before."""

    id: int
    duplicate: bool = False


Settled = Callable[[Appended | Exception], None]
"""Takes what became of an append, in the step in which that is known.

It must not raise; what it raises is logged.
"""


class Clock:
    """The wall clock as event timestamps: ISO 8601 in UTC with microseconds and `Z`."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def now(self) -> str:
        """The time; the part down to the second is made once a second."""
        second, microsecond = divmod(time.time_ns() // 1000, 1_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{microsecond:06d}Z"


class Waiting:
    """An event without an id, and whom to tell."""

    __slots__ = ("callers", "digest", "draft")

    def __init__(self, draft: Draft, digest: bytes | None, caller: Settled) -> None:
        self.draft = draft
        self.digest = digest
        self.callers = [caller]

    def settle(self, appended: Appended) -> None:
        """Tell the outcome; all callers but the first are told that theirs is a duplicate."""
        callers = self.callers
        _call(callers[0], appended)
        if len(callers) > 1:
            for caller in callers[1:]:
                _call(caller, Appended(appended.id, duplicate=True))

    def fail(self, error: Exception) -> None:
        """Tell that it was not appended."""
        for caller in self.callers:
            _call(caller, error)


def _call(caller: Settled, outcome: Appended | Exception) -> None:
    try:
        caller(outcome)
    except Exception:  # whoever fails to hear it must not keep the others from it
        logger.exception("an append's outcome could not be told")


class Batch(NamedTuple):
    """Events with their ids given, ready for the store."""

    waiting: Sequence[Waiting]
    events: Sequence[StoredEvent]
    keys: dict[int, bytes]
    summary: SummaryChange
    timestamp: str

    @property
    def first_id(self) -> int:
        """The id of the first event."""
        return self.events[0].id


class AppendQueue:
    """Bounded queue of waiting events, and the keys under way."""

    def __init__(self, limit: int) -> None:
        self.waiting: deque[Waiting] = deque()
        self._limit = limit
        self._clock = Clock()
        self._under_way: dict[bytes, Waiting] = {}

    def put(self, draft: Draft, digest: bytes | None, caller: Settled) -> None:
        """Queue an event. One whose key is under way shares the first one's outcome.

        Raises StreamOverloaded when the bound is reached; nothing was taken then.
        """
        if digest is not None and digest in self._under_way:
            self._under_way[digest].callers.append(caller)
            return
        if len(self.waiting) >= self._limit:
            raise StreamOverloaded(f"{self._limit} events are waiting in this conversation")
        waiting = Waiting(draft, digest, caller)
        if digest is not None:
            self._under_way[digest] = waiting
        self.waiting.append(waiting)

    def settle(self, waiting: Waiting, appended: Appended) -> None:
        """Tell an event's outcome; its key is no longer under way."""
        if waiting.digest is not None:
            self.release(waiting.digest)
        waiting.settle(appended)

    def release(self, digest: bytes) -> None:
        """A key is no longer under way."""
        del self._under_way[digest]

    def fail(self, waiting: Waiting, error: Exception) -> None:
        """Tell that an event was not appended; its key may be used again."""
        if waiting.digest is not None:
            self.release(waiting.digest)
        waiting.fail(error)

    def put_back(self, waiting: Iterable[Waiting]) -> None:
        """Queue events again, in their order, before all others."""
        self.waiting.extendleft(reversed(list(waiting)))

    def form(self, next_id: int, not_before: str) -> Batch:
        """Take the next batch: ids from `next_id`, one timestamp, never before `not_before`."""
        timestamp = max(self._clock.now(), not_before)
        opening = b',"timestamp":"%s",' % timestamp.encode()
        waiting: list[Waiting] = []
        events: list[StoredEvent] = []
        event_id = next_id - 1
        keys: dict[int, bytes] = {}
        summary: SummaryChange | None = None
        said: str | None = None
        size = 0
        while self.waiting and len(events) < BATCH_EVENTS and size < BATCH_BYTES:
            one = self.waiting.popleft()
            event_id = next_id + len(events)
            if one.digest is not None:
                keys[len(events)] = one.digest
            rest, flag, telling, says = one.draft
            body = b'{"id":%d%s%s' % (event_id, opening, rest)
            if telling is not None:
                summary = fold(summary, event_id, telling)
            if says:
                said = timestamp
            events.append(StoredEvent(event_id, flag, body))
            waiting.append(one)
            size += len(body)
        if summary is None:
            summary = SummaryChange(event_id, timestamp, last_message_at=said)
        else:
            summary = summary._replace(
                last_event_id=event_id, last_updated_at=timestamp, last_message_at=said
            )
        return Batch(waiting, events, keys, summary, timestamp)

    def fail_all(self, error: Exception) -> None:
        """Refuse everything that waits."""
        while self.waiting:
            self.fail(self.waiting.popleft(), error)


def digest_of(client_id: str) -> bytes:
    """The digest under which an idempotency key is stored (taken before masking)."""
    return hashlib.sha256(client_id.encode("utf-8", "surrogatepass")).digest()
