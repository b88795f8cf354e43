"""Agents that ask a model, ours and the examples: an answer is seen while it comes, and a stop ends it."""

import asyncio

import pytest

from docs.examples.blocking_agent import PlainChatAgent
from docs.examples.langgraph_agent import GraphAgent
from docs.examples.openai_agent import ToolAgent
from docs.examples.pydantic_ai_agent import CalendarAgent
from events.event import AgentState
from runtime_stub.llm import LlmAgent
from tests.support.asking import MODELS, asking_server
from tests.support.clients import joined
from tests.support.model_endpoint import hang, plain
from tests.support.payloads import is_answer
from tests.support.remote import CONVERSATIONS, remote
from tests.support.servers import class_path
from tests.support.sse import following
from tests.support.waiting import WAIT_SECONDS

AWAITING = AgentState.AWAITING_USER_INPUT
AGENTS = {
    **{one.__name__: (one, None) for one in (PlainChatAgent, GraphAgent, ToolAgent, CalendarAgent)},
    **{f"LlmAgent, {provider}": (LlmAgent, provider) for provider in MODELS},
}


@pytest.fixture(params=AGENTS)
async def live(request, model):
    agent, provider = AGENTS[request.param]
    async with asking_server(class_path(agent), model, provider) as opened:
        yield opened


async def test_an_answer_is_seen_token_by_token(live, model):
    model.hold()
    model.say(plain("Good morning to you."))
    one = await live.new()
    async with joined(live.url, one) as client, following(live.url, one) as followed:
        await client.state(AWAITING)
        await client.say("Hello")
        for text in ("Good ", "Good morning "):
            model.step()
            await followed.shown(text)
            assert not model.requests[0].finished
        model.step(2)
        await followed.until(lambda seen: "Good morning to you." in seen.said)


async def test_a_stop_closes_the_connection_to_the_model_and_keeps_what_was_shown(live, model):
    model.say(hang(3))
    one = await live.new()
    async with joined(live.url, one) as client, remote(live.url) as api:
        await client.set_to_work("Hello")
        request = await model.request(0)
        recall = await client.event(lambda payload: payload.get("action") == "recall")
        async with following(live.url, one) as followed:
            await followed.shown("Good morning to ")
        stopped = await api.client.post(
            f"{CONVERSATIONS}/{one}/stop-turn", json={"turn": recall["id"]}
        )
        await asyncio.wait_for(request.left.wait(), WAIT_SECONDS)
        log = await api.log(one)

    assert stopped.json() == {"stopped": True}
    texts = [(each["args"]["content"], each["interrupted"]) for each in log if is_answer(each)]
    assert texts == [("Good morning to ", "stopped")]
