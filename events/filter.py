"""EventFilter: which stored events a search is about."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from events.event import EventSource
from storage.unicode_text import fold_case

DATA_URL = re.compile(r"data:[\w.+/;=-]{0,200};base64,[\w+/=-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Conditions on an event's JSON object, all of which must hold; the defaults let all pass.

    `include_kinds` and `exclude_kinds` are wire names (an action and an observation may share
    one); an empty tuple is no condition. `source` is exact, so that an event without a source
    fails. `start_date` and `end_date` are compared with the timestamp as text, both included; an
    event without a timestamp passes. `exclude_hidden` drops events whose `hidden` is true.
    `query` is looked for, in any case, in what people can read: the message, the content and
    the strings among the values of args and extras, without base64 data URLs.
    """

    include_kinds: tuple[str, ...] = ()
    exclude_kinds: tuple[str, ...] = ()
    source: EventSource | None = None
    start_date: str | None = None
    end_date: str | None = None
    exclude_hidden: bool = False
    query: str | None = None

    def matches(self, payload: Mapping[str, Any]) -> bool:
        """Tell whether all conditions hold for a stored payload."""
        return (
            self._kind_passes(payload)
            and (self.source is None or payload.get("source") == self.source)
            and self._date_passes(payload.get("timestamp"))
            and not (self.exclude_hidden and is_hidden(payload))
            and self._query_passes(payload)
        )

    def _kind_passes(self, payload: Mapping[str, Any]) -> bool:
        kind = payload.get("action") or payload.get("observation")
        if self.include_kinds and kind not in self.include_kinds:
            return False
        return kind not in self.exclude_kinds

    def _date_passes(self, timestamp: object) -> bool:
        if not isinstance(timestamp, str):
            return True
        if self.start_date is not None and timestamp < self.start_date:
            return False
        return self.end_date is None or timestamp <= self.end_date

    def _query_passes(self, payload: Mapping[str, Any]) -> bool:
        if not self.query:
            return True
        sought = fold_case(self.query)
        return any(sought in fold_case(text) for text in _readable_texts(payload))


def is_hidden(payload: Mapping[str, Any]) -> bool:
    """Tell whether an event asks not to be shown (`hidden` is true in its args or extras)."""
    inner = payload.get("args") or payload.get("extras")
    return isinstance(inner, Mapping) and inner.get("hidden") is True


def _readable_texts(payload: Mapping[str, Any]) -> Iterator[str]:
    pending = [payload.get(key) for key in ("extras", "args", "content", "message")]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield DATA_URL.sub("", value) if "base64," in value else value
        elif isinstance(value, Mapping):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
