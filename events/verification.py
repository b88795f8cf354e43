"""The fold of a whole log, and how the records and the index kept beside it differ from that."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import orjson

from events.batch import digest_of
from events.event import EventFlag, StoredEvent
from events.serialization import flag_of
from events.summary import NO_CHANGE, SummaryChange, fold
from storage.conversations.metadata import FOLDED_FIELDS

NAMES_KEY = b'"client_id":'
KEYS_MISSING = "their idempotency keys are not in the index"


def differs(conversation_id: str, fields: Sequence[str]) -> str:
    """Return the problem of a record whose folded fields are not those of its log."""
    return f"the record of conversation {conversation_id} is not the fold of its log: {', '.join(fields)}"


def ranges_of(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Join ascending ids to ranges, both ends included."""
    for _, group in groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0]):
        run = [event_id for _, event_id in group]
        yield run[0], run[-1]


class LogFold:
    """The record and index that the events of a log, added in order, make.

    `odd` holds the ids of events that are sound and yet not as a server writes them: no JSON
    object, another id inside, or not flagged as what they are; at most MOST_ODD of them.
    """

    MOST_ODD = 100

    def __init__(self) -> None:
        self.summary: SummaryChange = NO_CHANGE
        self.odd: list[int] = []

    def add(self, event: StoredEvent) -> bytes | None:
        """Add the next event; return the digest of its idempotency key, if it has one."""
        payload = _payload_of(event)
        if payload is None or not _fits(event, payload):
            if len(self.odd) < self.MOST_ODD:
                self.odd.append(event.id)
            payload = payload or {}
        self.summary = fold(self.summary, event.id, payload)
        if NAMES_KEY not in event.body:
            return None
        key = payload.get("client_id")
        return digest_of(key) if isinstance(key, str) else None

    def differing(self, recorded: Mapping[str, Any]) -> list[str]:
        """Return the folded fields whose recorded values are not those of the log, by name.

        Times are texts or moments. A field of which the log says nothing is as it was saved first.
        """
        return [
            name
            for name in sorted(FOLDED_FIELDS & recorded.keys())
            if not self._agrees(name, recorded[name])
        ]

    def _agrees(self, name: str, recorded: object) -> bool:
        told = getattr(self.summary, name)
        if told is None:
            return True
        if not name.endswith("_at"):
            return bool(recorded == told)
        found, expected = _moment(recorded), _moment(told)
        if name == "last_message_at":
            # Versions that did not know the last message took the last event for it.
            last = _moment(self.summary.last_updated_at)
            return None not in (found, last) and expected <= found <= last
        return bool(found == expected)


def _fits(event: StoredEvent, payload: Mapping[str, Any]) -> bool:
    # Which kinds are projected has changed with versions; what is a state has not.
    is_state = flag_of(payload) is EventFlag.STATE
    return payload.get("id") == event.id and is_state == (event.flag == EventFlag.STATE)


def _payload_of(event: StoredEvent) -> Mapping[str, Any] | None:
    try:
        payload = orjson.loads(event.body)
    except orjson.JSONDecodeError:
        return None
    return payload if isinstance(payload, dict) else None


def _moment(value: object) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None
