"""Stops of a turn, over REST and over sockets, with an agent whose model would notice."""

import asyncio

import pytest

from events.event import AgentState
from storage.users.settings import Settings
from tests.support.clients import command
from tests.support.live import live_server
from tests.support.model_endpoint import hang, model_endpoint
from tests.support.payloads import is_answer
from tests.support.remote import CONVERSATIONS, remote
from tests.support.servers import class_path
from tests.support.turn_agents import Answering, Chatting
from tests.support.waiting import WAIT_SECONDS

AWAITING = AgentState.AWAITING_USER_INPUT


@pytest.fixture
async def live():
    async with live_server(agent_class=class_path(Answering)) as opened:
        yield opened


@pytest.fixture
async def api(live):
    async with remote(live.url) as opened:
        yield opened


def of_agent(client):
    """The agent's messages among what a client was sent."""
    return [
        (one["args"]["content"], one.get("interrupted")) for one in client.events if is_answer(one)
    ]


async def working(client, text):
    """Have the agent begin; the id of its turn."""
    await client.set_to_work(text)
    recall = await client.event(lambda one: one.get("action") == "recall")
    return recall["id"]


async def stop(api, conversation_id, turn):
    """Stop a turn over REST; the answer."""
    answer = await api.client.post(
        f"{CONVERSATIONS}/{conversation_id}/stop-turn", json={"turn": turn}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def turns(api, conversation_id, **query):
    """The list of a conversation's turns."""
    answer = await api.client.get(f"{CONVERSATIONS}/{conversation_id}/turns", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def begun(live, conversation_id):
    """Wait until something of a text was told."""
    stream = await live.stream(conversation_id)
    told = asyncio.Event()
    end = stream.partials.tap(lambda pieces: told.set())
    if not any(partial.told for partial in stream.partials.open):
        await asyncio.wait_for(told.wait(), 5)
    end()


async def test_a_stop_before_the_first_word_leaves_no_text(live, api):
    one = await live.new()
    async with live.joined(one) as client:
        turn = await working(client, "hang")
        assert await stop(api, one, turn) == {"stopped": True}
        await client.state(AgentState.STOPPED)
        assert of_agent(client) == []
    assert (await turns(api, one))["turns"][0]["outcome"] == "stopped"


async def test_a_stop_in_mid_text_keeps_what_was_shown(live, api):
    one = await live.new()
    async with live.joined(one) as client:
        turn = await working(client, "slow")
        await begun(live, one)
        assert await stop(api, one, turn) == {"stopped": True}
        await client.state(AgentState.STOPPED)
        assert of_agent(client) == [("A long answer begins", "stopped")]


async def test_a_stop_in_an_action_answers_it_with_an_error(live, api):
    one = await live.new()
    async with live.joined(one) as client:
        turn = await working(client, "run")
        action = await client.event(lambda payload: payload.get("action") == "run")
        assert await stop(api, one, turn) == {"stopped": True}
        closed = await client.event(lambda payload: payload.get("cause") == action["id"])
    assert closed["extras"]["error_id"] == "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED"
    assert closed["turn"] == action["turn"] == turn


async def test_a_stop_in_an_approval_ends_the_turn():
    async with (
        live_server(agent_class=class_path(Answering), confirmation_mode=True) as live,
        remote(live.url) as api,
    ):
        one = await live.new()
        async with live.joined(one) as client:
            turn = await working(client, "run")
            await client.state(AgentState.AWAITING_USER_CONFIRMATION)
            assert await stop(api, one, turn) == {"stopped": True}
            await client.state(AgentState.STOPPED)


async def test_a_stop_from_a_second_tab_or_after_a_reconnect_is_the_same(live, api):
    one = await live.new()
    async with live.joined(one) as client:
        turn = await working(client, "slow")
    async with live.joined(one) as again, live.joined(one) as other:
        payload = command(AgentState.STOPPED)
        payload["args"]["of"] = turn
        assert (await other.send(payload))["status"] == "ok"
        await again.state(AgentState.STOPPED)
        assert await stop(api, one, turn) == {"stopped": False}


async def test_a_stop_that_comes_twice_or_late_meets_no_other_turn(live, api):
    one = await live.new()
    async with live.joined(one) as client:
        turn = await working(client, "hang")
        answers = await asyncio.gather(stop(api, one, turn), stop(api, one, turn))
        assert {"stopped": True} in answers
        stopped = await client.state(AgentState.STOPPED)
        said = await client.say("hang again")
        await client.state(AgentState.RUNNING, after=said["id"] - 1)
        last = client.cursor
        assert await stop(api, one, turn) == {"stopped": False}
        payload = command(AgentState.STOPPED)
        payload["args"]["of"] = turn
        await client.send(payload)
        found = (await turns(api, one))["turns"]

    assert said["id"] > stopped["id"]
    assert last >= said["id"]
    assert [entry["outcome"] for entry in found] == [None, "stopped"]


async def test_a_message_that_waits_is_answered_once_the_turn_before_it_is_stopped(live, api):
    one = await live.new()
    async with live.joined(one) as client:
        turn = await working(client, "hang")
        said = await client.say("hello")
        assert await stop(api, one, turn) == {"stopped": True}
        await client.state(AWAITING, after=said["id"])
        assert of_agent(client) == [("Heard ['hang', 'hello'], attempt 1", None)]
        found = (await turns(api, one))["turns"]

    assert [(entry["outcome"], entry["cause"]) for entry in found] == [
        ("done", [said["id"]]),
        ("stopped", [found[1]["cause"][0]]),
    ]


async def test_a_turn_can_be_begun_without_a_message(live, api):
    one = await live.new()
    async with live.joined(one) as client:
        ready = await client.state(AWAITING)
        answer = await api.client.post(f"{CONVERSATIONS}/{one}/turns", json={})
        await client.state(AWAITING, after=ready["id"])
        texts = of_agent(client)
        found = (await turns(api, one))["turns"]

    assert answer.status_code == 200
    assert texts == [("Heard [], attempt 1", None)]
    assert [(entry["cause"], entry["outcome"]) for entry in found] == [([], "done")]


async def test_a_turn_without_a_message_begins_although_there_was_no_loop(live, api):
    one = await live.new()
    answer = await api.client.post(f"{CONVERSATIONS}/{one}/turns", json={})
    async with live.joined(one) as client:
        await client.event(lambda payload: payload.get("action") == "message")
        texts = of_agent(client)

    assert answer.status_code == 200
    assert texts == [("Heard [], attempt 1", None)]


async def test_turns_are_listed_from_the_newest_back_and_in_pages(live, api):
    one = await live.new()
    async with live.joined(one) as client:
        await client.state(AWAITING)
        for text in ("a", "b", "c"):
            said = await client.say(text)
            await client.state(AWAITING, after=said["id"])
    first = await turns(api, one, limit=2)
    second = await turns(api, one, limit=2, before=first["turns"][-1]["id"])

    assert first["has_more"] is True
    assert second["has_more"] is False
    found = first["turns"] + second["turns"]
    assert len(found) == 3
    assert [entry["id"] for entry in found] == sorted(
        (entry["id"] for entry in found), reverse=True
    )
    assert all(entry["begun"] < entry["ended"] for entry in found)


@pytest.mark.parametrize("shown", [None, 3])
async def test_a_stop_closes_the_models_connection_and_keeps_what_it_had_said(shown):
    async with (
        model_endpoint() as model,
        live_server(agent_class=class_path(Chatting)) as live,
        remote(live.url) as api,
    ):
        chosen = Settings(llm_base_url=model.url)
        await live.users.change_settings(None, lambda _: chosen)
        model.say(hang(shown, "Good morning to you"))
        one = await live.new()
        async with live.joined(one) as client:
            turn = await working(client, "hello")
            request = await model.request(0)
            if shown is not None:
                await begun(live, one)
            assert await stop(api, one, turn) == {"stopped": True}
            async with asyncio.timeout(WAIT_SECONDS):
                await request.left.wait()
            await client.state(AgentState.STOPPED)
            kept = of_agent(client)

    assert not request.finished
    assert [why for _, why in kept] == ([] if shown is None else ["stopped"])
    assert all("Good morning to you".startswith(text) and text for text, _ in kept)
