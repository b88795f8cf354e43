"""The projection of the log that a client sees, alike in replay and live."""

from typing import Any

import orjson
import pytest

from events.actions import ChangeAgentStateAction, MessageAction, NullAction
from events.event import AgentState, Event, EventSource
from events.observations import (
    AgentStateChangedObservation,
    BrowserOutputObservation,
    ErrorObservation,
    NullObservation,
)
from events.serialization import decode
from events.stores.memory import MemoryEventStore
from tests.support.event_kinds import ACTION_TABLE, OBSERVATION_TABLE
from tests.support.hooked import HookedEventStore
from tests.support.live import Live, live_server
from tests.support.raw_client import EVENT, payload_of

AGENT, USER, ENVIRONMENT = EventSource.AGENT, EventSource.USER, EventSource.ENVIRONMENT
END = "the end"


@pytest.fixture
async def live():
    async with live_server() as opened:
        yield opened


def state(name: AgentState, reason: str = "") -> tuple[Event, EventSource]:
    return AgentStateChangedObservation(agent_state=name, reason=reason), ENVIRONMENT


def every_kind() -> list[tuple[Event, EventSource]]:
    events: list[Event] = []
    for kind, (required, _, _) in ACTION_TABLE.items():
        events.append(decode({"action": kind, "args": dict(required)}))
    for kind, (required, _, _) in OBSERVATION_TABLE.items():
        events.append(decode({"observation": kind, "content": "c", "extras": dict(required)}))
    return [(event, source) for source in EventSource for event in events]


async def packets(live: Live, conversation_id: str, cursor: int = -1) -> list[str]:
    """Return the texts a client gets that joins now, up to the end."""
    async with live.raw(conversation_id, cursor=cursor) as client:
        await client.connect()
        found: list[str] = []
        while not found or END not in found[-1]:
            text = await client.packet()
            if text.startswith(EVENT):
                found.append(text)
        return found


async def replayed(live: Live, *events: tuple[Event, EventSource]) -> list[dict[str, Any]]:
    conversation_id = await live.new()
    await live.append(conversation_id, *events)
    async with live.joined(conversation_id) as client:
        (end,) = await live.append(conversation_id, (MessageAction(content=END), AGENT))
        await client.until(lambda one: end in one.ids)
        return [event for event in client.events if event["id"] < len(events)]


async def test_every_kind_is_the_same_in_bytes_live_and_replayed(live):
    conversation_id = await live.new()
    events = every_kind()
    async with live.raw(conversation_id) as client:
        await client.connect()
        while "awaiting_user_input" not in await client.packet():
            continue
        await live.application.manager.close_session(conversation_id)
        begin = (await live.stream(conversation_id)).next_id
        await live.append(conversation_id, *events, (MessageAction(content=END), AGENT))
        told: list[str] = []
        while not told or END not in told[-1]:
            text = await client.packet()
            if text.startswith(EVENT) and payload_of(text)["id"] >= begin:
                told.append(text)

    again = await packets(live, conversation_id, begin - 1)

    states = [text for text in told if '"agent_state_changed"' in text]
    assert len(told) > 75
    assert again == [text for text in told if text not in states[:-1]]


async def test_facts_of_the_environment_are_shown_as_the_agents(live):
    for name in ("run", "recall", "agent_state_changed"):
        required, _, _ = OBSERVATION_TABLE[name]
        fact = decode({"observation": name, "content": "", "extras": dict(required)})

        (shown,) = await replayed(live, (fact, ENVIRONMENT))

        assert shown["source"] == "agent"
    (error,) = await replayed(live, (ErrorObservation(content="broken"), ENVIRONMENT))
    assert error["source"] == "agent"


async def test_the_log_keeps_the_source_that_the_wire_rewrites(live):
    conversation_id = await live.new()
    await live.append(conversation_id, state(AgentState.FINISHED))

    (stored, *_) = await live.log(conversation_id)

    assert orjson.loads(stored.body)["source"] == "environment"


async def test_what_the_environment_does_is_hidden(live):
    required, _, _ = ACTION_TABLE["run"]
    shown = await replayed(
        live,
        (ChangeAgentStateAction(agent_state=AgentState.RUNNING), ENVIRONMENT),
        (decode({"action": "run", "args": dict(required)}), ENVIRONMENT),
        (decode({"observation": "loop_detection", "content": "", "extras": {}}), ENVIRONMENT),
        (MessageAction(content="from nowhere"), ENVIRONMENT),
    )

    assert shown == []


async def test_null_events_are_hidden_whoever_made_them(live):
    events: list[tuple[Event, EventSource]] = [
        (event, source)
        for source in EventSource
        for event in (NullAction(), NullObservation(content=""))
    ]

    assert await replayed(live, *events) == []


async def test_what_browsers_cannot_use_is_left_out_of_what_they_browsed(live):
    heavy = {"dom_object", "axtree_object", "extra_element_properties"}
    visited = BrowserOutputObservation(
        content="page",
        url="http://a",
        trigger_by_action="browse",
        screenshot="png",
        dom_object={"a": 1},
        axtree_object={"b": 2},
        extra_element_properties={"c": 3},
    )

    (shown,) = await replayed(live, (visited, AGENT))

    assert not heavy & shown["extras"].keys()
    assert shown["extras"]["screenshot"] == "png"


async def test_of_the_states_before_joining_only_the_newest_comes_in_its_place(live):
    shown = await replayed(
        live,
        state(AgentState.LOADING),
        (MessageAction(content="a"), AGENT),
        state(AgentState.ERROR, "flashed"),
        state(AgentState.RUNNING),
        (MessageAction(content="b"), AGENT),
    )

    assert [event["id"] for event in shown] == [1, 3, 4]


@pytest.mark.parametrize("cursor", [-1, 0, 1, 2, 3, 99])
async def test_a_newest_state_error_comes_last_and_again(live, cursor):
    conversation_id = await live.new()
    await live.append(
        conversation_id,
        state(AgentState.RUNNING),
        state(AgentState.ERROR, "it broke"),
        (MessageAction(content="a"), AGENT),
        (MessageAction(content="b"), AGENT),
    )

    async with live.raw(conversation_id, cursor=cursor) as client:
        await client.connect()
        shown = [await client.event()]
        while shown[-1]["id"] != 1:
            shown.append(await client.event())

    assert [event["id"] for event in shown] == [*range(max(2, cursor + 1), 4), 1]
    assert shown[-1]["extras"]["reason"] == "it broke"
    assert client.cursor == max(3, cursor)


async def test_a_newest_state_error_comes_before_the_states_told_after_joining():
    armed: list[str] = []

    async def hook(point: str, conversation_id: str) -> None:
        if point in armed:
            armed.clear()
            await opened.append(
                conversation_id, state(AgentState.RUNNING), state(AgentState.PAUSED)
            )

    events = HookedEventStore(MemoryEventStore(), hook)
    async with live_server(events=events, page_size=4, page_cache_bytes=0) as opened:
        conversation_id = await opened.new()
        backlog = [(MessageAction(content="a"), AGENT) for _ in range(4)]
        await opened.append(conversation_id, state(AgentState.ERROR, "it broke"), *backlog)
        # Opening it reads, too: what the hook appends comes in the middle of the replay.
        async with opened.application.manager.attach(conversation_id, None):
            armed.append("read.before")
            async with opened.joined(conversation_id) as client:
                await client.state("paused")

    # Whether the loop's own `loading` comes before or after what the hook appends is left open.
    assert client.ids[:5] == [1, 2, 3, 4, 0]
    assert client.ids[5:] == sorted(set(client.ids[5:]))
    told = [event["extras"]["agent_state"] for event in client.events if "extras" in event]
    assert told[0] == "error"
    assert [one for one in told if one != "loading"][1:3] == ["running", "paused"]
