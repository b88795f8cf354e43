"""A model is told the same of a conversation, whether or not its server was killed between turns."""

import asyncio
from functools import partial

import pytest
import pytest_asyncio

from events.event import AgentState
from tests.support.clients import joined
from tests.support.model_endpoint import model_endpoint, plain
from tests.support.remote import remote
from tests.support.servers import server_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENT = {"PARLEY_AGENT_CLASS": "tests.support.turn_agents:Remembering"}
QUESTIONS = ["Good morning", "/echo at work", "What was that?"]


def says(text, payload):
    """Whether an event is a message of that text."""
    return payload.get("action") == "message" and payload["args"]["content"] == text


async def told(folder, storage, *, killed):
    """The messages of each request to the model, and the metrics in the log, once each."""
    async with (
        model_endpoint() as model,
        server_process(folder, "--storage", storage, environment=AGENT) as server,
        remote(server.url) as api,
    ):
        model.say(*(plain(f"Answer {number}") for number in range(len(QUESTIONS))))
        chosen = await api.client.post("/api/settings", json={"llm_base_url": model.url})
        assert chosen.status_code == 200, chosen.text
        created = await api.create()
        for number, question in enumerate(QUESTIONS):
            async with joined(server.url, created) as client:
                await client.say(question)
                answer = await client.event(partial(says, f"Answer {number}"))
                await client.state(AgentState.AWAITING_USER_INPUT, after=answer["id"])
            if killed:
                await server.kill()
                await server.start()
        metrics = [one["llm_metrics"] for one in await api.log(created) if "llm_metrics" in one]
    return [request.said for request in model.requests], metrics


@pytest_asyncio.fixture(params=["sqlite", "local"], scope="module", loop_scope="module")
async def runs(request, tmp_path_factory):
    """The same conversation without and with kills between its turns."""
    folder = tmp_path_factory.mktemp("servers")
    return await asyncio.gather(
        *(told(folder / str(killed), request.param, killed=killed) for killed in (False, True))
    )


async def test_the_next_request_to_the_model_is_the_same_after_kills_between_turns(runs):
    (requests, _), (after_kills, _) = runs

    assert after_kills == requests
    assert requests[-1] == [
        ("system", "I was asked '/echo at work'."),
        ("user", "Good morning"),
        ("assistant", "Answer 0"),
        ("user", "/echo at work"),
        ("assistant", "Running command: echo at work"),
        ("user", "at work"),
        ("assistant", "Answer 1"),
        ("user", "What was that?"),
    ]


async def test_what_a_conversation_costs_goes_on_from_where_it_was_after_kills(runs):
    (_, metrics), (_, after_kills) = runs

    assert after_kills == metrics
    assert [one["accumulated_cost"] for one in metrics] == [0.25, 0.5, 0.75]
    assert metrics[-1]["accumulated_token_usage"]["prompt_tokens"] == 11 * len(QUESTIONS)
