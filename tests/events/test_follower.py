"""Follower: streams of one process keep up with what another process appends to their logs."""

import asyncio

import pytest

from events.event import StoredEvent
from events.follower import Follower
from events.stores.memory import MemoryEventStore
from events.stream import EventStream
from tests.support.faulty_store import FaultyEventStore
from tests.support.streams import USER, message, open_stream, texts


@pytest.fixture
def store():
    return FaultyEventStore(MemoryEventStore())


class Grown:
    """A stream that is followed, and a wait for what it publishes."""

    def __init__(self, stream: EventStream) -> None:
        self.published: list[StoredEvent] = []
        self.stream = stream
        self._some = asyncio.Event()
        stream.tap(self._publish)

    def _publish(self, events, _summary):
        self.published += events
        self._some.set()

    async def until(self, count):
        async with asyncio.timeout(1_000.0):
            while len(self.published) < count:
                self._some.clear()
                await self._some.wait()


async def grown(store, name="c", *said):
    """A stream that has not heard what another one appended."""
    stream, other = await open_stream(store, name), await open_stream(store, name)
    for text in said:
        await other.append(message(text), USER)
    return Grown(stream)


async def test_a_ring_brings_the_stream_of_that_log_up_and_others_are_no_error(store):
    follower = Follower(store, look_seconds=2.0)
    left, right = await grown(store, "left", "a"), await grown(store, "right", "b")
    for one in (left, right):
        follower.add(one.stream)

    follower.rung([("unknown", 7), ("left", 1)])
    await left.until(1)

    assert texts(left.published) == ["a"]
    assert right.published == []


async def test_a_look_finds_what_nobody_rang(store):
    follower = Follower(store, look_seconds=2.0)
    streams = [await grown(store, f"c{number}", "a", "b") for number in range(3)]
    for one in streams:
        follower.add(one.stream)

    await follower.look()
    for one in streams:
        await one.until(2)

    assert [texts(one.published) for one in streams] == [["a", "b"]] * 3


async def test_a_stream_that_is_discarded_is_told_nothing(store):
    follower = Follower(store, look_seconds=2.0)
    one = await grown(store, "c", "a")
    follower.add(one.stream)
    follower.discard(one.stream)
    follower.discard(one.stream)

    follower.rung([("c", 1)])
    await follower.look()

    assert store.reads == 0


async def test_it_looks_again_and_again_also_after_the_store_was_away(store, caplog):
    follower = Follower(store, look_seconds=2.0)
    one = await grown(store, "c", "a")
    follower.add(one.stream)
    store.unreadable = 2
    running = asyncio.create_task(follower.run())

    await one.until(1)

    assert texts(one.published) == ["a"]
    assert "connection lost" in caplog.text
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_it_looks_at_once_when_the_doorbell_hears_again(store):
    follower = Follower(store, look_seconds=1e9, calm_seconds=1e9)
    one = await grown(store, "c", "a")
    follower.add(one.stream)
    running = asyncio.create_task(follower.run())

    follower.heard(hears=True)
    await one.until(1)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
