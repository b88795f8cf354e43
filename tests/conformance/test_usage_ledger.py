"""The usage that the logs tell: by owner, model and day, over every back-end."""

import asyncio
from typing import Any

import orjson
import pytest

from events.errors import DamagedHead
from events.event import StoredEvent
from events.stores.memory import MemoryEventStore
from events.summary import fold
from events.usage import NO_DAY, SLICE, UsageLedger, counted
from storage.conversations.memory import MemoryConversations
from storage.conversations.metadata import ConversationMetadata
from storage.usage.memory import MemoryUsage
from storage.usage.model import ConversationUsage
from tests.support.admin_backends import DURABLE_KINDS, KINDS, open_admin_stores

SECONDS = 5.0


def payload(day=2, model=None, cost=None, prompt=0, completion=0):
    told: dict[str, Any] = {"timestamp": f"2026-03-{day:02}T23:59:59.000001Z", "action": "message"}
    if model is not None:
        usage = {"model": model, "prompt_tokens": prompt, "completion_tokens": completion}
        told["llm_metrics"] = {"accumulated_cost": cost, "accumulated_token_usage": usage}
    return told


async def append(stores, conversation_id, start_id, payloads):
    change, events = None, []
    for event_id, given in enumerate(payloads, start_id):
        # No two events of a log have one moment: its newest tells whether it has grown.
        one = {**given, "timestamp": f"{given['timestamp'][:19]}.{event_id:06}Z"}
        change = fold(change, event_id, one)
        events.append(StoredEvent(event_id, 0, orjson.dumps({"id": event_id, **one})))
    await stores.events.append(conversation_id, start_id, events, summary=change)


async def keep(stores, conversation_id, user_id):
    record = ConversationMetadata(conversation_id=conversation_id)
    await stores.conversations.for_user(user_id).save_metadata(record)


async def lines(stores):
    return [
        (one.day.day, one.user_id, one.model, one.events, one.prompt_tokens, one.cost)
        for one in await stores.usage.totals()
    ]


@pytest.fixture(params=KINDS)
async def stores(request, tmp_path):
    async with open_admin_stores(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def ledger(stores):
    return UsageLedger(stores.events, stores.usage)


async def test_differences_of_sums_go_to_the_model_and_day_of_their_event(stores, ledger):
    await keep(stores, "c1", "ann")
    await append(
        stores,
        "c1",
        0,
        [
            payload(2),
            payload(2, "m", 0.5, 100, 10),
            payload(2, "m", 0.75, 150, 15),
            payload(3, "n", 1.0, 160, 16),
        ],
    )

    assert (await ledger.catch_up(SECONDS)).complete

    assert await lines(stores) == [
        (3, "ann", "n", 1, 10, 0.25),
        (2, "ann", "", 1, 0, 0.0),
        (2, "ann", "m", 2, 150, 0.75),
    ]
    record = await stores.conversations.for_user("ann").get_metadata("c1")
    assert record.accumulated_cost == sum(one[-1] for one in await lines(stores))


async def test_only_what_is_new_is_counted_and_once(stores, ledger):
    await keep(stores, "c1", None)
    await append(stores, "c1", 0, [payload(2)] * 3)
    await ledger.catch_up(SECONDS)
    await append(stores, "c1", 3, [payload(2, "m", 0.5, 1, 1)] * 2)

    for _ in range(3):
        assert (await ledger.catch_up(SECONDS)).complete

    assert await lines(stores) == [(2, None, "", 3, 0, 0.0), (2, None, "m", 2, 1, 0.5)]


async def test_a_log_of_many_slices_is_counted_to_its_end(stores, ledger):
    await keep(stores, "c1", None)
    await append(stores, "c1", 0, [payload(2)] * (2 * SLICE + 1))

    await ledger.catch_up(SECONDS)

    assert await lines(stores) == [(2, None, "", 2 * SLICE + 1, 0, 0.0)]


async def test_usage_survives_the_deletion_of_its_conversation(stores, ledger):
    await keep(stores, "c1", "ann")
    await append(stores, "c1", 0, [payload(2, "m", 0.5, 1, 1)])

    await ledger.before_deletion("c1", "ann")
    await stores.events.delete("c1")
    await stores.conversations.for_user("ann").delete_metadata("c1")
    await ledger.catch_up(SECONDS)

    assert await lines(stores) == [(2, "ann", "m", 1, 1, 0.5)]


async def test_a_recount_comes_to_the_same(stores, ledger):
    await keep(stores, "c1", "ann")
    await append(stores, "c1", 0, [payload(2, "m", 0.5, 1, 1), payload(3)])
    await ledger.catch_up(SECONDS)
    before = await lines(stores)

    await ledger.recount("c1")
    assert await lines(stores) == []
    await ledger.catch_up(SECONDS)

    assert await lines(stores) == before


async def test_counting_several_times_at_once_counts_once(stores, ledger):
    await keep(stores, "c1", None)
    await append(stores, "c1", 0, [payload(2)] * 50)

    await asyncio.gather(*(ledger.catch_up(SECONDS) for _ in range(5)))

    assert await lines(stores) == [(2, None, "", 50, 0, 0.0)]


@pytest.mark.parametrize("kind", DURABLE_KINDS)
async def test_after_a_restart_counting_goes_on_where_it_was(tmp_path, kind):
    async with open_admin_stores(kind, tmp_path) as stores:
        await keep(stores, "c1", None)
        await append(stores, "c1", 0, [payload(2)] * 3)
        await UsageLedger(stores.events, stores.usage).catch_up(SECONDS)
        await append(stores, "c1", 3, [payload(3)])

    async with open_admin_stores(kind, tmp_path) as stores:
        await UsageLedger(stores.events, stores.usage).catch_up(SECONDS)
        assert await lines(stores) == [(3, None, "", 1, 0, 0.0), (2, None, "", 3, 0, 0.0)]


async def test_a_conversation_that_cannot_be_read_keeps_no_other_from_being_counted():
    class Broken(MemoryEventStore):
        async def read(self, conversation_id, start_id, end_id):
            if conversation_id == "c1":
                raise DamagedHead(conversation_id, 0, 0)
            return await super().read(conversation_id, start_id, end_id)

    records = MemoryConversations()
    events, usage = Broken(records.fold), MemoryUsage(records.all_owners)
    for conversation_id in ("c1", "c2"):
        await records.for_user(None).save_metadata(
            ConversationMetadata(conversation_id=conversation_id)
        )
        event = StoredEvent(0, 0, orjson.dumps({"id": 0, **payload(2)}))
        change = fold(None, 0, payload(2))
        await events.append(conversation_id, 0, [event], summary=change)

    outcome = await UsageLedger(events, usage).catch_up(SECONDS)

    assert (outcome.complete, outcome.failed) == (False, 1)
    assert [one.events for one in await usage.totals()] == [1]


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"timestamp":7,"llm_metrics":[]}',
        b'{"timestamp":"never","llm_metrics":{"accumulated_cost":"much"}}',
        b'{"timestamp":"never","llm_metrics":{"accumulated_token_usage":{"model":3}}}',
    ],
)
def test_an_event_that_makes_no_sense_is_an_event_all_the_same(body):
    usage = counted(ConversationUsage(conversation_id="c1"), [StoredEvent(0, 0, body)])

    (line,) = usage.lines
    assert (line.day, line.model, line.events, line.cost) == (NO_DAY, "", 1, 0.0)


def test_a_correction_downwards_leaves_the_sum_at_what_the_newest_event_says():
    told = [payload(2, "m", 2.0, 20, 2), payload(3, "m", 1.5, 15, 1)]
    events = [StoredEvent(place, 0, orjson.dumps(one)) for place, one in enumerate(told)]

    usage = counted(ConversationUsage(conversation_id="c1"), events)

    assert [line.cost for line in usage.lines] == [2.0, -0.5]
    assert sum(line.prompt_tokens for line in usage.lines) == 15
