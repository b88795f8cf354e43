"""AppendPump when an outcome is unknown or another writer was first: the log decides."""

import asyncio
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from events.batch import Appended
from events.conformance.records import append, contents, key, record, records
from events.damage import DAMAGED_ID
from events.errors import (
    AppendFailed,
    AppendUnknown,
    ConversationDeleted,
    DamagedRecord,
    DuplicateClientId,
)
from events.event import EventFlag, StoredEvent
from events.stores.base import NEXT_TRIES
from events.summary import SummaryChange
from tests.support.faulty_store import (
    Held,
    Overtaken,
    fails,
    passes,
    silent,
    unknown_after,
    unknown_before,
)
from tests.support.streams import everything, put, put_one, say


async def texts_in(store) -> list[str]:
    return contents(await everything(store))


def foreign(count):
    return Overtaken(lambda first_id: records(first_id, count, "foreign"))


@pytest.mark.parametrize("fault", [unknown_before, unknown_after], ids=["not landed", "landed"])
async def test_an_unknown_outcome_is_read_back_and_every_event_is_there_once(
    pump, store, published, fault
):
    store.script.append(fault)

    assert await asyncio.gather(*put(pump, "a", "b", "c")) == [Appended(n) for n in range(3)]

    assert await texts_in(store) == ["a", "b", "c"]
    assert contents(published) == ["a", "b", "c"]


async def test_a_store_that_breaks_in_an_unknown_way_while_it_is_read_back_is_asked_again(
    pump, store, caplog
):
    store.script.append(unknown_after)
    store.unreadable, store.read_error = 2, RuntimeError("not thought of")

    assert await asyncio.gather(*put(pump, "a")) == [Appended(0)]
    assert "not thought of" in caplog.text


async def test_only_what_did_not_land_is_submitted_again_at_the_same_id(pump, store):
    store.script.extend([unknown_after, unknown_before])

    await asyncio.gather(*put(pump, "a"))
    await asyncio.gather(*put(pump, "b", "c"))

    assert store.attempts == [(0, 1), (1, 2), (1, 2)]


async def test_nothing_further_is_taken_until_the_tail_was_read_back(pump, store, published):
    store.script.append(unknown_after)
    store.unreadable = 5
    taken = put(pump, "a", "b")
    while store.unreadable:
        await asyncio.sleep(0.01)
        assert store.attempts == [(0, 2)]
        assert published == []
        if len(taken) == 2:
            taken += put(pump, "c")

    assert await asyncio.gather(*taken) == [Appended(0), Appended(1), Appended(2)]
    assert await texts_in(store) == ["a", "b", "c"]


@pytest.mark.parametrize("landed", [True, False])
async def test_a_write_without_an_outcome_by_the_deadline_is_read_back(
    pump, store, published, landed
):
    held = Held(silent, before=passes) if landed else Held()
    store.script.append(held)
    begun = asyncio.get_running_loop().time()

    assert await asyncio.gather(*put(pump, "a", "b")) == [Appended(0), Appended(1)]

    assert asyncio.get_running_loop().time() - begun >= 10.0
    await held.end()
    assert await texts_in(store) == contents(published) == ["a", "b"]


async def test_a_late_failure_of_an_abandoned_attempt_does_not_fail_the_one_that_followed(
    pump, store, published
):
    first, second = Held(fails), Held()
    store.script.extend([first, second])
    taken = put(pump, "a")
    await second.reached.wait()
    await first.end()
    second.release()

    assert await asyncio.gather(*taken) == [Appended(0)]
    assert await texts_in(store) == contents(published) == ["a"]


async def test_a_failure_is_not_told_while_an_earlier_attempt_may_still_land(
    pump, store, published
):
    first = Held()
    store.script.extend([first, fails])
    taken = put(pump, "a")
    while len(store.attempts) < 2:
        await asyncio.sleep(1)
    first.release()

    assert await asyncio.gather(*taken) == [Appended(0)]
    assert await texts_in(store) == contents(published) == ["a"]


async def test_a_late_success_of_an_abandoned_attempt_counts_once(pump, store, published):
    first, second = Held(), Held()
    store.script.extend([first, second])
    taken = put(pump, "a", "b")
    await second.reached.wait()
    first.release()
    second.release()

    assert await asyncio.gather(*taken) == [Appended(0), Appended(1)]
    assert await texts_in(store) == contents(published) == ["a", "b"]


async def test_a_conflict_publishes_what_the_other_wrote_and_puts_its_own_behind(
    pump, store, published
):
    store.script.append(foreign(3))

    assert await asyncio.gather(*put(pump, "a", "b")) == [Appended(3), Appended(4)]

    assert contents(published) == ["foreign"] * 3 + ["a", "b"]
    assert [event.id for event in published] == list(range(5))
    assert await texts_in(store) == contents(published)


async def test_two_unknown_outcomes_and_a_conflict_in_a_row_lose_and_repeat_nothing(
    pump, store, published
):
    store.script.extend([unknown_before, foreign(1), foreign(2), unknown_after])

    taken = await asyncio.gather(*put(pump, *"abcdef"))

    assert contents(published) == await texts_in(store)
    assert [contents(published)[one.id] for one in taken] == list("abcdef")
    assert len(published) == 9


async def test_a_foreign_state_event_is_the_newest_state_until_ones_own(pump, store):
    def state(first_id):
        return [record(first_id, flag=EventFlag.STATE)]

    store.script.append(Overtaken(state))

    await asyncio.gather(*put(pump, "a"))

    assert pump.last_state_id == 0


async def test_a_timestamp_never_runs_behind_the_one_of_another_writer(pump, store, published):
    future = "2999-01-01T00:00:00.000000Z"

    def from_a_fast_clock(first_id):
        return [StoredEvent(first_id, 0, b'{"timestamp":"%s"}' % future.encode())]

    store.script.append(Overtaken(from_a_fast_clock))

    await asyncio.gather(*put(pump, "a", "b"))

    assert [orjson.loads(event.body)["timestamp"] for event in published] == [future] * 3


@pytest.mark.parametrize("told", ['"', "x", "9", "\udcff", "2999-01-01"])
async def test_what_another_writer_left_for_a_timestamp_and_is_none_does_not_get_into_events(
    pump, store, published, told
):
    async def overtaken(attempt):
        body = orjson.dumps({"timestamp": told if told.isascii() else None})
        event = StoredEvent(attempt.expected_next_id, 0, body)
        summary = SummaryChange(event.id, told)
        await attempt.inner.append("c", event.id, [event], summary=summary)
        await attempt.write()

    store.script.append(overtaken)

    await asyncio.gather(*put(pump, "a"))
    await asyncio.gather(*put(pump, "b"))

    moments = [orjson.loads(event.body)["timestamp"] for event in published[1:]]
    assert len(moments) == 2
    for moment in moments:
        assert abs(datetime.fromisoformat(moment) - datetime.now(UTC)) < timedelta(hours=1)


async def test_over_a_store_that_cannot_hold_its_end_a_writer_always_overtaken_says_so(
    pump, store, published
):
    store.script.extend([foreign(1)] * (NEXT_TRIES + 1))

    (outcome,) = await asyncio.gather(*put(pump, "a"), return_exceptions=True)

    assert isinstance(outcome, AppendFailed)
    assert await asyncio.gather(*put(pump, "b")) == [Appended(NEXT_TRIES + 1)]
    assert contents(published) == await texts_in(store) == ["foreign"] * (NEXT_TRIES + 1) + ["b"]


async def test_a_deletion_found_while_reading_back_is_told(pump, store):
    held = Held(unknown_before)
    store.script.append(held)
    taken = put(pump, "a", "b")
    await held.reached.wait()
    await store.delete("c")
    held.release()

    outcomes = await asyncio.gather(*taken, return_exceptions=True)
    assert [type(one) for one in outcomes] == [ConversationDeleted, ConversationDeleted]


async def test_a_key_is_kept_through_an_unknown_outcome(pump, store):
    store.script.extend([unknown_after, unknown_before])
    payload = {"source": "user", "message": "a", "action": "message", "args": {"content": "a"}}
    taken = [put_one(pump, dict(payload), key(name)) for name in ("k", "l", "k", "l")]

    assert [one.id for one in await asyncio.gather(*taken)] == [0, 1, 0, 1]
    assert await store.inner.find("c", key("l")) == 1
    assert await put_one(pump, dict(payload), key("k")) == Appended(0, duplicate=True)


async def duplicate(attempt):
    """The event is in the log already, as a later attempt has put it there."""
    raise DuplicateClientId({0: 0})


@pytest.mark.parametrize("late", [unknown_before, fails, duplicate])
async def test_the_late_failure_of_an_attempt_that_was_given_up_changes_nothing(pump, store, late):
    given_up, second = Held(late), Held()
    store.script += [given_up, second]
    taken = put_one(pump, say("a"), key("k"))
    await second.reached.wait()
    reads = store.reads

    given_up.release()
    await asyncio.wait([taken], timeout=5.0)

    assert not taken.done()
    assert store.reads == reads
    second.release()
    assert await taken == Appended(0)
    assert contents(await everything(store)) == ["a"]


async def test_keys_that_cannot_be_looked_up_fail_their_own_events_and_hold_nothing_up(
    pump, store, published
):
    async def lost_keys(_attempt):
        raise DamagedRecord("c", 0, 0)

    store.script.append(lost_keys)
    keyed = put_one(pump, say("keyed"), key("k"))
    others = put(pump, "a", "b")

    outcomes = await asyncio.gather(keyed, *others, return_exceptions=True)

    assert isinstance(outcomes[0], DamagedRecord)
    assert outcomes[1:] == [Appended(0), Appended(1)]
    assert contents(published) == ["a", "b"]
    assert await put_one(pump, say("keyed"), key("k")) == Appended(2)


async def test_a_damaged_event_of_another_writer_does_not_hold_up_what_is_read_back(
    pump, store, published
):
    async def overtaken_unknown(attempt):
        await append(attempt.inner, "c", records(0, 2, "foreign"))
        store.damaged = {0}
        raise AppendUnknown("connection lost")

    store.script.append(overtaken_unknown)

    assert await asyncio.gather(*put(pump, "a")) == [Appended(2)]
    assert [event.id for event in published] == [0, 1, 2]
    assert DAMAGED_ID.encode() in published[0].body
