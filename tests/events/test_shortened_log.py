"""A log that has lost committed events: told once, and neither served nor appended to any further."""

import asyncio

import pytest

from events.conformance.records import append, records
from events.errors import LogShortened
from events.follower import Follower
from events.live import LiveReader, Opened
from events.page_reader import PageReader
from events.stores.memory import MemoryEventStore
from events.stream import EventStream, TakenBack
from tests.support.faulty_store import FaultyEventStore, unknown_before
from tests.support.streams import USER, Recorder, message, open_stream
from tests.support.waiting import others_have_ended

KEPT = 25


class Losses:
    """The losses of which streams tell."""

    def __init__(self):
        self.ranges = []

    def __call__(self, stream, lost):
        assert stream.shortened is lost
        self.ranges.append((stream.conversation_id, lost.first_id, lost.last_id))


@pytest.fixture
def losses():
    return Losses()


@pytest.fixture
def store():
    return FaultyEventStore(MemoryEventStore())


@pytest.fixture
def reader(store):
    return PageReader(store, page_size=10, cache_bytes=1_000_000)


@pytest.fixture
async def stream(store, reader, losses):
    """A stream that has published all that is to be kept of its log, and three events more."""
    await append(store.inner, "c", records(0, KEPT))
    made = await EventStream.open("c", store, reader)
    made.when_shortened(losses)
    for text in ("a", "b", "c"):
        await made.append(message(text), USER)
    return made


async def fail_over(store, *instead):
    """Put in the place of the log one that lacks its last events."""
    store.inner = MemoryEventStore()
    await append(store.inner, "c", [*records(0, KEPT), *instead])


LOST = ("c", KEPT, KEPT + 2)


async def test_an_append_finds_out_and_nothing_is_appended_any_more(store, stream, losses):
    before = store.counters.events_lost  # of all stores that make no counters
    await fail_over(store)
    for text in ("late", "later"):
        with pytest.raises(LogShortened):
            await stream.append(message(text), USER)

    assert losses.ranges == [LOST]
    assert store.counters.events_lost - before == 3
    assert (await store.head("c")).next_id == KEPT


async def test_an_append_of_unknown_outcome_finds_out(store, stream, losses):
    await fail_over(store)
    store.script.append(unknown_before)

    with pytest.raises(LogShortened):
        await stream.append(message("late"), USER)

    assert losses.ranges == [LOST]
    assert (await store.head("c")).next_id == KEPT


async def test_a_look_finds_out(store, stream, losses):
    await fail_over(store)
    with pytest.raises(LogShortened):
        await stream.look()

    assert losses.ranges == [LOST]


async def test_the_look_of_a_follower_finds_out(store, stream, losses):
    await fail_over(store)
    follower = Follower(store, look_seconds=2.0)
    follower.add(stream)

    await follower.look()

    assert losses.ranges == [LOST]


async def test_no_marker_is_served_in_the_place_of_a_lost_event(store, stream, losses):
    await fail_over(store)
    with pytest.raises(LogShortened):
        await stream.read(KEPT)

    assert losses.ranges == [LOST]


async def test_cached_pages_with_lost_events_are_served_no_more(store, reader, stream):
    assert len(await stream.read(20)) == 8

    await fail_over(store, *records(KEPT, 3, "new"))
    stream.shorten(KEPT)

    with pytest.raises(LogShortened):
        await stream.read(20)
    assert list(await reader.read("c", 20, KEPT + 3)) == await store.inner.read("c", 20, KEPT + 3)


async def test_a_page_that_was_being_read_then_is_not_cached(reader, stream):
    reading = asyncio.ensure_future(stream.read(20))
    await asyncio.sleep(0)

    stream.shorten(KEPT)
    await reading

    assert len(reader.cache) == 0


async def test_readers_and_subscribers_end(stream):
    with LiveReader(stream) as reader:
        while stream.next_id > reader.cursor.position + 1:
            await reader.next()
        assert isinstance(await reader.next(), Opened)
        waiting = asyncio.ensure_future(reader.next())
        recorder = Recorder()
        stream.subscribe("late", recorder)
        await asyncio.sleep(0)

        stream.shorten(KEPT)

        assert await waiting is None
    await stream.close()
    await others_have_ended()
    assert recorder.ids == []


async def test_a_log_that_has_grown_or_stays_has_lost_nothing(stream, losses):
    stream.shorten(KEPT + 3)
    stream.shorten(KEPT + 4)

    assert stream.shortened is None
    assert losses.ranges == []


@pytest.mark.parametrize(
    ("has", "served_from"), [(24, 24), (25, 24), (27, 24), (28, 28), (40, 29), (-1, -1)]
)
async def test_clients_that_may_hold_lost_events_are_served_anew_for_a_while(
    store, has, served_from
):
    await append(store.inner, "c", records(0, KEPT + 5))
    stream = await open_stream(store)
    now = asyncio.get_running_loop().time()

    stream.take_back(TakenBack(KEPT, KEPT + 2, now + 60.0))
    assert stream.resume_after(has) == served_from

    stream.take_back(TakenBack(KEPT, KEPT + 2, now - 1.0))
    assert stream.resume_after(has) == min(has, KEPT + 4)
