"""The text of an event that people look for: a message, a thought or an output."""

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from events.damage import DAMAGED_ID
from events.event import EventSource, StoredEvent
from events.filter import DATA_URL, is_hidden
from storage.search.base import Entry, EntryKind

MAX_CHARACTERS = 50_000
"""Of a longer text the beginning is searched."""
OUTPUTS = frozenset(
    (
        *("run", "run_ipython", "read", "edit", "browse", "browse_interactive"),
        *("mcp", "delegate", "error", "user_rejected", "task_tracking"),
    )
)
"""Observations whose content is searched."""
INPUTS = ("command", "code", "path", "url", "name")
"""The fields of an observation that tell what it is the output of."""
LAST_WORDS = frozenset(("finish", "reject"))
"""Actions with which an agent ends, whose thoughts are messages."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SOURCES = frozenset(source.value for source in EventSource)


def said_in(event: StoredEvent) -> Entry | None:
    """Return what an event says, None where it says nothing or cannot be read."""
    try:
        payload = orjson.loads(event.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(payload, dict) or is_hidden(payload):
        return None
    kind, text = _kind_and_text(payload)
    if kind is None or not text.strip():
        return None
    if "base64," in text:
        text = DATA_URL.sub("", text)
    source = payload.get("source")
    return Entry(
        event.id,
        moment_of(payload.get("timestamp")),
        source if source in _SOURCES else "",
        kind,
        text[:MAX_CHARACTERS],
    )


def moment_of(timestamp: object) -> int:
    """Return the microseconds since 1970 of a log's timestamp, 0 for what is none."""
    try:
        moment = datetime.fromisoformat(timestamp)  # type: ignore[arg-type]
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        # Some hours of the calendar's first and last day have no date in UTC: OverflowError.
        return microseconds_of(aware.astimezone(UTC))
    except (TypeError, ValueError, OverflowError):
        return 0


def microseconds_of(moment: datetime) -> int:
    """Return the microseconds since 1970 of an aware moment."""
    return (moment - _EPOCH) // _MICROSECOND


def time_of(microseconds: int) -> datetime:
    """Return the moment of microseconds since 1970."""
    return _EPOCH + microseconds * _MICROSECOND


def mark_of(event: StoredEvent) -> int:
    """Return the checksum by which an event is recognized."""
    return zlib.crc32(event.body, event.id)


def _kind_and_text(payload: Mapping[str, Any]) -> tuple[EntryKind | None, str]:
    action = payload.get("action")
    if action is not None:
        arguments = _mapping(payload.get("args"))
        if action == "message":
            return EntryKind.MESSAGE, _joined(arguments, "content")
        if action in LAST_WORDS:
            return EntryKind.MESSAGE, _joined(arguments, "final_thought", "thought")
        # The other kinds that have a thought are what an agent is about to do.
        return EntryKind.THOUGHT, _joined(arguments, "thought")
    extras = _mapping(payload.get("extras"))
    if payload.get("observation") in OUTPUTS and extras.get("error_id") != DAMAGED_ID:
        inputs = _joined(extras, *INPUTS)
        return EntryKind.OUTPUT, f"{inputs}\n{_joined(payload, 'content')}"
    return None, ""


def _joined(values: Mapping[str, Any], *names: str) -> str:
    found = (values.get(name) for name in names)
    return "\n".join(text for text in found if isinstance(text, str) and text)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
