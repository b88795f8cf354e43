"""Masks that came elsewhere: nothing is appended any more with those of before."""

import asyncio

import orjson
import pytest

from events.actions import MessageAction
from events.batch import Appended
from events.conformance.records import append as append_records, records
from events.errors import MasksChanged, StreamClosed
from events.follower import Follower
from events.redaction import MASK
from events.stores.memory import MemoryEventStore
from tests.support.faulty_store import (
    FaultyEventStore,
    Held,
    Overtaken,
    unknown_after,
    unknown_before,
)
from tests.support.streams import USER, log_of, message, open_stream, texts
from tests.support.waiting import until

OLD, NEW = {"OLD": "old-secret-value"}, {"NEW": "new-secret-value"}
SAID = f"{OLD['OLD']} and {NEW['NEW']}"
HALF = f"{MASK} and {NEW['NEW']}"
WHOLE = f"{MASK} and {MASK}"


@pytest.fixture
def store():
    return FaultyEventStore(MemoryEventStore())


async def masked_stream(store, version=1):
    """A stream that has learned the old masks, and what it was asked for."""
    stream = await open_stream(store, append_seconds=10.0)
    stream.learn_masks(OLD, version)
    asked: list[int] = []
    stream.when_masks_change(asked.append)
    return stream, asked


async def raise_version(store, version, next_id=0):
    """Append as another node that knows newer masks."""
    await append_records(store.inner, "c", records(next_id, 1, "elsewhere"), masks=version)


async def test_every_append_names_the_version_that_the_stream_learned_last(store):
    stream, asked = await masked_stream(store)
    assert await stream.append(message(SAID), USER) == Appended(0)
    assert (await store.head("c")).masks == 1
    stream.learn_masks(NEW, 4)
    stream.learn_masks({}, 2)

    await stream.append(message(SAID), USER)

    assert (await store.head("c")).masks == 4
    assert texts(await log_of(store)) == [HALF, WHOLE]
    assert asked == []


async def test_a_refused_batch_is_masked_anew_once_the_masks_are_learned(store):
    stream, _ = await masked_stream(store)
    stream.when_masks_change(lambda version: stream.learn_masks(NEW, version))
    await raise_version(store, 2)

    taken = [stream.enqueue(message(f"{SAID} {number}"), USER) for number in range(3)]

    assert await asyncio.gather(*taken) == [Appended(1), Appended(2), Appended(3)]
    log = await log_of(store)
    assert texts(log)[1:] == [f"{WHOLE} {number}" for number in range(3)]
    assert b"new-secret" not in b"".join(event.body for event in log)
    assert (await store.head("c")).masks == 2


async def test_the_agent_has_the_text_without_masks_whenever_it_was_masked(store):
    stream, _ = await masked_stream(store)
    stream.when_masks_change(lambda version: stream.learn_masks(NEW, version))
    await raise_version(store, 2)
    said = [SAID, f"only {NEW['NEW']}", f"only {OLD['OLD']}", "nothing"]

    taken = [stream.enqueue(message(text), USER) for text in said]
    await asyncio.gather(*taken)

    log = await log_of(store)
    assert texts(log)[1:] == [WHOLE, f"only {MASK}", f"only {MASK}", "nothing"]
    found = [stream.unmasked(event) for event in log[1:]]
    assert [one.content for one in found if isinstance(one, MessageAction)] == said
    stream.forget_unmasked(len(log))
    assert stream._unmasked_bytes == 0


async def test_what_waits_behind_a_batch_in_flight_is_masked_anew_with_it(store):
    stream, _ = await masked_stream(store)
    held = Held(unknown_before)
    store.script.append(held)
    first = stream.enqueue(message(SAID), USER)
    await held.reached.wait()
    second = stream.enqueue(message(SAID), USER)
    await raise_version(store, 3)
    stream.learn_masks(NEW, 3)
    held.release()

    assert [await first, await second] == [Appended(1), Appended(2)]
    assert texts(await log_of(store))[1:] == [WHOLE, WHOLE]


@pytest.mark.parametrize("fault", [unknown_before, unknown_after], ids=["not landed", "landed"])
async def test_an_unknown_outcome_under_older_masks_counts_once(store, fault):
    stream, _ = await masked_stream(store)
    held = Held(fault)
    store.script.append(held)
    taken = stream.enqueue(message(SAID), USER)
    await held.reached.wait()
    stream.learn_masks(NEW, 2)
    held.release()

    assert await taken == Appended(0)
    await stream.append(message(SAID), USER)
    assert texts(await log_of(store)) == [HALF, WHOLE]


async def test_at_the_end_of_a_log_of_others_the_masks_are_asked_for_too(store):
    stream, asked = await masked_stream(store)
    store.script.append(Overtaken(lambda first_id: records(first_id, 2)))
    await raise_version(store, 2)
    taken = stream.enqueue(message(SAID), USER)
    await until(lambda: asked)
    stream.learn_masks({}, 1)  # too old
    stream.learn_masks(NEW, 2)

    assert (await taken).id == stream.next_id - 1
    assert texts(await log_of(store))[-1] == WHOLE
    assert set(asked) == {2}


async def test_masks_that_do_not_come_in_time_fail_the_batch_that_waits_for_them(store):
    stream, asked = await masked_stream(store)
    await raise_version(store, 2)
    begun = asyncio.get_running_loop().time()

    with pytest.raises(MasksChanged):
        await stream.append(message(SAID), USER)

    assert asyncio.get_running_loop().time() - begun >= 10.0
    assert asked == [2]
    stream.learn_masks(NEW, 2)
    await stream.append(message(SAID), USER)
    assert texts(await log_of(store)) == ["elsewhere", WHOLE]


async def test_a_stream_that_closes_while_it_waits_for_masks_tells_so(store):
    stream, _ = await masked_stream(store)
    await raise_version(store, 2)
    taken = stream.enqueue(message(SAID), USER)

    await stream.close(drain_seconds=2.0)

    with pytest.raises(StreamClosed):
        await taken
    assert texts(await log_of(store)) == ["elsewhere"]


async def test_look_asks_for_the_masks_that_the_log_needs(store):
    stream, asked = await masked_stream(store)
    plain = await open_stream(store)
    await raise_version(store, 6)

    await asyncio.gather(stream.look(), plain.look())

    assert asked == [6]
    assert plain.next_id == stream.next_id == 1


async def test_a_look_of_the_follower_asks_for_the_masks_that_logs_need(store):
    stream, asked = await masked_stream(store)
    follower = Follower(store, look_seconds=2.0)
    follower.add(stream)
    await raise_version(store, 1)
    await follower.look()
    await raise_version(store, 6, next_id=1)

    await follower.look()
    await follower.close()

    assert asked == [6]


async def test_a_stream_that_learned_no_version_is_never_refused_for_one(store):
    await raise_version(store, 9)
    stream = await open_stream(store)
    stream.update_secrets(OLD)

    await stream.append(message(SAID), USER)

    body = orjson.loads((await log_of(store))[1].body)
    assert body["message"] == HALF


async def test_masks_that_come_after_the_stream_gave_up_waiting_for_them_are_learned(store):
    await raise_version(store, 3)
    stream, asked = await masked_stream(store)
    waiting = asyncio.ensure_future(stream.append(message(SAID), USER))
    await until(lambda: asked == [3])
    await stream.close(drain_seconds=0)
    with pytest.raises(StreamClosed):
        await waiting

    stream.learn_masks(NEW, 3)

    assert stream.masked(SAID) == WHOLE
