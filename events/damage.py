"""Markers that replace events of the log that cannot be read."""

from collections.abc import Awaitable, Iterable, Sequence

import orjson

from events.errors import DamagedHead, DamagedRecord
from events.event import Event, EventFlag, EventSource, StoredEvent
from events.observations import ErrorObservation
from events.serialization import encode

DAMAGED_ID = "STORAGE$EVENT_DAMAGED"
"""The `error_id` of the `error` observation that stands for a damaged event."""


def whole(events: Iterable[StoredEvent], first_id: int, end_id: int) -> list[StoredEvent]:
    """Return first_id <= id < end_id without a hole: a marker for each id that `events` lacks.

    A marker is an `error` observation of the environment, a kind that every client can read. It
    has the timestamp of the nearest event that could be read, so that time runs with the ids.
    """
    known = {event.id: event for event in events}
    found: list[StoredEvent] = []
    missing = [one for one in range(first_id, end_id) if one not in known]
    timestamp = _timestamp_of(known[min(known)]) if known and missing else None
    for event_id in range(first_id, end_id):
        event = known.get(event_id)
        if event is None:
            event = _marker(event_id, timestamp)
        elif missing:
            timestamp = _timestamp_of(event) or timestamp
        found.append(event)
    return found


async def with_markers(
    read: Awaitable[Sequence[StoredEvent]], first_id: int, end_id: int
) -> tuple[Sequence[StoredEvent], DamagedRecord | None]:
    """Return what a read of first_id <= id < end_id gives, with markers, and the damage if there is any.

    A damaged read ends with the last event, sound or not, that it tells of. Raises what the read
    raises, DamagedHead too: there the end of the log is not known.
    """
    try:
        return await read, None
    except DamagedHead:
        raise
    except DamagedRecord as damage:
        last_id = max([damage.last_id, *(event.id for event in damage.sound[-1:])])
        return whole(damage.sound, first_id, min(last_id + 1, end_id)), damage


def is_marker(event: Event) -> bool:
    """Return whether an event is the marker of a damaged one."""
    return (
        isinstance(event, ErrorObservation)
        and event.source == EventSource.ENVIRONMENT
        and event.error_id == DAMAGED_ID
    )


def _marker(event_id: int, timestamp: str | None) -> StoredEvent:
    event = ErrorObservation(
        id=event_id,
        timestamp=timestamp,
        source=EventSource.ENVIRONMENT,
        content=f"Event {event_id} is damaged in the storage and cannot be read.",
        error_id=DAMAGED_ID,
    )
    return StoredEvent(event_id, EventFlag.SPECIAL, orjson.dumps(encode(event)))


def _timestamp_of(event: StoredEvent) -> str | None:
    timestamp = orjson.loads(event.body).get("timestamp")
    return timestamp if isinstance(timestamp, str) else None
