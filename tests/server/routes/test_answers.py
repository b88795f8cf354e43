"""`POST .../message?wait=turn`: the response follows when the turn has ended."""

import asyncio

import httpx
import pytest

from runtime_stub.agent import Agent
from tests.support.live import live_server
from tests.support.waiting import WAIT_SECONDS


class Answering(Agent):
    """Says two things, fails, or waits until its test lets it go."""

    go = asyncio.Event()
    asked = asyncio.Event()

    async def run(self, turn):
        asked = turn.cause[-1].content
        if asked == "fail":
            raise RuntimeError("the text of an exception")
        if asked == "wait":
            type(self).asked.set()
            await type(self).go.wait()
        for text in ("First.", f"You asked: {asked}"):
            async with turn.say() as answer:
                answer.write(text)


@pytest.fixture
async def ask():
    Answering.go, Answering.asked = asyncio.Event(), asyncio.Event()
    async with (
        live_server(agent_class="tests.server.routes.test_answers:Answering") as live,
        httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as client,
    ):
        created = (await client.post("/api/conversations", json={})).json()["conversation_id"]

        async def post(text, query="wait=turn", key=None):
            headers = {} if key is None else {"Idempotency-Key": key}
            path = f"/api/conversations/{created}/message?{query}"
            return await client.post(path, json={"message": text}, headers=headers)

        yield post


async def test_the_response_brings_what_the_agent_said_in_the_turn(ask):
    for text in ("one", "two"):
        body = (await ask(text)).json()
        assert body["messages"] == ["First.", f"You asked: {text}"]
        assert (body["outcome"], body["reason"]) == ("done", None)
        assert body["turn"] > body["id"]


async def test_a_message_sent_again_is_answered_with_the_turn_it_had(ask):
    first = (await ask("one", key="k")).json()
    again = (await ask("one", key="k")).json()
    assert again == first | {"duplicate": True}


async def test_a_turn_that_fails_is_told_with_its_reason_and_without_the_exceptions_text(ask):
    body = (await ask("fail")).json()
    assert (body["outcome"], body["messages"]) == ("failed", [])
    assert "RuntimeError" in body["reason"]
    assert "the text of" not in body["reason"]


async def test_after_its_seconds_the_response_says_what_is_known(ask):
    begun = asyncio.create_task(ask("wait", key="once"))
    await Answering.asked.wait()
    body = (await ask("wait", "wait=turn&seconds=1", key="once")).json()
    assert body["turn"] is not None
    assert body["outcome"] is None
    waiting = asyncio.create_task(ask("wait", key="later"))
    Answering.go.set()
    assert (await begun).json()["outcome"] == "done"
    assert (await waiting).json()["outcome"] == "done"


async def test_without_wait_the_response_follows_when_the_message_is_durable(ask):
    body = (await ask("one", "")).json()
    assert body.keys() == {"success", "id", "duplicate"}


@pytest.mark.parametrize("query", ["wait=x", "wait=turn&seconds=0", "wait=turn&seconds=9999"])
async def test_what_cannot_be_waited_for_is_refused(ask, query):
    assert (await ask("one", query)).status_code == 400
