"""search_events: an interval, both ends included, walked either way, counted after the filter."""

import pytest

from events.conformance.records import append, record
from events.event import EventFlag
from events.filter import EventFilter
from events.page_reader import PageReader
from events.stores.memory import MemoryEventStore
from events.stream import EventStream
from tests.support.faulty_store import FaultyEventStore

COUNT = 35
EVEN = EventFilter(query="even")


@pytest.fixture
async def stream():
    store = FaultyEventStore(MemoryEventStore())
    words = ["even" if event_id % 2 == 0 else "odd" for event_id in range(COUNT)]
    events = [record(event_id, word, EventFlag.PLAIN) for event_id, word in enumerate(words)]
    await append(store.inner, "c", events)
    return await EventStream.open("c", store, PageReader(store, page_size=10, cache_bytes=10**6))


async def ids(found):
    return [event.id async for event in found]


async def test_without_arguments_every_event_is_found_in_order(stream):
    assert await ids(stream.search_events()) == list(range(COUNT))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("start_id", [0, 1, 9, 10, 11, 34, 35, 99])
@pytest.mark.parametrize("end_id", [None, 0, 9, 10, 20, 34, 35, 99])
async def test_both_ends_are_included_and_reversing_walks_the_same_interval_down(
    stream, start_id, end_id, reverse
):
    last_id = COUNT - 1 if end_id is None else min(end_id, COUNT - 1)
    expected = list(range(start_id, last_id + 1))

    found = await ids(stream.search_events(start_id, end_id, reverse=reverse))

    assert found == (expected[::-1] if reverse else expected)


async def test_the_events_before_one_are_found_by_its_id_as_the_upper_bound(stream):
    found = stream.search_events(end_id=20, reverse=True, limit=4)

    assert await ids(found) == [20, 19, 18, 17]


@pytest.mark.parametrize("reverse", [False, True])
async def test_the_limit_counts_what_passed_the_filter(stream, reverse):
    found = await ids(stream.search_events(5, 25, filter=EVEN, limit=3, reverse=reverse))

    assert found == ([24, 22, 20] if reverse else [6, 8, 10])


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_limit_of_zero_finds_nothing_and_reads_nothing(stream, reverse):
    assert await ids(stream.search_events(limit=0, reverse=reverse)) == []
    assert stream._reader._store.reads == 0


async def test_a_limit_that_is_reached_reads_no_further_page(stream):
    await ids(stream.search_events(limit=10))

    assert stream._reader._store.reads == 1


@pytest.mark.parametrize(
    "arguments",
    [{"start_id": -1}, {"end_id": -1}, {"limit": -1}, {"start_id": -5, "reverse": True}],
)
async def test_negative_arguments_are_refused(stream, arguments):
    with pytest.raises(ValueError, match="negative"):
        await ids(stream.search_events(**arguments))


async def test_a_search_ends_at_the_newest_event_of_its_call(stream):
    found = stream.search_events(30)
    first = await anext(found)
    await append(stream._reader._store.inner, "c", [record(COUNT)])
    stream._pump.next_id += 1

    assert [first.id, *await ids(found)] == [30, 31, 32, 33, 34]
    assert await ids(stream.search_events(30)) == [30, 31, 32, 33, 34, 35]


async def test_an_empty_log_has_nothing_to_find():
    store = MemoryEventStore()
    stream = await EventStream.open("c", store, PageReader(store, page_size=10, cache_bytes=10**6))

    assert await ids(stream.search_events()) == []
    assert await ids(stream.search_events(reverse=True)) == []
