"""A stream whose log grows elsewhere: it is told, reads on, and publishes in order, each event once."""

import asyncio

import pytest

from events.batch import Appended
from events.errors import ConversationDeleted, DamagedRecord, StoreUnavailable, StreamClosed
from events.event import StoredEvent
from events.pump import READ_EVENTS
from events.stores.memory import MemoryEventStore
from events.stream import EventStream
from tests.support.faulty_store import FaultyEventStore, Held, fails, unknown_after
from tests.support.streams import USER, Recorder, log_of, message, open_stream, texts


@pytest.fixture
def store():
    return FaultyEventStore(MemoryEventStore())


async def two_streams(store):
    """A stream that appends, one that is told, and what is published by the latter."""
    other, stream = await open_stream(store), await open_stream(store)
    published: list[StoredEvent] = []
    stream.tap(lambda events, _summary: published.extend(events))
    return other, stream, published


async def append(stream, *said):
    for text in said:
        await stream.append(message(text), USER)


async def test_what_another_stream_appended_is_published_in_order_each_once(store):
    other, stream, published = await two_streams(store)
    recorder = Recorder()
    subscription = stream.subscribe("reader", recorder)
    await append(other, *"abc")
    assert stream.next_id == 0

    for next_id in (2, 3, 1, 3, 0):
        stream.reach(next_id)
    await stream.look()
    await subscription.level()

    assert texts(published) == ["a", "b", "c"]
    assert recorder.ids == [0, 1, 2]
    assert stream.next_id == 3
    assert texts(await stream.read(0)) == ["a", "b", "c"]


async def test_look_publishes_what_the_store_has_though_nobody_rang(store):
    other, stream, published = await two_streams(store)
    await append(other, *"ab")

    await asyncio.gather(stream.look(), stream.look())

    assert texts(published) == ["a", "b"]


async def test_own_appends_go_behind_what_is_read_on(store):
    other, stream, published = await two_streams(store)
    await append(other, *"abc")

    stream.reach(3)
    own = stream.enqueue(message("own"), USER)

    assert await own == Appended(3)
    assert texts(published) == ["a", "b", "c", "own"]
    assert store.attempts[-1] == (3, 1)


@pytest.mark.parametrize("fault", [Held(), Held(unknown_after), Held(fails)])
async def test_a_batch_in_flight_is_settled_before_more_is_read(store, fault):
    other, stream, published = await two_streams(store)
    await append(other, *"ab")
    await stream.look()
    store.script.append(fault)
    own = stream.enqueue(message("own"), USER)
    await fault.reached.wait()
    before = store.reads

    await append(other, *"cd")
    stream.reach(4)
    await asyncio.sleep(0)
    assert store.reads == before
    fault.release()
    await asyncio.wait([own])
    await stream.look()

    assert texts(published) == texts(await log_of(store))
    assert [event.id for event in published] == list(range(stream.next_id))


async def test_a_ring_that_runs_ahead_of_the_log_publishes_nothing_and_holds_nothing_up(store):
    other, stream, published = await two_streams(store)
    await append(other, "a")
    stream.reach(100)

    await append(stream, "b")
    await stream.look()

    assert texts(published) == ["a", "b"]


async def test_a_log_that_grew_long_is_read_in_parts(store):
    other, stream, published = await two_streams(store)
    count = 2 * READ_EVENTS + 1
    await asyncio.gather(*(other.enqueue(message("x"), USER) for _ in range(count)))

    await stream.look()

    assert [event.id for event in published] == list(range(count))
    assert store.reads == 3


async def test_a_read_that_fails_is_told_to_who_looks_and_the_next_look_tries_again(store):
    other, stream, published = await two_streams(store)
    await append(other, *"ab")
    held = asyncio.get_running_loop().create_future()
    store.unreadable = 1
    stream._pump.reach(2, held)

    with pytest.raises(StoreUnavailable, match="connection lost"):
        await held
    assert published == []
    await stream.look()
    assert texts(published) == ["a", "b"]


async def test_a_store_that_fails_in_an_unknown_way_holds_nothing_up(store, caplog):
    other, stream, published = await two_streams(store)
    await append(other, "a")
    store.unreadable, store.read_error = 1, RuntimeError("not thought of")

    stream.reach(1)
    await append(stream, "b")

    assert texts(published) == ["a", "b"]
    assert "not thought of" in caplog.text


async def test_a_damaged_event_is_a_marker_and_what_follows_is_published(store):
    other, stream, published = await two_streams(store)
    await append(other, *"abc")
    log = await log_of(store)
    store.unreadable, store.read_error = 1, DamagedRecord("c", 1, 1, [log[0], log[2]])

    stream.reach(3)
    await append(stream, "d")

    assert [event.id for event in published] == [0, 1, 2, 3]
    assert "Event 1 is damaged" in texts(published)[1]


async def test_a_deleted_log_is_told_to_who_looks(store):
    _other, stream, _published = await two_streams(store)
    await append(stream, "a")
    await store.delete("c")

    with pytest.raises(ConversationDeleted):
        await stream.look()


async def test_a_stream_that_closes_reads_no_further(store):
    other, stream, published = await two_streams(store)
    await append(stream, "a")
    await append(other, "b")

    await stream.close()
    stream.reach(2)
    await stream.look()

    assert texts(published) == ["a"]
    with pytest.raises(StreamClosed):
        await append(stream, "c")


async def test_a_stream_that_is_alone_reads_nothing_back(store):
    stream = await open_stream(store)

    await append(stream, *"abc")
    stream.reach(3)
    stream.reach(1)
    await stream.look()

    assert store.reads == 0


async def test_two_streams_that_append_and_ring_agree(store):
    left, right = await open_stream(store), await open_stream(store)
    seen: list[list[StoredEvent]] = [[], []]

    def follows(stream: EventStream, other: EventStream, events: list[StoredEvent]) -> None:
        stream.tap(lambda new, _summary: events.extend(new))
        stream.tap(lambda new, _summary: other.reach(new[-1].id + 1))

    follows(left, right, seen[0])
    follows(right, left, seen[1])
    for number in range(50):
        await asyncio.gather(
            left.append(message(f"left {number}"), USER),
            right.append(message(f"right {number}"), USER),
        )
    await asyncio.gather(left.look(), right.look())

    log = await log_of(store)
    assert len(log) == 100
    assert seen == [log, log]
