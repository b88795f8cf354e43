"""Streams over any event store, and what tests say on them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from events.actions import MessageAction
from events.batch import Appended, draft_of
from events.event import Event, EventSource, StoredEvent
from events.page_reader import PageReader
from events.pump import AppendPump
from events.stores.base import EventStore
from events.stream import EventStream, StreamLimits
from events.subscription import Subscription
from storage.promise import Promise
from tests.support.faulty_store import FaultyEventStore

USER = EventSource.USER
AGENT = EventSource.AGENT


async def open_stream(
    store: EventStore, conversation_id: str = "c", *, page_size: int = 10, **limits: Any
) -> EventStream:
    """A stream with a cold cache of its own."""
    reader = PageReader(store, page_size=page_size, cache_bytes=1_000_000, read_seconds=1_000.0)
    return await EventStream.open(conversation_id, store, reader, StreamLimits(**limits))


def message(text: str) -> Event:
    """Somebody says something."""
    return MessageAction(content=text)


def texts(events: Sequence[StoredEvent]) -> list[str]:
    """Return the texts of messages, in order."""
    return [orjson.loads(event.body)["message"] for event in events]


async def log_of(store: EventStore, conversation_id: str = "c") -> list[StoredEvent]:
    """The whole log; its ids are dense."""
    head = await store.head(conversation_id)
    events = await store.read(conversation_id, 0, head.next_id)
    assert [event.id for event in events] == list(range(head.next_id))
    return events


class Recorder:
    """A subscriber that notes what it is handed."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []

    async def __call__(self, events: Any) -> None:
        self.events += events

    @property
    def ids(self) -> list[int]:
        """The ids in the order in which they came."""
        return [event.id for event in self.events]


class StallingReader:
    """A subscriber: where it began and what it was handed, until it is stalled."""

    subscription: Subscription

    def __init__(self, after: int) -> None:
        self.after = after
        self.ids: list[int] = []
        self.texts: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, events: Sequence[StoredEvent]) -> None:
        await self.gate.wait()
        self.ids += [event.id for event in events]
        self.texts += texts(events)


def put_one(
    pump: AppendPump, payload: dict[str, Any], digest: bytes | None
) -> "asyncio.Future[Appended]":
    """Queue an event; a future of its outcome."""
    outcome: Promise[Appended] = Promise()
    pump.put(draft_of(payload), digest, outcome.settle)
    return outcome.future()


def say(text: str) -> dict[str, Any]:
    """Return the payload of a user's message."""
    return {"source": "user", "message": text, "action": "message", "args": {"content": text}}


def put(pump: AppendPump, *said: str) -> "list[asyncio.Future[Appended]]":
    """Queue messages."""
    return [put_one(pump, say(text), None) for text in said]


async def everything(store: FaultyEventStore) -> list[StoredEvent]:
    """Return the log `c` of the store inside, dense from 0."""
    events = await store.inner.read("c", 0, 1000)
    assert [event.id for event in events] == list(range(len(events)))
    return events
