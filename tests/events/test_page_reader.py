"""PageReader: any range is what the store holds, loaded once, a marker in each hole."""

import asyncio
from dataclasses import replace

import orjson
import pytest

from events.conformance.records import append, contents, record, records
from events.damage import is_marker
from events.errors import ConversationDeleted, DamagedHead, DamagedRecord, StoreUnavailable
from events.event import EventFlag
from events.page_reader import PageReader
from events.serialization import decode
from events.stores.memory import MemoryEventStore
from tests.support.faulty_store import FaultyEventStore

SIZE = 10


class HeldReads(FaultyEventStore):
    """Reads that wait until they are let go."""

    def __init__(self, inner):
        super().__init__(inner)
        self.gate = asyncio.Event()

    async def read(self, conversation_id, start_id, end_id):
        await self.gate.wait()
        return await super().read(conversation_id, start_id, end_id)


class Ranges(FaultyEventStore):
    """Notes what it was asked for."""

    def __init__(self, inner):
        super().__init__(inner)
        self.ranges = []

    async def read(self, conversation_id, start_id, end_id):
        self.ranges.append((start_id, end_id))
        return await super().read(conversation_id, start_id, end_id)


class Thinned(FaultyEventStore):
    """A log that lacks an event."""

    missing = 13

    async def read(self, conversation_id, start_id, end_id):
        events = await super().read(conversation_id, start_id, end_id)
        return [event for event in events if event.id != self.missing]


@pytest.fixture
async def store():
    made = FaultyEventStore(MemoryEventStore())
    await append(made.inner, "c", records(0, 35))
    return made


@pytest.fixture
def reader(store):
    return PageReader(store, page_size=SIZE, cache_bytes=1_000_000)


@pytest.mark.parametrize("next_id", [0, 1, 9, 10, 11, 20, 34, 35])
async def test_a_read_gives_the_rest_of_its_page_below_the_end(reader, next_id):
    for start_id in range(37):
        events = await reader.read("c", start_id, next_id)

        end_of_page = start_id - start_id % SIZE + SIZE
        assert [one.id for one in events] == list(range(start_id, min(end_of_page, next_id)))


async def test_what_a_read_gives_is_what_the_store_holds(reader, store):
    held = [event for start_id in (0, 10, 20, 30) for event in await reader.read("c", start_id, 35)]

    assert held == await store.inner.read("c", 0, 35)


async def test_a_page_is_loaded_once(reader, store):
    for start_id in (10, 19, 12, 10):
        await reader.read("c", start_id, 35)

    assert store.reads == 1


async def test_a_page_is_loaded_from_the_first_event_that_somebody_needed(store):
    asked = Ranges(store)
    reader = PageReader(asked, page_size=SIZE, cache_bytes=1_000_000)

    for start_id in (17, 18, 12, 17, 10, 11):
        found = await reader.read("c", start_id, 35)
        assert [event.id for event in found] == list(range(start_id, 20))

    assert asked.ranges == [(17, 20), (12, 20), (10, 20)]


async def test_loads_of_one_page_may_end_in_any_order(store):
    held = HeldReads(store)
    reader = PageReader(held, page_size=SIZE, cache_bytes=1_000_000)
    reading = [asyncio.ensure_future(reader.read("c", start_id, 35)) for start_id in (17, 12, 14)]
    await asyncio.sleep(0)
    held.gate.set()

    found = await asyncio.gather(*reading)

    assert [events[0].id for events in found] == [17, 12, 14]
    assert store.reads == 2
    assert [event.id for event in await reader.read("c", 10, 35)] == list(range(10, 20))


@pytest.mark.parametrize("grown", [1, 3, 5])
async def test_a_page_that_was_cached_while_it_filled_is_loaded_again_beyond_that(
    reader, store, grown
):
    assert len(await reader.read("c", 30, 35)) == 5
    await append(store.inner, "c", records(35, grown))

    beyond = await reader.read("c", 33, 35 + grown)
    assert [event.id for event in beyond] == list(range(33, 35 + grown))
    assert [event.id for event in await reader.read("c", 33, 35)] == [33, 34]
    assert store.reads == 2


async def test_many_readers_of_one_page_share_one_load(store):
    held = HeldReads(store)
    reader = PageReader(held, page_size=SIZE, cache_bytes=1_000_000)
    reading = [asyncio.ensure_future(reader.read("c", 10 + n, 35)) for n in range(5)]
    await asyncio.sleep(0)
    held.gate.set()

    found = await asyncio.gather(*reading)

    assert [events[0].id for events in found] == [10, 11, 12, 13, 14]
    assert store.reads == 1


async def test_a_reader_that_goes_away_leaves_the_load_to_the_others(store):
    held = HeldReads(store)
    reader = PageReader(held, page_size=SIZE, cache_bytes=1_000_000)
    gone, stays = (asyncio.ensure_future(reader.read("c", 10, 35)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    held.gate.set()

    assert len(await stays) == 10
    assert gone.cancelled()


async def test_a_failed_load_is_told_to_all_and_tried_again_by_the_next(reader, store):
    store.unreadable = 1
    outcomes = await asyncio.gather(
        *(reader.read("c", 10, 35) for _ in range(3)), return_exceptions=True
    )

    assert [type(one) for one in outcomes] == [StoreUnavailable] * 3
    assert len(await reader.read("c", 10, 35)) == 10


async def test_a_load_without_an_answer_by_the_deadline_is_unavailable(store):
    reader = PageReader(HeldReads(store), page_size=SIZE, cache_bytes=1_000_000, read_seconds=2.0)

    with pytest.raises(StoreUnavailable, match="no answer within 2 s"):
        await reader.read("c", 0, 35)


async def test_a_marker_stands_for_an_event_that_is_not_there_and_the_rest_is_served(store, caplog):
    reader = PageReader(Thinned(store), page_size=SIZE, cache_bytes=1_000_000)

    page = await reader.read("c", 10, 35)
    assert [event.id for event in page] == list(range(10, 20))
    assert [*page[:3], *page[4:]] == [record(one) for one in range(10, 20) if one != 13]
    assert is_marker(decode(orjson.loads(page[3].body)))
    assert page[3].flag == EventFlag.SPECIAL
    assert (await reader.read("c", 13, 14))[0] == page[3]
    assert len(await reader.read("c", 0, 35)) == 10
    assert [one.getMessage() for one in caplog.records] == [
        "damaged records 13-13 in conversation c; serving markers instead"
    ]


class Ahead(FaultyEventStore):
    """A log whose head names two events more than there are."""

    async def head(self, conversation_id):
        head = await super().head(conversation_id)
        return replace(head, next_id=head.next_id + 2)


async def test_markers_stand_for_the_end_of_a_log_that_is_shorter_than_its_head(store):
    reader = PageReader(Ahead(store.inner), page_size=SIZE, cache_bytes=1_000_000)

    page = await reader.read("c", 30, 37)

    assert [event.id for event in page] == list(range(30, 37))
    assert [is_marker(decode(orjson.loads(one.body))) for one in page] == [False] * 5 + [True] * 2


class Damaging(FaultyEventStore):
    """Reads that tell of damage, and what could be read beside it."""

    async def read(self, conversation_id, start_id, end_id):
        events = await super().read(conversation_id, start_id, end_id)
        sound = [event for event in events if event.id not in (13, 17)]
        if len(sound) < len(events):
            raise DamagedRecord(conversation_id, 13, 17, sound)
        return events


async def test_of_several_damaged_events_each_has_its_marker_and_those_between_are_served(store):
    reader = PageReader(Damaging(store), page_size=SIZE, cache_bytes=1_000_000)

    page = await reader.read("c", 10, 35)

    marked = [one.id for one in page if is_marker(decode(orjson.loads(one.body)))]
    assert marked == [13, 17]
    assert page[4:7] == (record(14), record(15), record(16))


async def test_a_log_whose_end_is_not_known_is_not_read(store):
    store.unreadable, store.read_error = 1, DamagedHead("c", 30, 34)
    reader = PageReader(store, page_size=SIZE, cache_bytes=1_000_000)

    with pytest.raises(DamagedHead):
        await reader.read("c", 30, 35)


async def test_a_log_deleted_under_the_reader_says_so(reader, store):
    await store.delete("c")

    with pytest.raises(ConversationDeleted):
        await reader.read("c", 0, 35)


async def test_a_forgotten_conversation_is_asked_of_the_store_again(reader, store):
    for start_id in (0, 10, 20, 30):
        await reader.read("c", start_id, 35)
    await store.delete("c")
    reader.forget("c", 35)

    for start_id in (0, 34):
        with pytest.raises(ConversationDeleted):
            await reader.read("c", start_id, 35)


async def test_all_conversations_share_one_bound(store):
    reader = PageReader(store, page_size=SIZE, cache_bytes=8_000)
    for name in ("d", "e", "f", "g"):
        await append(store.inner, name, records(0, 10, name))
    for name in ("c", "d", "e", "f", "g"):
        await reader.read(name, 0, 10)
    before = store.reads

    assert contents(await reader.read("g", 0, 10)) == ["g"] * 10
    assert store.reads == before
    await reader.read("c", 0, 10)
    assert store.reads == before + 1


async def test_a_page_larger_than_the_whole_bound_is_served_all_the_same(store):
    reader = PageReader(store, page_size=SIZE, cache_bytes=100)

    assert list(await reader.read("c", 0, 35)) == [record(event_id) for event_id in range(10)]


async def test_a_load_that_ends_too_early_is_not_shared(store):
    held = HeldReads(store)
    reader = PageReader(held, page_size=SIZE, cache_bytes=1_000_000)
    short, whole = (asyncio.ensure_future(reader.read("c", *span)) for span in ((30, 33), (33, 35)))
    await asyncio.sleep(0)
    held.gate.set()

    assert [event.id for event in await short] == [30, 31, 32]
    assert [event.id for event in await whole] == [33, 34]


class Parts:
    """A log of ten events a page, some of them long, read in parts of 1,000 bytes."""

    def __init__(self, sizes):
        self.store = FaultyEventStore(MemoryEventStore())
        self.events = [record(one, "x" * size) for one, size in enumerate(sizes)]
        self.reader = PageReader(
            self.store, page_size=SIZE, cache_bytes=1_000_000, part_bytes=1_000
        )

    async def write(self):
        await append(self.store.inner, "c", self.events)
        return self


def longest(events):
    """The bytes of all but the last, with which a part may have become too long."""
    return sum(len(event.body) for event in events[:-1])


SIZES = [
    [10] * 25,
    [5_000] * 25,
    [400] * 25,
    [10] * 9 + [5_000] + [10] * 15,
    [5_000] + [10] * 24,
    [10, 900, 10, 5_000, 10] * 5,
]


@pytest.mark.parametrize("sizes", SIZES)
async def test_a_page_of_long_events_is_read_in_parts_that_make_up_the_whole(sizes):
    log = await Parts(sizes).write()
    for first in (0, 3, 12, 24, *range(25)):
        position, found = first, []
        while events := await log.reader.read("c", position, 25):
            assert longest(events) < 1_000
            found += events
            position = events[-1].id + 1

        assert found == log.events[first:]


@pytest.mark.parametrize("sizes", SIZES)
async def test_long_events_are_found_backwards_too(sizes):
    log = await Parts(sizes).write()
    for last in (24, 11, 0, *range(25)):
        found = [one async for one in log.reader.search("c", 25, end_id=last, reverse=True)]

        assert found == log.events[: last + 1][::-1]
    part = await log.reader.read_last("c", 20, 25)
    assert part[-1].id == 24
    assert longest(part) < 1_000


async def test_readers_of_one_page_at_different_parts_get_what_they_asked_for():
    log = await Parts([5_000] * 10).write()

    found = await asyncio.gather(*(log.reader.read("c", one, 10) for one in range(10)))

    assert [[event.id for event in events] for events in found] == [[one] for one in range(10)]
