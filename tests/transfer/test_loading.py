"""Events appended many at a time, and what is derived of them without decoding each."""

import orjson
import pytest
from hypothesis import given, strategies as st

from events.batch import digest_of
from events.conformance.records import append, records
from events.errors import AppendConflict, ConversationDeleted, DuplicateClientId
from events.event import StoredEvent
from events.stores.opening import storage_problems
from events.summary import NO_CHANGE, fold
from events.transfer.loading import Loader, derived
from storage.conversations.metadata import ConversationMetadata
from tests.support.whole_storages import EVERY_KIND, NOON, measured, opened

TEXTS = st.sampled_from(
    ["", "timestamp", "client_id", "llm_metrics", "agent_state_changed", "finish"]
)
METRICS = st.fixed_dictionaries(
    {},
    optional={
        "accumulated_cost": st.sampled_from([0, 0.5, 2.25, -1, True, None, "1"]),
        "accumulated_token_usage": st.sampled_from(
            [None, {}, {"prompt_tokens": 3}, {"prompt_tokens": -1}, {"completion_tokens": 2}]
        ),
    },
)
PAYLOADS = st.fixed_dictionaries(
    {"message": TEXTS},
    optional={
        "timestamp": st.sampled_from(["2026-05-04T12:00:00Z", "2026-05-04T12:00:01Z", 7, None]),
        "action": st.sampled_from(["message", "finish", "run", ""]),
        "observation": st.sampled_from(["agent_state_changed", "run"]),
        "source": st.sampled_from(["user", "agent", "environment"]),
        "llm_metrics": st.one_of(METRICS, st.none()),
        "client_id": st.sampled_from(["a", "b", "c", 1, None]),
    },
)


@given(st.lists(PAYLOADS, min_size=1, max_size=12))
def test_what_is_derived_of_events_is_their_fold_and_the_first_event_of_each_key(payloads):
    events = [StoredEvent(7 + place, 0, orjson.dumps(one)) for place, one in enumerate(payloads)]

    summary = NO_CHANGE
    keys: dict[bytes, int] = {}
    for place, (event, payload) in enumerate(zip(events, payloads, strict=True)):
        summary = fold(summary, event.id, payload)
        if isinstance(payload.get("client_id"), str):
            keys.setdefault(digest_of(payload["client_id"]), place)

    found = derived(events)
    assert found.summary == summary
    assert found.keys == {place: digest for digest, place in keys.items()}


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_many_events_appended_together_are_as_if_they_had_come_one_by_one(kind, tmp_path):
    log = [*records(0, 150), measured(150, "k1"), *records(151, 149), measured(300, "k2")]
    log += records(301, 130)
    async with opened(kind, tmp_path / "new") as (stores, config):
        view = stores.storage.conversations.for_user("ann")
        loader = Loader(stores)
        for key in ("one", "many"):
            record = ConversationMetadata(conversation_id=key, created_at=NOON)
            await view.save_metadata(record)
        for event in log:
            await loader.append("one", [event])
        for begin, end in ((0, 200), (200, 300), (300, 401), (401, 431)):
            await loader.append("many", log[begin:end])

        one, many = await view.get_all_metadata(["one", "many"])
        assert many == one.model_copy(update={"conversation_id": "many"})
        heads = await stores.events.heads(["one", "many"])
        assert [head.next_id for head in heads] == [431, 431]
        assert heads[0].last_timestamp == heads[1].last_timestamp
        for key in ("one", "many"):
            assert await stores.events.read(key, 0, 431) == log
            assert await stores.events.read(key, 98, 202) == log[98:202]
            assert await stores.events.find(key, digest_of("k1")) == 150
            assert await stores.events.find(key, digest_of("k2")) == 300
            await append(stores.events, key, records(431, 3))
            assert await stores.events.read(key, 430, 434) == [log[-1], *records(431, 3)]
        problems = storage_problems(config) if kind in ("sqlite", "local") else []
    assert problems == []


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_many_events_are_refused_as_one_is(kind, tmp_path):
    key = {0: digest_of("k")}
    async with opened(kind, tmp_path / "new") as (stores, _):
        view = stores.storage.conversations.for_user(None)
        await view.save_metadata(ConversationMetadata(conversation_id="c", created_at=NOON))
        await stores.events.append_many("c", 0, records(0, 100), summary=NO_CHANGE, keys=key)
        with pytest.raises(AppendConflict):
            await stores.events.append_many("c", 0, records(0, 100), summary=NO_CHANGE)
        with pytest.raises(AppendConflict):
            await stores.events.append_many("c", 200, records(200, 100), summary=NO_CHANGE)
        with pytest.raises(DuplicateClientId):
            await stores.events.append_many(
                "c", 100, records(100, 100), summary=NO_CHANGE, keys=key
            )
        assert (await stores.events.head("c")).next_id == 100
        assert await stores.events.read("c", 0, 300) == records(0, 100)
        await stores.events.delete("c")
        with pytest.raises(ConversationDeleted):
            await stores.events.append_many("c", 100, records(100, 100), summary=NO_CHANGE)
