"""The LLM agent asks OpenAI, Anthropic and Google each by its own interface, and is the same agent with all of them."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest
import pytest_asyncio

import runtime_stub.llm  # noqa: F401 - takes seconds, which no test should be charged with
from events.event import AgentState
from runtime_stub.turn import Reason
from tests.support import model_endpoint as words
from tests.support.asking import KEY, MODELS, asked, asking_server
from tests.support.clients import joined
from tests.support.live import live_server
from tests.support.model_endpoint import PLANTED, calls, model_endpoint, plain, reasoning
from tests.support.model_wires import Told, signature
from tests.support.payloads import answers, is_answer
from tests.support.provider_cases import (
    FAULTS,
    NEVER_WRITTEN,
    run_cases,
    stays,
)
from tests.support.remote import remote
from tests.support.servers import server_process

AWAITING = AgentState.AWAITING_USER_INPUT
KEY_HEADERS = {
    "openai": ("authorization", f"Bearer {KEY}"),
    "anthropic": ("authorization", f"Bearer {KEY}"),
    "google": ("x-goog-api-key", KEY),
}
HEADERS = {
    *("host", "connection", "content-length", "content-type", "accept", "accept-encoding"),
    *("user-agent", "authorization", "x-goog-api-key", "anthropic-version"),
}
SIGNED = [signature("one"), signature("two"), signature("three")]
RUN = ("run", '{"command": "echo one"}')
WRITE = ("write", '{"path": "a.txt", "content": "one"}')


@pytest.fixture(params=MODELS)
def provider(request):
    """One of the three."""
    return request.param


@pytest.fixture
async def live(model, provider):
    """A server whose user has chosen a model of that provider."""
    async with asking_server("llm", model, provider) as opened:
        yield opened


def told(request):
    """The conversation in a request, without the instructions."""
    return [one for one in request.told if one.who != "system"]


async def test_a_model_is_asked_with_the_key_and_no_other_header(live, model, provider):
    model.say(plain("Good morning."))
    log = await asked(live, "Hello")
    request = await model.request(0)
    name, value = KEY_HEADERS[provider]

    assert answers(log) == ["Good morning."]
    assert told(request) == [Told("user", "Hello")]
    assert request.model == MODELS[provider].rpartition(":")[2]
    assert request.headers[name] == value
    assert request.headers["user-agent"].startswith("parley/")
    assert set(request.headers) <= HEADERS
    assert {one.who for one in request.told} == {"system", "user"}


async def test_what_a_request_used_is_recorded_with_its_price(live, model):
    model.say(plain("Good morning."), plain("Good evening."))
    log = await asked(live, "Hello", "And now?")
    first, second = [one["llm_metrics"] for one in log if "llm_metrics" in one]

    assert first["accumulated_token_usage"]["prompt_tokens"] == 11
    assert first["accumulated_token_usage"]["completion_tokens"] == 7
    assert second["accumulated_token_usage"]["prompt_tokens"] == 22
    assert second["accumulated_cost"] == pytest.approx(2 * first["accumulated_cost"])
    assert first["accumulated_cost"] > 0
    assert "priced" not in first
    assert "estimated" not in first


async def test_calls_are_carried_out_and_told_with_what_came_of_them(live, model):
    model.say(calls(RUN, WRITE, text="I do both."), calls(RUN), plain("Done."))
    log = await asked(live, "Do it.")
    last = await model.request(2)

    assert answers(log) == ["I do both.", "Done."]
    assert told(last)[:4] == [
        Told("user", "Do it."),
        Told("assistant", "I do both."),
        Told("call", "run", {"command": "echo one"}),
        Told("call", "write", {"path": "a.txt", "content": "one"}),
    ]
    assert [one.who for one in told(last)[4:]] == ["result", "result", "call", "result"]
    assert told(last)[4].text == told(last)[7].text == "one"
    assert model.faults == []


@pytest.mark.parametrize("provider", ["anthropic", "google"], indirect=True)
async def test_what_a_provider_has_signed_is_told_again_in_the_turn_and_after_it(
    live, model, provider
):
    model.say(
        calls(RUN, thought="I must look.", text="I look.", signature=SIGNED[0]),
        calls(WRITE, signature=SIGNED[1]),
        reasoning("That was it.", "Done.", signature=SIGNED[2]),
        plain("Good night."),
    )
    log = await asked(live, "Do it.", "Good night.")
    thoughts = [one["args"]["thought"] for one in log if one.get("action") == "think"]
    given = [
        [one for one in request.wire.signatures if one in SIGNED] for request in model.requests
    ]

    assert thoughts == ["I must look.", "That was it."]
    assert given == [[], SIGNED[:1], SIGNED[:2], SIGNED]
    assert model.faults == []


@pytest.mark.parametrize("provider", ["anthropic"], indirect=True)
async def test_thoughts_stand_where_they_were_among_texts_and_calls(live, model, provider):
    async def answer(reply):
        await reply.head()
        for thought, text, signed in zip(
            ["One.", "", "Three."], ["A.", "B.", ""], SIGNED, strict=True
        ):
            if thought:
                await reply.thought(thought)
            await reply.frames(reply.wire.signed(signed))
            if text:
                await reply.text(text)
        await reply.frames(reply.wire.call(0, *RUN))
        await reply.end("tool_calls")

    model.say(answer, plain("Done."))
    log = await asked(live, "Do it.")

    assert answers(log) == ["A.", "B.", "Done."]
    assert told(await model.request(1))[1:7] == [
        Told("thought", "One.", SIGNED[0]),
        Told("assistant", "A."),
        Told("thought", "", SIGNED[1]),
        Told("assistant", "B."),
        Told("thought", "Three.", SIGNED[2]),
        Told("call", "run", {"command": "echo one"}),
    ]


@pytest.mark.parametrize("provider", ["anthropic", "google"], indirect=True)
async def test_what_one_provider_has_signed_is_not_told_to_another(live, model, provider):
    model.say(
        calls(RUN, thought="I must look.", signature=SIGNED[0]),
        reasoning("That was it.", "Done.", signature=SIGNED[1]),
    )
    one = await live.new()
    async with joined(live.url, one) as client:
        await client.state(AWAITING)
        said = await client.say("Do it.")
        await client.state(AWAITING, after=said["id"])
        for other in set(MODELS) - {provider}:
            chosen = {"llm_model": MODELS[other], "llm_base_url": model.url_of(other)}
            await live.users.change_settings(
                None, lambda old, chosen=chosen: old.model_copy(update=chosen)
            )
            said = await client.say("And on.")
            await client.state(AWAITING, after=said["id"])

    for request in model.requests[-2:]:
        assert not set(request.wire.signatures) & set(SIGNED)
        assert [one.who for one in told(request)][:4] == ["user", "call", "result", "assistant"]
    assert model.faults == []


async def test_a_request_that_is_too_long_is_made_shorter_once(live, model):
    model.say(
        *(plain("A long answer. " * 20) for _ in range(3)),
        words.refused(400, "context_length_exceeded"),
        plain("In short: answers."),
        plain("At last."),
    )
    log = await asked(live, "One?", "Two?", "Three?", "Four?")
    long, summary, short = model.requests[3:]

    assert answers(log)[-1] == "At last."
    assert "Summarise the conversation" in told(summary)[-1].text
    assert "In short: answers." in told(short)[0].text
    assert len(told(short)) < len(told(long))
    assert told(short)[-1] == Told("user", "Four?")
    assert model.faults == []


async def test_pictures_are_sent_to_a_model_that_sees(model, provider):
    picture = "data:image/png;base64,iVBORw0KGgo="
    chosen = {"llm_model": MODELS[provider], "llm_base_url": model.url_of(provider)}
    async with live_server(agent_class="llm", llm_vision=True, **chosen) as live:
        one = await live.new()
        async with joined(live.url, one) as client:
            await client.state(AWAITING)
            message = {"content": "What is it?", "image_urls": [picture]}
            said = await client.send({"action": "message", "args": message})
            await client.state(AWAITING, after=said["id"])
    text, shown = told(model.requests[0])

    assert text == Told("user", "What is it?")
    assert shown.who == "picture"
    assert shown.text.endswith("iVBORw0KGgo=")
    assert model.faults == []


async def tried(live, **trial):
    async with remote(live.url) as api:
        answer = await api.client.post("/api/settings/try-model", json=trial)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_a_model_is_tried_at_its_providers_interface(live, model, provider):
    works = await tried(live)
    model.say(words.refused(401))
    refused = await tried(live, llm_api_key="sk-wrong-key-97531")
    name, _ = KEY_HEADERS[provider]

    assert works["works"] is True
    assert " answered after " in works["message"]
    assert (refused["works"], refused["reason"]) == (False, "AGENT_ERROR$MODEL_REFUSED_KEY")
    assert "sk-wrong-key-97531" in model.requests[1].headers[name]
    assert PLANTED not in refused["message"]


NATIVE = ("anthropic", "google")
NO_MODEL = stays(words.no_model(), Reason.MODEL_FAILED)
CASES = {
    "anthropic: no model": replace(NO_MODEL, provider="anthropic", requests=1),
    "google: no model": replace(NO_MODEL, provider="google"),
} | {
    f"{provider}: {name}": replace(case, provider=provider)
    for name, case in FAULTS.items()
    for provider in NATIVE
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory):
    """Every fault of both providers, on one server."""
    return await run_cases(tmp_path_factory.mktemp("server"), CASES)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CASES)
async def test_a_turn_recovers_or_ends_in_the_reason_for_it_whichever_the_provider(run, name):
    case, outcome = CASES[name], run.outcomes[name]

    assert outcome.texts(interrupted=False) == list(case.says)
    assert outcome.texts(interrupted=True) == list(case.cut)
    assert outcome.reason == case.reason
    assert len(outcome.requests) == case.requests


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("planted", NEVER_WRITTEN)
async def test_nothing_of_a_providers_errors_and_no_key_is_written_or_logged(run, planted):
    assert run.holding(planted) == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("provider", NATIVE)
async def test_people_are_told_that_a_model_is_busy_and_when_it_is_asked_again(run, provider):
    outcome = run.outcomes[f"{provider}: 429 once"]
    first, second = outcome.requests

    assert second.came_at - first.came_at >= 1.0
    assert any("The model is busy; trying again in 1 s." in one for one in outcome.notices)
    assert any("trying again" in one for one in run.outcomes[f"{provider}: 429"].notices)


def says(text, payload):
    """Whether an event is an answer of that text."""
    return is_answer(payload) and payload["args"]["content"] == text


async def told_of(folder, provider, *, killed):
    """The messages of each request to the model, and the metrics in the log, with or without kills."""
    async with (
        model_endpoint() as model,
        server_process(folder, "--agent", "llm") as server,
        remote(server.url) as api,
    ):
        model.say(
            reasoning("Hm.", "Answer 0", signature=SIGNED[0]),
            calls(WRITE, RUN, text="I do.", signature=SIGNED[1]),
            plain("Answer 1"),
            plain("Answer 2"),
        )
        chosen = {"llm_base_url": model.url_of(provider), "llm_model": MODELS[provider]}
        answer = await api.client.post("/api/settings", json=chosen)
        assert answer.status_code == 200, answer.text
        created = await api.create()
        for number, question in enumerate(("Good morning", "Write it down", "What was that?")):
            async with joined(server.url, created) as client:
                await client.say(question)
                answered = await client.event(partial(says, f"Answer {number}"))
                await client.state(AWAITING, after=answered["id"])
            if killed:
                await server.kill()
                await server.start()
        metrics = [one["llm_metrics"] for one in await api.log(created) if "llm_metrics" in one]
        assert model.faults == []
    return [request.body for request in model.requests], metrics


async def test_a_model_is_told_the_same_after_kills_between_turns(tmp_path, provider):
    plainly, after_kills = await asyncio.gather(
        *(told_of(tmp_path / str(killed), provider, killed=killed) for killed in (False, True))
    )
    requests, metrics = plainly

    assert after_kills == plainly
    assert metrics[-1]["accumulated_cost"] > 0
    assert [one in str(requests[-1]) for one in SIGNED[:2]] == [provider in NATIVE] * 2
