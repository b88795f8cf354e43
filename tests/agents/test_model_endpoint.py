"""The fake model's endpoint says what it is told to, and notes when a client leaves."""

import asyncio

import httpx
import orjson
import pytest

from tests.support import model_endpoint as model
from tests.support.waiting import WAIT_SECONDS

ASKED = {"model": "gpt-x", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def endpoint():
    async with model.model_endpoint() as opened:
        yield opened


async def texts(endpoint, field="content"):
    """The text of the deltas of an answer, and its end."""
    found, end = [], None
    async with (
        httpx.AsyncClient(timeout=WAIT_SECONDS) as client,
        client.stream("POST", f"{endpoint.url}/chat/completions", json=ASKED) as response,
    ):
        if response.status_code != 200:
            return response.status_code, (await response.aread()).decode()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                for choice in orjson.loads(line[6:])["choices"]:
                    found.append(choice["delta"].get(field) or "")
                    end = choice["finish_reason"] or end
    return end, "".join(found)


@pytest.mark.parametrize(
    ("answer", "field", "expected"),
    [
        (model.plain("Good morning."), "content", ("stop", "Good morning.")),
        (model.empty(), "content", ("stop", "")),
        (model.reasoning("Hm.", "Yes."), "reasoning_content", ("stop", "Hm.")),
        (model.split_characters("1 € 🙂"), "content", ("stop", "1 € 🙂")),
        (model.calls(("run", "{}"), ("read", "{"), text="I"), "content", ("tool_calls", "I")),
    ],
)
async def test_an_answer_comes_as_it_is_scripted(endpoint, answer, field, expected):
    endpoint.say(answer)
    assert await texts(endpoint, field) == expected
    assert endpoint.requests[0].said == [("user", "Hello")]
    assert endpoint.requests[0].finished


async def test_a_refusal_quotes_the_planted_key(endpoint):
    endpoint.say(model.refused(429, "rate_limit", **{"Retry-After": "1"}))
    status, body = await texts(endpoint)
    assert status == 429
    assert model.PLANTED in body


@pytest.mark.parametrize("answer", [model.cut(2), model.half_a_frame()])
async def test_a_connection_is_cut_in_the_middle(endpoint, answer):
    endpoint.say(answer)
    with pytest.raises(httpx.TransportError):
        await texts(endpoint)
    assert not endpoint.requests[0].finished


async def test_a_held_endpoint_sends_a_token_for_each_step_and_notes_that_its_client_left(endpoint):
    endpoint.hold()
    endpoint.say(model.plain("one two three"))
    asking = asyncio.create_task(texts(endpoint))
    request = await endpoint.request(0)
    endpoint.step(2)
    asking.cancel()
    await asyncio.wait([asking])
    await asyncio.wait_for(request.left.wait(), 20)
    assert request.sent <= 2


async def test_a_killed_endpoint_is_gone_and_may_come_back(endpoint):
    endpoint.say(model.hang(1))
    asking = asyncio.create_task(texts(endpoint))
    await endpoint.request(0)
    await endpoint.kill()
    with pytest.raises(httpx.TransportError):
        await asking
    with pytest.raises(httpx.ConnectError):
        await texts(endpoint)
    await endpoint.start()
    assert await texts(endpoint) == ("stop", "Good morning to you.")
