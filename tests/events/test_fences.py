"""Appending under a claim to a log's loop: a stale one is refused, everything else goes on."""

import asyncio

import pytest

from events.batch import Appended
from events.errors import Fenced
from events.fence import THIS_PROCESS, Fence
from events.stores.memory import MemoryEventStore
from tests.support.faulty_store import FaultyEventStore, Held, unknown_after, unknown_before
from tests.support.streams import AGENT, USER, log_of, message, open_stream, texts

OLD, NEW = Fence(7, 1), Fence(8, 2)


@pytest.fixture
def store():
    return FaultyEventStore(MemoryEventStore())


async def test_a_message_without_a_claim_is_taken_after_one_with_a_claim(store):
    holder, other = await open_stream(store), await open_stream(store)
    await holder.held_by(OLD).append(message("of the loop"), AGENT)

    assert await other.append(message("of a person"), USER) == Appended(1)
    assert texts(await log_of(store)) == ["of the loop", "of a person"]
    assert (await store.head("c")).fence == OLD


@pytest.mark.parametrize("stale", [Fence(7, 1), Fence(8, 1)], ids=["older", "same number"])
async def test_a_stale_claim_fails_its_own_events_and_no_others(store, stale):
    stream = await open_stream(store)
    await stream.held_by(NEW).append(message("first"), AGENT)
    held = stream.held_by(stale)

    outcomes = await asyncio.gather(
        stream.enqueue(message("a"), USER),
        held.enqueue(message("stale"), AGENT),
        stream.enqueue(message("b"), USER, client_id="b"),
        held.enqueue(message("stale too"), AGENT, client_id="s"),
        return_exceptions=True,
    )

    assert [outcomes[0], outcomes[2]] == [Appended(1), Appended(2)]
    assert [type(outcomes[1]), type(outcomes[3])] == [Fenced, Fenced]
    assert texts(await log_of(store)) == ["first", "a", "b"]
    assert await stream.append(message("c"), AGENT, client_id="s") == Appended(3)


async def test_events_of_two_claims_share_no_batch_and_keep_their_order(store):
    stream = await open_stream(store)
    old, new = stream.held_by(OLD), stream.held_by(NEW)

    outcomes = await asyncio.gather(
        stream.enqueue(message("a"), USER),
        old.enqueue(message("b"), AGENT),
        stream.enqueue(message("c"), USER),
        new.enqueue(message("d"), AGENT),
        old.enqueue(message("too late"), AGENT),
        stream.enqueue(message("e"), USER),
        return_exceptions=True,
    )

    assert [type(one) for one in outcomes].index(Fenced) == 4
    assert texts(await log_of(store)) == ["a", "b", "c", "d", "e"]
    assert (await store.head("c")).fence == NEW
    assert store.attempts == [(0, 3), (3, 1), (4, 2), (4, 1)]


@pytest.mark.parametrize("fault", [unknown_before, unknown_after], ids=["not landed", "landed"])
async def test_an_unknown_outcome_under_a_claim_is_read_back(store, fault):
    stream = await open_stream(store)
    store.script.append(fault)

    assert await stream.held_by(OLD).append(message("a"), AGENT) == Appended(0)

    assert texts(await log_of(store)) == ["a"]
    assert (await store.head("c")).fence == OLD


async def test_a_claim_that_became_stale_while_the_outcome_was_unknown_is_refused(store):
    stream, taker = await open_stream(store), await open_stream(store)
    lost = Held(unknown_before)
    store.script.append(lost)
    stale = stream.held_by(OLD).enqueue(message("stale"), AGENT)
    person = stream.enqueue(message("of a person"), USER)
    await lost.reached.wait()
    await taker.held_by(NEW).append(message("taken over"), AGENT)
    lost.release()

    with pytest.raises(Fenced):
        await stale
    assert await person == Appended(1)
    assert texts(await log_of(store)) == ["taken over", "of a person"]


async def test_what_waits_under_a_claim_is_appended_before_the_stream_closes(store):
    stream = await open_stream(store)
    held = stream.held_by(OLD)
    appended = held.enqueue(message("a"), AGENT)

    await stream.close()

    assert await appended == Appended(0)


async def test_a_new_claim_of_the_process_is_over_all_that_the_log_has_and_all_made_here(store):
    stream = await open_stream(store)
    await stream.held_by(Fence(41, 7)).append(message("elsewhere"), AGENT)
    await stream.close()
    stream = await open_stream(store)
    first, second = stream.claim(), stream.claim()
    assert [first.fence, second.fence] == [Fence(42, THIS_PROCESS), Fence(43, THIS_PROCESS)]

    await first.append(message("first"), AGENT)
    await second.append(message("second"), AGENT)

    with pytest.raises(Fenced):
        await first.append(message("late"), AGENT)
    assert stream.claim().fence.number == 44
    assert texts(await log_of(store)) == ["elsewhere", "first", "second"]
