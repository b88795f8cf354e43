"""The queue of events waiting to be appended, and the batches formed of it."""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import islice
from typing import Any

import orjson
from pydantic import BaseModel

from events.actions import MessageAction
from events.errors import BadEvent, EventTooLarge, StreamOverloaded
from events.event import Event, EventFlag, EventSource, StoredEvent
from events.fence import Fence
from events.redaction import Redactor
from events.serialization import both_ends, decode, encode_new, flag_of, is_long_output
from events.strictness import storable
from events.summary import SummaryChange, fold, is_message

logger = logging.getLogger(__name__)


class ByteBudget:
    """Bytes that all holders together may have; what does not fit is refused, never waited for."""

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Reserve bytes; return False, reserving none, where they do not fit."""
        if self.used_bytes + size_bytes > self.limit_bytes:
            return False
        self.used_bytes += size_bytes
        return True

    def take_anyway(self, size_bytes: int) -> None:
        """Reserve bytes that cannot be refused."""
        self.used_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Return bytes that were reserved."""
        self.used_bytes -= size_bytes


@dataclass(slots=True)  # made for every event, and a named tuple takes twice as long
class Draft:
    """An event before it has an id.

    `rest` is its JSON object from behind the opening brace. `telling` is the payload if it changes
    the metadata by more than its id and time, else None. `says` is True for a message. `unmasked`
    is the same JSON without masks where secrets were masked, else None; it never leaves the
    process: it is for the agent of the conversation.
    """

    rest: bytes
    flag: EventFlag
    telling: Mapping[str, Any] | None = None
    says: bool = False
    unmasked: bytes | None = None


def prepare(
    event: Event,
    source: EventSource,
    client_id: str | None,
    redactor: Redactor,
    max_bytes: int,
) -> Draft:
    """Encode an event: what JSON cannot hold is replaced, secrets are masked, long output is cut.

    Raises EventTooLarge, and BadEvent when its class cannot be encoded at all.
    """
    try:
        payload = encode_new(event, source, client_id)
        body = orjson.dumps(payload)
    except Exception:  # noqa: BLE001 - agents and runtimes may put anything into an event
        payload, body = _encode_anyhow(event, source, client_id)
    long_output = is_long_output(payload)
    if not long_output and len(body) > max_bytes:
        raise EventTooLarge(len(body), max_bytes)
    if not redactor.may_change(body):
        if long_output:
            payload = both_ends(payload)
            body = _dump(payload, max_bytes)
        return Draft(body[1:], *_facts_of(payload))
    # Of what was dumped, because only that is all plain JSON.
    plain: dict[str, Any] = orjson.loads(body)
    masked = redactor.redact(plain)
    if masked is not plain:
        # Derived from masked fields: a text that is shortened may have cut a secret in half.
        masked["message"] = redactor.redact_text(decode(masked).message)
    if long_output:
        # Masked before they are cut, for the same reason.
        body = _dump(both_ends(plain), max_bytes)
        masked = both_ends(masked)
    elif masked is plain:
        return Draft(body[1:], *_facts_of(plain))
    rest = _dump(masked, max_bytes)[1:]
    return Draft(rest, *_facts_of(masked), body if body[1:] != rest else None)


def prepare_text(
    text: str,
    source: EventSource,
    client_id: str | None,
    redactor: Redactor,
    max_bytes: int,
) -> Draft:
    """Prepare a message that is nothing but a text, of which no event need be made first."""
    masked = redactor.redact_text(text)
    draft = draft_of_text(masked, source, client_id)
    if len(draft.rest) > max_bytes:
        raise EventTooLarge(len(draft.rest), max_bytes)
    if masked is text:
        return draft
    draft.unmasked = b"{%b" % draft_of_text(text, source, client_id).rest
    return draft


def remask(draft: Draft, redactor: Redactor) -> Draft:
    """Mask a draft again with the current masks; return the draft itself if nothing changes.

    The result may exceed the size limit of prepared events.
    """
    body = b"{%b" % draft.rest
    if not redactor.may_change(body):
        return draft
    plain: dict[str, Any] = orjson.loads(body)
    masked = redactor.redact(plain)
    if masked is plain:
        return draft
    with suppress(BadEvent):  # then its text has masks, if not those of the fields it comes from
        masked["message"] = redactor.redact_text(decode(masked).message)
    return Draft(orjson.dumps(masked)[1:], *_facts_of(masked), draft.unmasked or body)


def draft_of(payload: Mapping[str, Any]) -> Draft:
    """Return the draft of a payload that has neither id nor timestamp."""
    return Draft(orjson.dumps(payload)[1:], *_facts_of(payload))


def draft_of_text(text: str, source: EventSource, client_id: str | None) -> Draft:
    """Return the draft of a text message, equal to that of `draft_of`, in less time."""
    head, middle, tail, flag, says = _around_text(source)
    quoted = orjson.dumps(text)
    key = b"" if client_id is None else b',"client_id":%b' % orjson.dumps(client_id)
    return Draft(b"%b%b%b%b%b%b" % (head, quoted, key, middle, quoted, tail), flag, None, says)


def _facts_of(payload: Mapping[str, Any]) -> tuple[EventFlag, Mapping[str, Any] | None, bool]:
    flag = flag_of(payload)
    telling = payload if "llm_metrics" in payload or flag is EventFlag.STATE else None
    return flag, telling, is_message(payload)


def _dump(payload: Mapping[str, Any], max_bytes: int) -> bytes:
    body = orjson.dumps(payload)
    if len(body) > max_bytes:
        raise EventTooLarge(len(body), max_bytes)
    return body


def _encode_anyhow(
    event: Event, source: EventSource, client_id: str | None
) -> tuple[dict[str, Any], bytes]:
    """Encode an event with values that JSON cannot represent, each replaced."""
    try:
        payload = encode_new(_repaired(event), source, client_id)
        repaired = {name: storable(value) for name, value in payload.items()}
        return repaired, orjson.dumps(repaired)
    except Exception as error:
        kind = type(event).__name__
        raise BadEvent(
            f"The {kind} cannot be encoded as an event: {type(error).__name__}", code="bad_value"
        ) from error


def _repaired(event: Event) -> Event:
    """Copy an event so that its derived text can be made; enums stay, as its class expects."""
    changed: dict[str, object] = {}
    for name, value in event.__dict__.items():
        if isinstance(value, BaseModel):
            fields = value.__dict__ | (value.__pydantic_extra__ or {})
            changed[name] = value.model_copy(
                update={key: storable(item) for key, item in fields.items()}
            )
        elif not isinstance(value, Enum):
            changed[name] = storable(value)
    return event.model_copy(update=changed)


@cache
def _around_text(source: EventSource) -> tuple[bytes, bytes, bytes, EventFlag, bool]:
    """Return the parts of a message's JSON around its text, which occurs twice; flag; `says`.

    The client's id is inserted right after the first one.
    """
    text = "<text>"
    draft = draft_of(encode_new(MessageAction(content=text), source, None))
    head, between, tail = draft.rest.split(orjson.dumps(text))
    return head, between, tail, draft.flag, draft.says


BATCH_EVENTS = 500
BATCH_BYTES = 4 * 1024 * 1024
WAITING_BYTES = 32 * 1024 * 1024
"""Bytes of one conversation's events that may wait for the store, unless a setting says otherwise."""
GRANT_BYTES = 64 * 1024
"""A queue asks the process's budget for so much at a time, and has the first of them for nothing:
most queues never ask."""


@dataclass(slots=True)  # as a Draft is
class Appended:
    """The outcome of an append: the event's id, and whether its key had been appended before."""

    id: int
    duplicate: bool = False


Settled = Callable[[Appended | Exception], None]
"""Receives the outcome of an append, in the step in which it is known.

It must not raise; what it raises is logged.
"""


class Clock:
    """The wall clock as event timestamps: ISO 8601 in UTC with microseconds and `Z`."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def now(self) -> str:
        """Return the time as ISO 8601 text; the part down to the second is cached."""
        second, microsecond = divmod(time.time_ns() // 1000, 1_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{microsecond:06d}Z"


class Waiting:
    """An event without an id, and the callbacks for its outcome."""

    __slots__ = ("callers", "digest", "draft")

    fence: Fence | None = None
    """The claim under which it is appended; see HeldWaiting."""

    def __init__(self, draft: Draft, digest: bytes | None, caller: Settled) -> None:
        self.draft = draft
        self.digest = digest
        self.callers = [caller]

    def settle(self, appended: Appended) -> None:
        """Report the outcome; every caller but the first gets a duplicate."""
        callers = self.callers
        _call(callers[0], appended)
        if len(callers) > 1:
            for caller in callers[1:]:
                _call(caller, Appended(appended.id, duplicate=True))

    def fail(self, error: Exception) -> None:
        """Tell that it was not appended."""
        for caller in self.callers:
            _call(caller, error)


class HeldWaiting(Waiting):
    """An event appended under a claim to the log's loop."""

    __slots__ = ("fence",)

    def __init__(
        self, draft: Draft, digest: bytes | None, caller: Settled, fence: Fence | None
    ) -> None:
        super().__init__(draft, digest, caller)
        self.fence = fence


def _call(caller: Settled, outcome: Appended | Exception) -> None:
    try:
        caller(outcome)
    except Exception:  # whoever fails to hear it must not keep the others from it
        logger.exception("a callback for the outcome of an append failed")


@dataclass(slots=True)  # as a Draft is
class Batch:
    """Events with their ids given, ready for the store."""

    waiting: Sequence[Waiting]
    events: Sequence[StoredEvent]
    keys: dict[int, bytes]
    summary: SummaryChange
    timestamp: str
    size_bytes: int
    """Bytes of its drafts."""
    fence: Fence | None = None
    """The claim of those of its events that carry one."""
    masks: int | None = None
    """The version of the masks of its events; None where none is known."""

    @property
    def first_id(self) -> int:
        """The id of the first event."""
        return self.events[0].id


class AppendQueue:
    """Queue of waiting events, bounded in number and bytes, and the keys in flight.

    The bytes of a batch count until `end` is called for it. `budget` limits all queues of the
    process together.
    """

    def __init__(
        self, limit: int, limit_bytes: int = WAITING_BYTES, budget: ByteBudget | None = None
    ) -> None:
        self.waiting: deque[Waiting] = deque()
        self.size_bytes = 0
        """Bytes of the events that wait or are in a batch that has not ended."""
        self.masks: int | None = None
        """The version of the masks of what waits; None where none is known."""
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._budget = budget
        self._granted_bytes = GRANT_BYTES
        self._clock = Clock()
        self._under_way: dict[bytes, Waiting] = {}
        self._held = 0
        """Waiting events that carry a claim; as long as there are none, no batch looks for one."""

    def put(
        self,
        draft: Draft,
        digest: bytes | None,
        caller: Settled,
        own: bool = False,  # noqa: FBT001, FBT002 - see EventStream.submit
        fence: Fence | None = None,
    ) -> None:
        """Queue an event. One whose key is in flight shares the first one's outcome.

        Raises StreamOverloaded when a bound is reached; nothing was taken then. An event is never
        too long for a queue that is empty. The server's `own` events may take twice the bytes, and
        are not refused for what other conversations hold.
        """
        if digest is not None and digest in self._under_way:
            self._under_way[digest].callers.append(caller)
            return
        if len(self.waiting) >= self._limit:
            raise StreamOverloaded(
                f"{self._limit} events are waiting in this conversation; try again later"
            )
        size_bytes = len(draft.rest)
        self.size_bytes += size_bytes
        if self.size_bytes > self._granted_bytes:
            self._ask(size_bytes, own=own)
        if fence is None:
            waiting = Waiting(draft, digest, caller)
        else:
            waiting = HeldWaiting(draft, digest, caller, fence)
            self._held += 1
        if digest is not None:
            self._under_way[digest] = waiting
        self.waiting.append(waiting)

    def settle(self, waiting: Waiting, appended: Appended) -> None:
        """Report an event's outcome; its key is no longer in flight."""
        if waiting.digest is not None:
            self.release(waiting.digest)
        waiting.settle(appended)

    def release(self, digest: bytes) -> None:
        """Forget a key that is no longer in flight."""
        del self._under_way[digest]

    def fail(self, waiting: Waiting, error: Exception) -> None:
        """Tell that an event was not appended; its key may be used again."""
        if waiting.digest is not None:
            self.release(waiting.digest)
        waiting.fail(error)

    def put_back(self, waiting: Iterable[Waiting]) -> None:
        """Queue events of a batch that has ended again, in their order, before all others."""
        again = list(waiting)
        self._held += sum(one.fence is not None for one in again)
        self.waiting.extendleft(reversed(again))
        self.size_bytes += sum(len(one.draft.rest) for one in again)

    def remask(self, remask: Callable[[Waiting], None]) -> None:
        """Mask the drafts of all waiting events again."""
        for one in self.waiting:
            self.size_bytes -= len(one.draft.rest)
            remask(one)
            self.size_bytes += len(one.draft.rest)

    def end(self, batch: Batch) -> None:
        """Count a batch's bytes no more."""
        self.size_bytes -= batch.size_bytes
        if self._granted_bytes > GRANT_BYTES:
            self._give_back()

    def form(self, next_id: int, not_before: str) -> Batch:
        """Take the next batch: ids from `next_id`, one timestamp, never before `not_before`.

        Events of different claims do not share a batch; those without one go with any.
        """
        limit, fence = self._one_claim() if self._held else (BATCH_EVENTS, None)
        timestamp = max(self._clock.now(), not_before)
        opening = b',"timestamp":"%s",' % timestamp.encode()
        waiting: list[Waiting] = []
        events: list[StoredEvent] = []
        event_id = next_id - 1
        keys: dict[int, bytes] = {}
        summary: SummaryChange | None = None
        said: str | None = None
        size = 0
        while self.waiting and len(events) < limit and size < BATCH_BYTES:
            one = self.waiting.popleft()
            event_id = next_id + len(events)
            if one.digest is not None:
                keys[len(events)] = one.digest
            draft = one.draft
            rest = draft.rest
            body = b'{"id":%d%s%s' % (event_id, opening, rest)
            if draft.telling is not None:
                summary = fold(summary, event_id, draft.telling)
            if draft.says:
                said = timestamp
            events.append(StoredEvent(event_id, draft.flag, body))
            waiting.append(one)
            size += len(rest)
        if summary is None:
            summary = SummaryChange(event_id, timestamp, last_message_at=said)
        else:
            summary = summary._replace(
                last_event_id=event_id, last_updated_at=timestamp, last_message_at=said
            )
        if fence is not None:
            claiming = sum(one.fence is not None for one in waiting)
            self._held -= claiming
            fence = fence if claiming else None
        return Batch(waiting, events, keys, summary, timestamp, size, fence, self.masks)

    def _one_claim(self) -> tuple[int, Fence | None]:
        """Return how many of the first waiting events one batch may hold, and the claim they carry."""
        claim: Fence | None = None
        for place, one in enumerate(islice(self.waiting, BATCH_EVENTS)):
            if one.fence is not None and one.fence != (claim or one.fence):
                return place, claim
            claim = claim or one.fence
        return BATCH_EVENTS, claim

    def fail_all(self, error: Exception) -> None:
        """Refuse everything that waits."""
        self._held = 0
        while self.waiting:
            one = self.waiting.popleft()
            self.size_bytes -= len(one.draft.rest)
            self._give_back()
            self.fail(one, error)

    def _ask(self, size_bytes: int, *, own: bool) -> None:
        """Make room for an event that was counted. Raises StreamOverloaded, counting it no more."""
        held = self.size_bytes - size_bytes
        if held and self.size_bytes > self._limit_bytes * (1 + own):
            self.size_bytes = held
            kib = self._limit_bytes // 1024
            raise StreamOverloaded(
                f"{kib} KiB of events are waiting in this conversation; try again later"
            )
        lacking = _grants(self.size_bytes) - self._granted_bytes
        if self._budget is not None and own:
            self._budget.take_anyway(lacking)
        elif self._budget is not None and not self._budget.take(lacking):
            self.size_bytes = held
            kib = self._budget.limit_bytes // 1024
            raise StreamOverloaded(
                f"{kib} KiB of events are waiting on this server; try again later"
            )
        self._granted_bytes += lacking

    def _give_back(self) -> None:
        """Give the budget the grants that are not needed any more."""
        spare = self._granted_bytes - max(GRANT_BYTES, _grants(self.size_bytes))
        if spare > 0:
            self._granted_bytes -= spare
            if self._budget is not None:
                self._budget.give_back(spare)


def _grants(size_bytes: int) -> int:
    """Whole grants that hold so many bytes."""
    return -(-size_bytes // GRANT_BYTES) * GRANT_BYTES


def digest_of(client_id: str) -> bytes:
    """Return the digest under which an idempotency key is stored (taken before masking)."""
    return hashlib.sha256(client_id.encode("utf-8", "surrogatepass")).digest()
