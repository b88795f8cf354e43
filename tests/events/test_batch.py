"""AppendQueue: order, ids and timestamps given as a batch is formed, keys under way."""

from dataclasses import replace

import orjson
import pytest

from events.batch import Appended, AppendQueue, ByteBudget, digest_of, draft_of
from events.errors import AppendFailed, StreamOverloaded
from events.event import EventFlag

STATE = draft_of({"source": "agent", "observation": "agent_state_changed", "extras": {}})
PAST = "2000-01-01T00:00:00.000000Z"
FUTURE = "2999-01-01T00:00:00.000000Z"


def ignore(outcome):
    assert outcome is not None


def say(text, **fields):
    payload = {"source": "agent", "action": "message", "args": {"content": text}, **fields}
    return draft_of(payload)


@pytest.fixture
async def queue():
    return AppendQueue(10)


async def test_events_leave_in_the_order_they_came_with_dense_ids(queue):
    for text in "abc":
        queue.put(say(text), None, ignore)

    batch = queue.form(7, PAST)

    bodies = [orjson.loads(event.body) for event in batch.events]
    assert [event.id for event in batch.events] == [body["id"] for body in bodies] == [7, 8, 9]
    assert [body["args"]["content"] for body in bodies] == list("abc")
    assert batch.first_id == 7
    assert len(queue.waiting) == 0


async def test_the_timestamp_is_the_present_and_one_for_the_whole_batch(queue):
    queue.put(say("a"), None, ignore)
    queue.put(say("b"), None, ignore)

    batch = queue.form(0, PAST)

    assert {orjson.loads(event.body)["timestamp"] for event in batch.events} == {batch.timestamp}
    assert PAST < batch.timestamp < FUTURE


async def test_the_timestamp_never_lies_before_the_last_one(queue):
    queue.put(say("a"), None, ignore)

    assert queue.form(0, FUTURE).timestamp == FUTURE


async def test_a_batch_carries_its_keys_flags_and_fold(queue):
    queue.put(say("a"), None, ignore)
    queue.put(STATE, b"digest", ignore)
    queue.put(say("b", llm_metrics={"accumulated_cost": 2.5}), None, ignore)

    batch = queue.form(4, PAST)

    assert batch.keys == {1: b"digest"}
    assert [event.flag for event in batch.events] == [EventFlag.PLAIN, EventFlag.STATE, 0]
    assert batch.summary.last_event_id == 6
    assert batch.summary.last_state_id == 5
    assert batch.summary.accumulated_cost == 2.5
    assert batch.summary.last_updated_at == batch.timestamp


async def test_what_is_put_back_leaves_first_with_new_ids(queue):
    for text in "abc":
        queue.put(say(text), None, ignore)
    first = queue.form(0, PAST)
    queue.put(say("d"), None, ignore)
    queue.put_back(first.waiting[1:])

    bodies = [orjson.loads(event.body) for event in queue.form(5, PAST).events]

    assert [(body["id"], body["args"]["content"]) for body in bodies] == [
        (5, "b"),
        (6, "c"),
        (7, "d"),
    ]


async def test_the_bound_refuses_one_more_and_takes_nothing_of_it(queue):
    for number in range(10):
        queue.put(say(str(number)), None, ignore)

    with pytest.raises(StreamOverloaded):
        queue.put(say("more"), b"key", ignore)

    queue.form(0, PAST)
    assert len(queue.waiting) == 0
    queue.put(say("again"), b"key", ignore)
    assert len(queue.waiting) == 1


async def test_a_key_under_way_takes_no_place_in_the_queue(queue):
    for number in range(10):
        queue.put(say(str(number)), digest_of(str(number)), ignore)
    told: list[object] = []

    queue.put(say("3"), digest_of("3"), told.append)
    batch = queue.form(0, PAST)
    batch.waiting[3].settle(Appended(3))

    assert told == [Appended(3, duplicate=True)]


async def test_all_callers_of_one_key_are_told_and_only_the_first_is_no_duplicate(queue):
    told: list[object] = []
    for _ in range(3):
        queue.put(say("a"), b"k", told.append)

    queue.form(0, PAST).waiting[0].settle(Appended(0))

    assert told == [Appended(0), Appended(0, duplicate=True), Appended(0, duplicate=True)]


async def test_a_caller_that_raises_keeps_nobody_from_being_told(queue, caplog):
    told: list[object] = []

    def fail(outcome):
        raise RuntimeError("its connection is gone")

    for caller in (told.append, fail, told.append):
        queue.put(say("a"), b"k", caller)
    queue.form(0, PAST).waiting[0].settle(Appended(0))

    assert told == [Appended(0), Appended(0, duplicate=True)]
    assert "its connection is gone" in caplog.text


async def test_a_key_is_free_again_once_its_first_outcome_is_told(queue):
    told: list[object] = []
    queue.put(say("a"), b"k", told.append)
    queue.fail(queue.form(0, PAST).waiting[0], AppendFailed("full"))
    assert [type(one) for one in told] == [AppendFailed]

    queue.put(say("a"), b"k", ignore)

    assert len(queue.waiting) == 1


async def test_refusing_everything_that_waits_tells_every_caller(queue):
    told: list[object] = []
    for text in "abc":
        queue.put(say(text), None, told.append)

    queue.fail_all(AppendFailed("closing"))

    assert [type(one) for one in told] == [AppendFailed] * 3


def test_any_text_has_a_digest_of_its_own():
    digests = {digest_of(text) for text in ("", "a", "b", "\ud800", "a\x00", "ä")}

    assert len(digests) == 6
    assert all(len(digest) == 32 for digest in digests)


LONG = 100_000
"""Characters of a message, whose event has them twice."""


def put_all(queue, count, text="x" * LONG, **options):
    """Put until the queue refuses; how many it took."""
    for number in range(count):
        try:
            queue.put(say(text), None, ignore, **options)
        except StreamOverloaded:
            return number
    return count


async def test_what_waits_is_bounded_in_bytes_and_room_is_there_again_when_a_batch_has_ended():
    queue = AppendQueue(1_000, 1_000_000)

    taken = put_all(queue, 100)
    assert queue.size_bytes <= 1_000_000 < queue.size_bytes + LONG + 1_000
    batch = queue.form(0, PAST)
    assert put_all(queue, 1) == 0
    queue.end(batch)

    assert queue.size_bytes == 0
    assert put_all(queue, 100) == taken


async def test_an_event_longer_than_the_bound_is_taken_where_nothing_waits():
    queue = AppendQueue(1_000, 70_000)

    assert put_all(queue, 2) == 1


async def test_short_events_are_taken_whatever_other_conversations_hold():
    budget = ByteBudget(1_000_000)
    full, other = (AppendQueue(1_000, 10_000_000, budget) for _ in range(2))
    put_all(full, 100)

    assert put_all(other, 1) == 0
    assert put_all(other, 100, "short") == 100
    assert put_all(other, 5, own=True) == 5


async def test_the_process_s_bytes_are_given_back_however_events_end():
    budget = ByteBudget(1_000_000)
    queue = AppendQueue(1_000, 10_000_000, budget)
    taken = put_all(queue, 100)
    assert 0 < budget.used_bytes <= 1_000_000

    batch = queue.form(0, PAST)
    queue.end(batch)
    queue.put_back(batch.waiting[1:])
    for waiting in queue.form(0, PAST).waiting:
        queue.fail(waiting, AppendFailed("full"))
    queue.end(replace(batch, size_bytes=queue.size_bytes))
    assert budget.used_bytes == 0

    assert put_all(queue, 100) == taken
    queue.fail_all(AppendFailed("the end"))
    assert (budget.used_bytes, queue.size_bytes) == (0, 0)
