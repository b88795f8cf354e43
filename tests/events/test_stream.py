"""EventStream: the stream owns appends, and publishes each event once, in order, when durable."""

import asyncio
import re

import orjson
import pytest

from events.actions import AgentFinishAction, MCPAction, RecallAction
from events.batch import Appended
from events.conformance.records import records
from events.errors import (
    AppendFailed,
    BadEvent,
    ConversationDeleted,
    EventTooLarge,
    StreamClosed,
    StreamOverloaded,
)
from events.event import EventSource, RecallType
from events.observations import CUT_MARK, AgentStateChangedObservation, CmdOutputObservation
from events.redaction import MASK
from events.serialization import decode
from events.stores.memory import MemoryEventStore
from tests.support.faulty_store import FaultyEventStore, Held, Overtaken, fails, unknown_after
from tests.support.streams import AGENT, USER, Recorder, log_of, message, open_stream, texts
from tests.support.waiting import another_append


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
    await another_append(store.inner)
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
    stored = [orjson.loads(event.body) for event in await log_of(store)]
    assert [(one["message"], one["client_id"]) for one in stored] == [
        (MASK, "hunter22"),
        (MASK, "passw0rd"),
    ]


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


async def test_closing_finishes_what_was_taken_shows_it_and_takes_nothing_more(stream):
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
    assert stored[0] == {**stored[3], "client_id": "key hunter22"}
    assert stored[1] == stored[2]
    assert {one["message"] for one in stored} == {f"say {MASK}"}


PLANTED = "QZX-7341-QZX-9"


async def test_the_agent_reads_what_was_handed_over_until_it_has_seen_it(stream, store):
    stream.update_secrets({"one": PLANTED})
    told: list[Appended | Exception] = []
    stream.submit_text(f"say {PLANTED}", USER, told.append, client_id="k")
    await stream.append(message(f"no, {PLANTED}"), AGENT)
    await stream.append(message("without"), AGENT)
    stored = await log_of(store)

    read = [stream.unmasked(event) for event in stored]
    stream.forget_unmasked(0)
    later = [stream.unmasked(event) for event in stored]

    assert PLANTED.encode() not in b"".join(event.body for event in stored)
    assert [event.message for event in read] == [f"say {PLANTED}", f"no, {PLANTED}", "without"]
    assert [event.message for event in later] == [f"say {MASK}", f"no, {PLANTED}", "without"]
    assert read[0] == decode(orjson.loads(stored[0].body)).model_copy(
        update={"content": f"say {PLANTED}"}
    )


async def test_of_texts_without_masks_only_the_newest_bytes_are_held(store):
    stream = await open_stream(store, unmasked_bytes=1000)
    stream.update_secrets({"one": PLANTED})
    for number in range(20):
        await stream.append(message(f"{number} {PLANTED}"), USER)
    stored = await log_of(store)

    whole = [
        number for number, event in enumerate(stored) if PLANTED in stream.unmasked(event).message
    ]

    assert whole == list(range(20))[-len(whole) :]
    assert 2 <= len(whole) < 10
    await stream.close()


async def test_an_event_above_the_bound_is_refused_with_its_size_and_the_next_one_taken(store):
    stream = await open_stream(store, event_bytes=100_000)

    for event in (message("x" * 60_000), MCPAction(name="t", arguments={"a": "x" * 120_000})):
        with pytest.raises(
            EventTooLarge, match=r"has [12][0-9]{2},[0-9]{3} bytes.* 100,000"
        ) as refused:
            await stream.append(event, AGENT)
        assert refused.value.code == "event_too_large"
    with pytest.raises(EventTooLarge):
        stream.submit_text("x" * 60_000, USER, lambda _: None)

    assert await stream.append(message("short"), AGENT) == Appended(0)
    await stream.close()


async def test_long_output_is_masked_before_it_is_cut(stream, store):
    stream.update_secrets({"one": PLANTED})
    for place in range(15_000 - len(PLANTED), 15_001):
        text = "a" * place + PLANTED + "b" * 40_000
        for content in (text, text[::-1].replace(PLANTED[::-1], PLANTED)):
            await stream.append(CmdOutputObservation(command="ls", content=content), AGENT)

    for event in await log_of(store):
        content = orjson.loads(event.body)["content"]
        assert CUT_MARK in content
        assert len(content) <= 30_000 + len(CUT_MARK) + 2
        assert not re.search("[QZX0-9]", content)


async def test_a_shortened_text_is_derived_from_masked_fields(stream, store):
    stream.update_secrets({"one": PLANTED})
    query = "x" * 40 + PLANTED

    await stream.append(RecallAction(recall_type=RecallType.KNOWLEDGE, query=query), USER)

    (stored,) = await log_of(store)
    assert orjson.loads(stored.body)["message"] == f"Retrieving content for: {'x' * 40}{MASK[:10]}"


class Plan:
    """An agent's own object."""

    def __str__(self):
        return f"plan {PLANTED}"


class Unspeakable:
    """It cannot be spelled."""

    def __repr__(self):
        raise RuntimeError(PLANTED)


nested: dict[str, object] = {}
nested["self"] = nested
UNFIT = [
    ("a\ud800b", "a\ufffdb"),
    ("\ud83d\ude00", "\U0001f600"),
    (2**64, str(2**64)),
    (-(10**5000), hex(-(10**5000))),
    (float("nan"), None),
    (float("-inf"), None),
    ({1: 2, None: 3, (1, 2): 4}, {"1": 2, "None": 3, "(1, 2)": 4}),
    ({"k\udfff": 1}, {"k\ufffd": 1}),
    (b"\xffbytes", "\ufffdbytes"),
    ({7}, [7]),
    ((PLANTED, 1), [MASK, 1]),
    (Plan(), f"plan {MASK}"),
    (Unspeakable(), "<Unspeakable>"),
    (EventSource.AGENT, "agent"),
]


@pytest.mark.parametrize(
    ("value", "stored"), UNFIT, ids=[type(value).__name__ for value, _ in UNFIT]
)
async def test_what_an_agent_says_is_stored_whatever_it_holds(stream, store, value, stored):
    stream.update_secrets({"one": PLANTED})
    said = MCPAction(name="tool", arguments={"deep": [{"value": value}]}, thought="t\udc00")
    metrics = {"accumulated_cost": value if isinstance(value, float) else 0.5, "more": [value]}

    await stream.append(said.model_copy(update={"llm_metrics": metrics}), AGENT)

    (event,) = await log_of(store)
    body = orjson.loads(event.body)
    assert body["args"]["arguments"] == {"deep": [{"value": stored}]}
    assert body["args"]["thought"] == "t\ufffd"
    assert body["llm_metrics"]["more"] == [stored]
    assert isinstance(stream.unmasked(event), MCPAction)


async def test_what_is_nested_within_itself_is_stored_in_part(stream, store):
    await stream.append(MCPAction(name="tool", arguments=nested), AGENT)
    await stream.append(AgentFinishAction(outputs={"deep": deeply_nested(2000)}), AGENT)
    state = AgentStateChangedObservation(agent_state="error", reason="why \udcff")
    await stream.append(state, AGENT)
    output = CmdOutputObservation(command="ls \ud800", content="\udcff" * 40_000)
    await stream.append(output, AGENT)

    called, finished, failed, ran = [orjson.loads(event.body) for event in await log_of(store)]
    assert called["args"]["arguments"]["self"]["self"]
    assert finished["args"]["outputs"]["deep"][0][0]
    assert failed["extras"]["reason"] == "why \ufffd"
    assert ran["content"].startswith("\ufffd" * 15_000 + "\n[...")
    assert ran["message"] == "Command `ls \ufffd` executed with exit code -1."


def deeply_nested(levels):
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value
