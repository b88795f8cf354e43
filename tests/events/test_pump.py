"""AppendPump: one batch at a time, and every outcome settled by what the log says."""

import asyncio

import orjson
import pytest

from events.batch import Appended, AppendQueue, draft_of
from events.conformance.records import append, contents, key, records
from events.errors import (
    AppendFailed,
    ConversationDeleted,
    StreamClosed,
    StreamOverloaded,
)
from events.pump import AppendPump
from events.stores.base import Head
from tests.support.faulty_store import (
    Held,
    fails,
    passes,
    unknown_before,
)
from tests.support.streams import everything, put, put_one, say
from tests.support.waiting import another_append


@pytest.fixture
def waiting_limit():
    return 20


async def test_nothing_is_acknowledged_or_published_before_it_is_durable(pump, store, published):
    held = Held()
    store.script.append(held)
    (taken,) = put(pump, "a")
    await held.reached.wait()
    await another_append(store.inner)

    assert not taken.done()
    assert published == []
    assert pump.next_id == 0

    held.release()
    assert await taken == Appended(0)
    assert published == await everything(store)


async def test_what_arrives_while_a_batch_is_in_flight_forms_the_next(pump, store):
    held = Held()
    store.script.append(held)
    taken = put(pump, "a", "b", "c", "d")
    await held.reached.wait()
    taken += put(pump, "e")
    held.release()

    assert await asyncio.gather(*taken) == [Appended(n) for n in range(5)]
    assert store.attempts == [(0, 4), (4, 1)]
    assert store.most_at_once == 1
    assert contents(await everything(store)) == list("abcde")


async def test_what_is_said_by_a_caller_that_was_just_told_waits_for_the_batch_in_flight(
    pump, store
):
    held = Held()
    store.script.extend([passes, held])
    later = []

    def say_more(_outcome):
        # The first of these runs after the next batch is submitted, and before the pump's own turn.
        asyncio.get_running_loop().call_soon(lambda: later.extend(put(pump, "c")))
        later.extend(put(pump, "b"))

    pump.put(draft_of(say("a")), None, say_more)
    await held.reached.wait()
    held.release()

    assert await asyncio.gather(*later) == [Appended(1), Appended(2)]
    assert store.attempts == [(0, 1), (1, 1), (2, 1)]
    assert store.most_at_once == 1


async def test_callers_are_told_before_an_event_is_published_and_in_the_same_step(store):
    journal = []

    def tell(outcome):
        journal.append("told")
        asyncio.get_running_loop().call_soon(journal.append, "the next step")

    pump = AppendPump(
        "c",
        store,
        Head(0, None, ""),
        queue=AppendQueue(10),
        append_seconds=10.0,
        publish=lambda _events, _summary, _size: journal.append("published"),
    )
    pump.put(draft_of(say("a")), None, tell)
    await put_one(pump, say("b"), None)
    pump.stop(StreamClosed("closed"))
    await pump.drain(10.0)

    assert journal == ["told", "published", "the next step"]


async def test_a_batch_is_bounded_in_events(store, published):
    pump = AppendPump(
        "c",
        store,
        Head(0, None, ""),
        queue=AppendQueue(2000),
        append_seconds=10.0,
        publish=lambda events, _summary, _size: published.extend(events),
    )

    await asyncio.gather(*put(pump, *map(str, range(1001))))

    assert store.attempts == [(0, 500), (500, 500), (1000, 1)]
    assert contents(published) == [str(n) for n in range(1001)]


async def test_a_batch_is_bounded_in_bytes(pump, store):
    await asyncio.gather(*put(pump, "a", *["x" * 1_250_000] * 4))

    assert store.attempts == [(0, 3), (3, 2)]


async def test_an_id_is_given_when_the_batch_is_formed_so_a_failed_one_leaves_no_hole(pump, store):
    held = Held(fails)
    store.script.append(held)
    (failed,) = put(pump, "lost")
    await held.reached.wait()
    later = put(pump, "a", "b")
    held.release()

    with pytest.raises(AppendFailed):
        await failed
    assert await asyncio.gather(*later) == [Appended(0), Appended(1)]
    assert contents(await everything(store)) == ["a", "b"]


async def test_a_failed_batch_fails_all_its_callers_and_is_never_published(pump, store, published):
    held = Held()
    store.script.extend([held, fails])
    (first,) = put(pump, "a")
    await held.reached.wait()
    failed = put(pump, "b", "c")
    held.release()
    await first

    outcomes = await asyncio.gather(*failed, return_exceptions=True)
    assert [type(one) for one in outcomes] == [AppendFailed, AppendFailed]
    assert await asyncio.gather(*put(pump, "d")) == [Appended(1)]
    assert contents(published) == ["a", "d"]


async def test_every_published_event_has_its_id_and_timestamp_in_its_body(pump, published):
    await asyncio.gather(*put(pump, "a", "b", "c"))

    bodies = [orjson.loads(event.body) for event in published]
    assert [body["id"] for body in bodies] == [0, 1, 2]
    stamps = [body["timestamp"] for body in bodies]
    assert stamps == sorted(stamps)
    assert all(len(stamp) == 27 and stamp.endswith("Z") for stamp in stamps)


async def test_the_pump_knows_the_newest_state_event(pump):
    state = {"source": "environment", "observation": "agent_state_changed", "extras": {}}
    before = pump.last_state_id

    await asyncio.gather(
        put_one(pump, say("a"), None), put_one(pump, state, None), put_one(pump, say("b"), None)
    )

    assert (before, pump.last_state_id) == (None, 1)
    assert pump.next_id == 3


async def test_a_key_under_way_shares_the_first_ones_outcome(pump, store):
    held = Held()
    store.script.append(held)
    in_flight = [put_one(pump, say("a"), key("k")) for _ in range(3)]
    queued = [put_one(pump, say("b"), key("l")) for _ in range(2)]
    await held.reached.wait()
    in_flight.append(put_one(pump, say("a"), key("k")))
    held.release()

    same = Appended(0, duplicate=True)
    assert await asyncio.gather(*in_flight) == [Appended(0), same, same, same]
    assert await asyncio.gather(*queued) == [Appended(1), Appended(1, duplicate=True)]
    assert contents(await everything(store)) == ["a", "b"]


async def test_a_key_under_way_shares_the_first_ones_failure_and_may_then_be_used(pump, store):
    store.script.append(fails)
    first, second = (put_one(pump, say("a"), key("k")) for _ in range(2))

    outcomes = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(one) for one in outcomes] == [AppendFailed, AppendFailed]
    assert await put_one(pump, say("a"), key("k")) == Appended(0)


async def test_keys_the_log_knows_give_their_ids_and_the_rest_is_appended_without_a_hole(
    pump, store, published
):
    await append(store.inner, "c", records(0, 3, "old"), keys={0: key("k0"), 2: key("k2")})
    pump.next_id = 3
    await put_one(pump, say("a"), None)

    taken = [put_one(pump, say("b"), None)]
    taken += [put_one(pump, say("x"), key(f"k{n}")) for n in (2, 1, 0)]
    taken += [put_one(pump, say("d"), None)]

    assert await asyncio.gather(*taken) == [
        Appended(4),
        Appended(2, duplicate=True),
        Appended(5),
        Appended(0, duplicate=True),
        Appended(6),
    ]
    assert contents(published) == ["a", "b", "x", "d"]
    assert contents(await everything(store)) == ["old"] * 3 + ["a", "b", "x", "d"]


async def test_one_append_more_than_may_wait_is_refused_and_nothing_of_it_taken(pump, store):
    held = Held()
    store.script.append(held)
    taken = put(pump, "0")
    await held.reached.wait()
    taken += put(pump, *map(str, range(1, 21)))  # one is in flight, twenty wait
    with pytest.raises(StreamOverloaded):
        put(pump, "refused")
    held.release()

    await asyncio.gather(*taken)

    assert contents(await everything(store)) == [str(n) for n in range(21)]
    assert await asyncio.gather(*put(pump, "later")) == [Appended(21)]


async def test_draining_finishes_what_was_taken_and_takes_nothing_more(pump, store):
    held = Held(unknown_before)
    store.script.append(held)
    taken = put(pump, "a", "b", "c")
    pump.stop(StreamClosed("closed"))
    with pytest.raises(StreamClosed):
        put(pump, "late")
    draining = asyncio.ensure_future(pump.drain(5.0))
    await held.reached.wait()
    held.release()
    await draining

    assert [one.result() for one in taken] == [Appended(n) for n in range(3)]
    assert contents(await everything(store)) == ["a", "b", "c"]


async def test_draining_gives_up_at_its_deadline_with_the_reason(pump, store):
    held = Held()
    store.script.append(held)
    taken = put(pump, "a", "b")
    pump.stop(StreamClosed("closed"))

    await pump.drain(1.0)

    outcomes = await asyncio.gather(*taken, return_exceptions=True)
    assert [type(one) for one in outcomes] == [StreamClosed, StreamClosed]
    held.release()


async def test_draining_when_nothing_is_under_way_returns_at_once(pump):
    loop = asyncio.get_running_loop()
    begun = loop.time()
    pump.stop(StreamClosed("closed"))

    await pump.drain(60.0)

    assert loop.time() == begun


async def test_a_deleted_log_refuses_what_waits_and_what_comes(pump, store):
    held = Held()
    store.script.append(held)
    taken = put(pump, "a", "b")
    await held.reached.wait()
    await store.delete("c")
    held.release()

    outcomes = await asyncio.gather(*taken, return_exceptions=True)
    assert [type(one) for one in outcomes] == [ConversationDeleted, ConversationDeleted]
    with pytest.raises(ConversationDeleted):
        put(pump, "late")
