"""Follower: streams of one process keep up with what another process appends to their logs."""

import asyncio

import pytest

from events.conformance.records import append, records
from events.errors import DamagedHead, DamagedRecord
from events.event import StoredEvent
from events.follower import EVENTS_AT_ONCE, LOGS_AT_ONCE, Follower
from events.stores.memory import MemoryEventStore
from events.stream import EventStream
from tests.support.faulty_store import FaultyEventStore, Held
from tests.support.streams import USER, log_of, message, open_stream, texts
from tests.support.waiting import another_append, others_have_ended


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
        async with asyncio.timeout(3_000.0):
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


async def test_what_is_rung_of_many_logs_is_read_together(store):
    follower = Follower(store, look_seconds=2.0)
    streams = [await grown(store, f"c{number}", "a", "b") for number in range(LOGS_AT_ONCE + 1)]
    for one in streams:
        follower.add(one.stream)

    follower.rung((one.stream.conversation_id, 2) for one in streams)
    follower.rung((one.stream.conversation_id, 1) for one in streams)
    for one in streams:
        await one.until(2)

    assert [texts(one.published) for one in streams] == [["a", "b"]] * len(streams)
    assert store.reads == 2


async def test_a_log_that_is_far_behind_lets_the_others_in_between(store):
    follower = Follower(store, look_seconds=2.0)
    long, other = await grown(store, "long"), await open_stream(store, "long")
    short = await grown(store, "short", "a")
    count = 3 * EVENTS_AT_ONCE
    await asyncio.gather(*(other.enqueue(message("x"), USER) for _ in range(count)))
    seen: list[int] = []
    short.stream.tap(lambda _events, _summary: seen.append(len(long.published)))
    for one in (long, short):
        follower.add(one.stream)

    await follower.look()
    await long.until(count)

    assert [one.id for one in long.published] == list(range(count))
    assert seen == [EVENTS_AT_ONCE]
    assert store.reads == 4


async def test_a_ring_that_runs_ahead_of_the_log_is_read_once(store):
    follower = Follower(store, look_seconds=2.0)
    one = await grown(store, "c", "a")
    empty = await grown(store, "empty")
    for stream in (one.stream, empty.stream):
        follower.add(stream)

    follower.rung([("empty", 3), ("c", 50_000)])
    await one.until(1)
    await follower.close()

    assert texts(one.published) == ["a"]
    assert empty.published == []
    assert store.reads == 1


async def test_a_stream_with_a_batch_in_flight_is_brought_up_behind_it(store):
    follower = Follower(store, look_seconds=2.0)
    one, other = await grown(store, "c"), await open_stream(store)
    follower.add(one.stream)
    held = Held()
    store.script.append(held)
    own = one.stream.enqueue(message("own"), USER)
    await held.reached.wait()
    await other.append(message("other"), USER)

    follower.rung([("c", 1)])
    held.release()
    await own
    await one.until(2)

    assert texts(one.published) == texts(await log_of(store)) == ["other", "own"]


async def test_a_damaged_log_keeps_no_other_from_being_brought_up(store):
    follower = Follower(store, look_seconds=2.0)
    left, right = await grown(store, "left", "a", "b"), await grown(store, "right", "c")
    for one in (left, right):
        follower.add(one.stream)
    store.unreadable, store.read_error = 1, DamagedRecord("left", 0, 0)

    follower.rung([("left", 2), ("right", 1)])
    await left.until(2)
    await right.until(1)

    assert texts(left.published) == ["a", "b"]
    assert texts(right.published) == ["c"]


@pytest.mark.parametrize("error", [None, RuntimeError("not thought of")])
async def test_what_cannot_be_read_is_left_to_the_next_ring(store, caplog, error):
    follower = Follower(store, look_seconds=2.0)
    one = await grown(store, "c", "a")
    follower.add(one.stream)
    store.unreadable, store.read_error = 1, error or store.read_error

    follower.rung([("c", 1)])
    await others_have_ended()
    assert one.published == []
    assert "cannot read on in 1 logs" in caplog.text
    follower.rung([("c", 1)])
    await one.until(1)

    assert texts(one.published) == ["a"]


async def test_a_follower_that_is_closed_reads_no_further(store):
    follower = Follower(store, look_seconds=2.0)
    one = await grown(store, "c", "a")
    follower.add(one.stream)
    follower.rung([("c", 1)])

    await follower.close()
    follower.rung([("c", 1)])
    await follower.look()

    assert store.reads == 0
    assert one.published == []


async def test_the_damaged_head_of_one_log_keeps_no_other_from_being_looked_at(store, caplog):
    class Beheaded(FaultyEventStore):
        async def heads(self, conversation_ids):
            if "b" in conversation_ids:
                raise DamagedHead("b", 0, 0)
            return await super().heads(conversation_ids)

    follower = Follower(Beheaded(store.inner), look_seconds=2.0)
    logs = [await grown(store, name, name) for name in "abc"]
    for one in logs:
        follower.add(one.stream)

    await follower.look()
    await logs[0].until(1)
    await logs[2].until(1)

    assert [texts(one.published) for one in logs] == [["a"], [], ["c"]]
    assert "b" in caplog.text
    await follower.close()


async def test_a_stream_that_is_appending_is_not_read_for_again_and_again(store):
    lagging = await grown(store)
    await append(store.inner, "c", records(0, 2 * EVENTS_AT_ONCE + 1, "elsewhere"))
    held = Held()
    store.script.append(held)
    said = asyncio.ensure_future(lagging.stream.append(message("here"), USER))
    await held.reached.wait()
    follower = Follower(store, look_seconds=2.0)
    follower.add(lagging.stream)

    follower.rung([("c", 2 * EVENTS_AT_ONCE + 1)])
    await another_append(store)
    assert store.reads == 1
    await held.end()
    await lagging.until(2 * EVENTS_AT_ONCE + 2)

    assert (await said).id == 2 * EVENTS_AT_ONCE + 1
    assert [one.id for one in lagging.published] == list(range(2 * EVENTS_AT_ONCE + 2))
    await follower.close()
