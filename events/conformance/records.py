"""Stored events and summaries made by hand, for tests below the stream."""

import hashlib

import orjson

from events.event import EventFlag, StoredEvent
from events.stores.base import NO_KEYS, EventStore
from events.summary import NO_CHANGE, SummaryChange, fold

MOMENT = "2026-03-02T09:15:07.120334Z"


def record(
    event_id: int, text: str = "", flag: EventFlag = EventFlag.PLAIN, moment: str = MOMENT
) -> StoredEvent:
    """Return one event of the log, a message of the agent unless `flag` says otherwise."""
    payload = {
        "id": event_id,
        "timestamp": moment,
        "source": "agent",
        "message": text,
        "action": "message",
        "args": {"content": text},
    }
    return StoredEvent(event_id, flag, orjson.dumps(payload))


def records(first_id: int, count: int, text: str = "", moment: str = MOMENT) -> list[StoredEvent]:
    """Return `count` events with ascending ids."""
    ids = range(first_id, first_id + count)
    return [record(event_id, text, moment=moment) for event_id in ids]


def key(name: str) -> bytes:
    """Return the digest an idempotency key is stored under."""
    return hashlib.sha256(name.encode()).digest()


def summary_of(events: list[StoredEvent]) -> SummaryChange:
    """Return the fold of the events."""
    summary = NO_CHANGE
    for event in events:
        summary = fold(summary, event.id, orjson.loads(event.body))
    return summary


async def append(
    store: EventStore,
    conversation_id: str,
    events: list[StoredEvent],
    *,
    keys=NO_KEYS,
    fence=None,
    masks=None,
) -> None:
    """Append at the first event's id, with the fold of these events."""
    summary = summary_of(events)
    await store.append(
        *(conversation_id, events[0].id, events),
        summary=summary,
        keys=keys,
        fence=fence,
        masks=masks,
    )


def contents(events) -> list[str]:
    """Return the texts of the messages among stored events, in order."""
    return [orjson.loads(event.body)["args"]["content"] for event in events]
