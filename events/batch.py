"""What waits to be appended, and the batches formed of it."""

import asyncio
import hashlib
from asyncio import Future
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from events.errors import StreamOverloaded
from events.event import StoredEvent
from events.serialization import flag_of
from events.summary import SummaryChange, fold

BATCH_EVENTS = 500
BATCH_BYTES = 4 * 1024 * 1024


class Appended(NamedTuple):
    """The outcome of an append: the event's id, and whether its key had been appended before."""

    id: int
    duplicate: bool = False


class Waiting:
    """An event without an id, encoded but for its id and timestamp, and whom to tell."""

    __slots__ = ("digest", "flag", "future", "payload", "rest")

    def __init__(self, payload: dict[str, Any], digest: bytes | None) -> None:
        self.payload = payload
        self.rest = orjson.dumps(payload)[1:]
        self.flag = flag_of(payload)
        self.digest = digest
        self.future: Future[Appended] = asyncio.get_running_loop().create_future()
        self.future.add_done_callback(_retrieve)

    def settle(self, appended: Appended) -> None:
        """Tell the outcome; a second one is ignored."""
        if not self.future.done():
            self.future.set_result(appended)

    def fail(self, error: BaseException) -> None:
        """Tell that it was not appended."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(frozen=True, slots=True)
class Batch:
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
        self._limit = limit
        self._queue: deque[Waiting] = deque()
        self._under_way: dict[bytes, Waiting] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, payload: dict[str, Any], digest: bytes | None) -> Future[Appended]:
        """Queue an event. One whose key is under way shares the first one's outcome.

        Raises StreamOverloaded when the bound is reached; nothing was taken then.
        """
        if digest is not None and digest in self._under_way:
            return _shared(self._under_way[digest].future)
        if len(self._queue) >= self._limit:
            raise StreamOverloaded(f"{self._limit} events are waiting in this conversation")
        waiting = Waiting(payload, digest)
        if digest is not None:
            self._under_way[digest] = waiting
            waiting.future.add_done_callback(lambda _: self._under_way.pop(digest, None))
        self._queue.append(waiting)
        return waiting.future

    def put_back(self, waiting: Iterable[Waiting]) -> None:
        """Queue events again, in their order, before all others."""
        self._queue.extendleft(reversed(list(waiting)))

    def form(self, next_id: int, not_before: str) -> Batch:
        """Take the next batch: ids from `next_id`, one timestamp, never before `not_before`."""
        timestamp = max(datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z", not_before)
        waiting: list[Waiting] = []
        events: list[StoredEvent] = []
        keys: dict[int, bytes] = {}
        summary: SummaryChange | None = None
        size = 0
        while self._queue and len(events) < BATCH_EVENTS and size < BATCH_BYTES:
            one = self._queue.popleft()
            event_id = next_id + len(events)
            if one.digest is not None:
                keys[len(events)] = one.digest
            body = b'{"id":%d,"timestamp":"%s",' % (event_id, timestamp.encode()) + one.rest
            one.payload["timestamp"] = timestamp
            summary = fold(summary, event_id, one.payload)
            events.append(StoredEvent(event_id, one.flag, body))
            waiting.append(one)
            size += len(body)
        return Batch(waiting, events, keys, summary or SummaryChange(), timestamp)

    def fail_all(self, error: BaseException) -> None:
        """Refuse everything that waits."""
        while self._queue:
            self._queue.popleft().fail(error)


def digest_of(client_id: str) -> bytes:
    """The digest under which an idempotency key is stored (taken before masking)."""
    return hashlib.sha256(client_id.encode("utf-8", "surrogatepass")).digest()


def _shared(first: Future[Appended]) -> Future[Appended]:
    second: Future[Appended] = asyncio.get_running_loop().create_future()
    second.add_done_callback(_retrieve)

    def follow(done: Future[Appended]) -> None:
        if second.done():
            return
        error = done.exception()
        if error is None:
            second.set_result(Appended(done.result().id, duplicate=True))
        else:
            second.set_exception(error)

    first.add_done_callback(follow)
    return second


def _retrieve(done: Future[Appended]) -> None:
    # A caller may have gone away; its append is the stream's, and so is the outcome.
    if not done.cancelled():
        done.exception()
