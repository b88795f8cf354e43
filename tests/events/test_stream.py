"""EventStream: the stream owns appends, and publishes each event once, in order, when durable."""

import asyncio

import orjson
import pytest

from events.batch import Appended
from events.conformance.records import records
from events.errors import (
    AppendFailed,
    BadEvent,
    ConversationDeleted,
    StreamClosed,
    StreamOverloaded,
)
from events.stores.memory import MemoryEventStore
from tests.support.faulty_store import FaultyEventStore, Held, Overtaken, fails, unknown_after
from tests.support.streams import AGENT, USER, Recorder, log_of, message, open_stream, texts


@pytest.fixture
def store():
    return FaultyEventStore(MemoryEventStore())


@pytest.fixture
async def stream(store):
    opened = await open_stream(store)
    yield opened
    await opened.close()


async def test_an_append_is_done_when_the_event_is_in_the_log(stream, store):
    assert await stream.append(message("a"), USER) == Appended(0)
    assert await stream.append(message("b"), AGENT) == Appended(1)

    bodies = [orjson.loads(event.body) for event in await log_of(store)]
    assert [(body["id"], body["source"], body["message"]) for body in bodies] == [
        (0, "user", "a"),
        (1, "agent", "b"),
    ]
    assert stream.next_id == 2


async def test_events_are_published_in_id_order_each_once_and_only_when_durable(stream, store):
    held = Held()
    store.script.extend([held, unknown_after, Overtaken(lambda first_id: records(first_id, 2))])
    recorder = Recorder()
    stream.subscribe("test", recorder)
    taken = [stream.enqueue(message("0"), USER)]
    await held.reached.wait()
    taken += [stream.enqueue(message(str(n)), USER) for n in range(1, 20)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert (recorder.ids, stream.next_id) == ([], 0)
    held.release()
    await asyncio.gather(*taken)
    taken.append(stream.enqueue(message("20"), USER))
    await asyncio.gather(*taken)
    await stream.flush()

    assert recorder.events == await log_of(store)
    assert recorder.ids == list(range(23))


async def test_every_subscriber_sees_the_same(stream, store):
    recorders = [Recorder() for _ in range(5)]
    for recorder in recorders:
        stream.subscribe("test", recorder)

    await asyncio.gather(*(stream.append(message(str(n)), USER) for n in range(50)))
    await stream.flush()

    log = await log_of(store)
    assert all(recorder.events == log for recorder in recorders)


@pytest.mark.parametrize("cancelled_at", range(4))
async def test_cancelling_the_caller_neither_stops_nor_repeats_nor_hides_its_append(
    stream, store, cancelled_at
):
    recorder = Recorder()
    stream.subscribe("test", recorder)
    caller = asyncio.ensure_future(stream.append(message("a"), USER, client_id="k"))
    for _ in range(cancelled_at + 1):
        await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)

    repeated = await stream.append(message("a"), USER, client_id="k")
    await stream.flush()

    assert repeated == Appended(0, duplicate=True)
    assert texts(await log_of(store)) == texts(recorder.events) == ["a"]


async def test_timing_out_leaves_the_append_under_way(stream, store):
    held = Held()
    store.script.append(held)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await stream.append(message("a"), USER)
    held.release()

    assert await stream.append(message("b"), USER) == Appended(1)
    assert texts(await log_of(store)) == ["a", "b"]


async def test_a_key_is_compared_before_it_is_masked(stream, store):
    stream.update_secrets({"one": "hunter22", "two": "passw0rd"})
    first = await stream.append(message("hunter22"), USER, client_id="hunter22")
    second = await stream.append(message("passw0rd"), USER, client_id="passw0rd")
    again = await stream.append(message("hunter22"), USER, client_id="hunter22")

    assert (first, second) == (Appended(0), Appended(1))
    assert again == Appended(0, duplicate=True)
    assert b"hunter22" not in b"".join(event.body for event in await log_of(store))


async def test_a_key_is_known_to_the_next_stream(stream, store):
    await stream.append(message("a"), USER, client_id="k")
    await stream.close()
    later = await open_stream(store)

    assert await later.append(message("a"), USER, client_id="k") == Appended(0, duplicate=True)
    assert later.next_id == 1


async def test_a_failed_append_is_told_and_nothing_of_it_is_seen(stream, store):
    recorder = Recorder()
    stream.subscribe("test", recorder)
    store.script.append(fails)

    with pytest.raises(AppendFailed):
        await stream.append(message("lost"), USER)
    await stream.append(message("a"), USER)
    await stream.flush()

    assert texts(recorder.events) == ["a"]
    assert recorder.ids == [0]


async def test_too_many_waiting_appends_are_refused_at_once(store):
    stream = await open_stream(store, waiting_appends=3)
    store.script.append(held := Held())
    taken = [stream.enqueue(message("0"), USER)]
    await held.reached.wait()
    taken += [stream.enqueue(message(str(n)), USER) for n in range(1, 4)]

    with pytest.raises(StreamOverloaded):
        await stream.enqueue(message("more"), USER)
    held.release()

    assert await asyncio.gather(*taken) == [Appended(n) for n in range(4)]


async def test_an_event_that_was_stored_already_is_refused(stream):
    stored = message("a").model_copy(update={"id": 3})

    with pytest.raises(BadEvent):
        stream.enqueue(stored, USER)


async def test_an_events_own_timestamp_gives_way_to_the_one_of_its_append(stream, store):
    claimed = message("a").model_copy(update={"timestamp": "1999-01-01T00:00:00.000000Z"})

    await stream.append(claimed, USER)

    (event,) = await log_of(store)
    assert event.body.count(b'"timestamp"') == 1
    assert b"1999" not in event.body


async def test_closing_finishes_what_was_taken_shows_it_and_takes_nothing_more(stream, store):
    recorder = Recorder()
    stream.subscribe("test", recorder)
    taken = [stream.enqueue(message(str(n)), USER) for n in range(10)]

    await stream.close()

    assert [one.result() for one in taken] == [Appended(n) for n in range(10)]
    assert recorder.ids == list(range(10))
    with pytest.raises(StreamClosed):
        stream.enqueue(message("late"), USER)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_gives_up_at_its_deadline(stream, store):
    held = Held()
    store.script.append(held)
    taken = stream.enqueue(message("a"), USER)

    await stream.close(drain_seconds=1.0)

    with pytest.raises(StreamClosed):
        await taken
    held.release()


async def test_a_deleted_conversation_cannot_be_opened_or_written_or_read(stream, store):
    await stream.append(message("a"), USER)
    await store.delete("c")
    await stream.mark_deleted()

    with pytest.raises(ConversationDeleted):
        stream.enqueue(message("late"), USER)
    with pytest.raises(ConversationDeleted):
        await stream.read(0)
    with pytest.raises(ConversationDeleted):
        await open_stream(store)


async def test_no_page_of_a_deleted_conversation_is_left_in_the_cache(store):
    stream = await open_stream(store, page_size=2)
    for number in range(7):
        await stream.append(message(str(number)), USER)
    for first_id in (0, 2, 4, 6):
        await stream.read(first_id)
    cache = stream._reader.cache
    assert len(cache) == 4
    await store.delete("c")

    await stream.mark_deleted()

    assert (len(cache), cache.size_bytes) == (0, 0)


async def test_what_waits_when_the_conversation_is_deleted_is_refused(stream, store):
    held = Held()
    store.script.append(held)
    taken = [stream.enqueue(message(str(n)), USER) for n in range(3)]
    await held.reached.wait()
    await store.delete("c")
    held.release()
    await stream.mark_deleted()

    outcomes = await asyncio.gather(*taken, return_exceptions=True)
    assert {type(one) for one in outcomes} == {ConversationDeleted}


async def test_the_state_of_an_opened_stream_is_the_logs(stream, store):
    await stream.append(message("a"), USER)
    later = await open_stream(store)

    assert (later.next_id, later.last_state_id) == (1, None)
    assert later.epoch == (await store.head("c")).epoch


async def test_a_text_is_stored_as_its_message_would_be_and_masked_alike(stream, store):
    stream.update_secrets({"one": "hunter22"})
    said = "say hunter22"
    told: list[Appended | Exception] = []
    stream.submit_text(said, USER, told.append, client_id="key hunter22")
    stream.submit_text(said, USER, told.append)
    stream.submit_text(said, USER, told.append, client_id="key hunter22")
    again = await stream.append(message(said), USER, client_id="key hunter22")
    await stream.append(message(said), USER)
    await stream.append(message(said), USER, client_id="other hunter22")

    assert told == [Appended(0), Appended(0, duplicate=True), Appended(1)]
    assert again == Appended(0, duplicate=True)
    stored = [
        {**orjson.loads(event.body), "id": None, "timestamp": None} for event in await log_of(store)
    ]
    assert stored[0] == {**stored[3], "client_id": "key <secret_hidden>"}
    assert stored[1] == stored[2]
    assert "hunter22" not in str(stored)
