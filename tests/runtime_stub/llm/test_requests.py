"""Requests to a model: which are repeated, how often, and what is left of an answer that broke off."""

import asyncio
import socket
from contextlib import suppress
from itertools import pairwise

import pytest
from pydantic import SecretStr
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import ModelRequest

from events.actions import LoopRecoveryAction, MessageAction
from runtime_stub.conformance import TurnDouble
from runtime_stub.llm import LlmAgent
from runtime_stub.llm.faults import fault_of
from runtime_stub.llm.models import CONNECT_SECONDS, Choice, opened
from runtime_stub.turn import AgentSettings, ModelOptions, Reason, TurnFailed
from tests.support.asking import MODELS
from tests.support.model_endpoint import (
    calls,
    compressed,
    declined,
    endless,
    hang,
    huge,
    plain,
    reasoning,
    refused,
    unknown_tool,
)
from tests.support.model_wires import signature


def turn_of(model, *, pause=20.0, provider="openai", name="gpt-x", before=(), **options):
    """A turn of an agent that asks that model, which may pause for so many seconds."""
    chosen = ModelOptions(first_token_seconds=20, token_seconds=pause, **options)
    address = model.url_of(provider)
    return TurnDouble(
        "Hello",
        before=before,
        settings=AgentSettings(llm_model=name, llm_base_url=address, model_options=chosen),
    )


async def fails(turn):
    """The failure of a turn."""
    with pytest.raises(TurnFailed) as failed:
        await LlmAgent().run(turn)
    return failed.value.reason


async def test_an_answer_that_breaks_off_is_taken_back_and_asked_for_again_once(model):
    model.say(hang(1), plain("Well."))
    turn = turn_of(model, pause=1.0)
    await LlmAgent().run(turn)

    assert (turn.said, turn.interrupted) == (["Well."], [])
    assert turn.statuses == ["The answer broke off; trying again in 1 s."]


async def test_what_nobody_was_shown_of_a_broken_answer_is_taken_back_too(model):
    async def broken(reply):
        await reply.head()
        await reply.frames(reply.wire.signed(signature("one")))
        reply.reset()

    async def whole(reply):
        await reply.head()
        await reply.frames(reply.wire.signed(signature("two")))
        await reply.text("Well.")
        await reply.end()

    model.say(broken, whole)
    turn = turn_of(model, provider="anthropic", name=MODELS["anthropic"])
    await LlmAgent().run(turn)
    said = [one for one in turn.log if isinstance(one, MessageAction)][-1]

    assert said.content == "Well."
    assert said.tool_call_metadata is not None
    assert len(said.tool_call_metadata["thoughts"]) == 1


def parts(*of_answer):
    """An answer of thoughts and texts in turn, which then breaks off."""

    async def answer(reply):
        await reply.head()
        for number, (thought, text) in enumerate(of_answer):
            await reply.thought(thought)
            await reply.frames(reply.wire.signed(signature(f"{thought}{number}")))
            await reply.text(text)
        await reply.frames(reply.wire.broken("Overloaded"))
        await reply.over()

    return answer


async def test_thoughts_and_texts_that_have_ended_are_taken_back_with_the_answer(model):
    model.say(
        parts(("One.", "Well, "), ("Two.", "or ")),
        calls(("run", '{"command": "ls"}'), thought="Three.", signature=signature("three")),
        plain("Done."),
    )
    turn = turn_of(model, provider="anthropic", name=MODELS["anthropic"])
    await LlmAgent().run(turn)
    told = model.requests[-1].told

    assert [one.thought for one in turn.log if one.kind == "think"] == ["Three."]
    assert [one.text for one in told if one.who in ("thought", "assistant")] == ["Three."]
    assert (turn.said, turn.interrupted) == (["Three.", "Done."], [])


async def test_thoughts_that_have_ended_stay_whole_where_the_answer_is_kept(model):
    model.say(*[parts(("One.", "Well, "))] * 2)
    turn = turn_of(model, provider="anthropic", name=MODELS["anthropic"])

    assert await fails(turn) is Reason.MODEL_FAILED
    assert (turn.said, turn.interrupted) == (["One."], ["Well, "])


async def test_an_answer_of_very_many_parts_is_kept_as_far_as_it_came(model):
    model.say(parts(*[("Hm.", "Well. ")] * 5), plain("Too late."))
    turn = turn_of(model, provider="anthropic", name=MODELS["anthropic"])

    assert await fails(turn) is Reason.MODEL_FAILED
    assert turn.said == ["Hm.", "Well. "] * 4 + ["Hm."]
    assert turn.interrupted == ["Well. "]


async def test_an_answer_that_breaks_off_twice_is_kept_as_far_as_it_came(model):
    model.say(hang(1), hang(1), plain("Too late."))
    turn = turn_of(model, pause=1.0)

    assert await fails(turn) is Reason.MODEL_UNREACHABLE
    assert (turn.said, turn.interrupted) == ([], ["Good "])
    assert len(model.requests) == 2


@pytest.mark.parametrize("tries", [1, 2, 3])
async def test_a_request_is_made_as_often_as_the_server_has_chosen(model, tries):
    model.otherwise = refused(503, **{"Retry-After": "0"})
    turn = turn_of(model, tries=tries)

    assert await fails(turn) is Reason.MODEL_BUSY
    assert len(model.requests) == tries
    assert len(turn.statuses) == tries - 1


async def test_what_a_broken_answer_used_is_counted(model):
    model.say(hang(1), plain("Well."))
    turn = turn_of(model, pause=1.0)
    await LlmAgent().run(turn)

    estimate, reported = turn.usages
    assert (estimate.estimated, estimate.completion_tokens) == (True, 1)
    assert (reported.estimated, reported.completion_tokens) == (False, 7)


async def test_calls_that_no_tool_takes_end_a_turn_only_in_a_row(model):
    run = calls(("run", '{"command": "ls"}'))
    model.say(unknown_tool(), unknown_tool(), run, unknown_tool(), unknown_tool(), plain("Well."))
    turn = turn_of(model)
    await LlmAgent().run(turn)

    assert turn.said == ["Well."]
    assert [one.kind for one in turn.acted] == ["run"]


async def test_of_a_call_the_argument_that_people_read_is_shown(model):
    model.say(calls(("write", '{"path": "a", "content": "one\\ntwo"}')), plain("Done."))
    turn = turn_of(model)
    await LlmAgent().run(turn)

    assert turn.drafts == {("write", "content"): "one\ntwo"}


async def test_a_provider_that_sends_without_end_is_left(model):
    model.say(endless())

    assert await fails(turn_of(model)) is Reason.MODEL_FAILED
    (request,) = model.requests
    await asyncio.wait_for(request.left.wait(), 10)


async def test_a_provider_must_not_compress_its_answer(model):
    model.say(compressed())

    assert await fails(turn_of(model)) is Reason.MODEL_FAILED
    (request,) = model.requests
    assert request.headers["accept-encoding"] == "identity"


async def test_an_answer_may_be_very_long(model):
    model.say(huge(2_000))
    turn = turn_of(model)
    await LlmAgent().run(turn)

    assert turn.said == ["word " * 2_000]


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
async def test_what_may_pass_is_asked_again(model, status):
    model.say(refused(status, **{"Retry-After": "0"}), plain("Well."))
    turn = turn_of(model)
    await LlmAgent().run(turn)

    assert turn.said == ["Well."]
    assert len(turn.statuses) == 1


async def test_each_wait_is_longer_than_the_one_before_unless_the_provider_names_one(model):
    model.otherwise = refused(500)
    turn = turn_of(model, tries=4)
    await fails(turn)
    came = [one.came_at for one in model.requests]
    waits = [after - before for before, after in pairwise(came)]

    for wait, least in zip(waits, [0.25, 0.5, 1.0], strict=True):
        assert wait >= least


async def test_a_model_that_thinks_without_a_word_has_the_time_to_begin(model):
    async def thinks(reply):
        await reply.head()
        (*begun, signed, ended) = reply.wire.signed("c2lnbmVk")
        await reply.frames(begun)
        with suppress(TimeoutError):
            await asyncio.wait_for(reply.request.left.wait(), 3)
        await reply.frames([signed, ended])
        await reply.text("Well.")
        await reply.end()

    model.say(thinks)
    turn = turn_of(model, pause=2, provider="anthropic", name=MODELS["anthropic"])
    await LlmAgent().run(turn)

    assert (turn.said, turn.statuses) == (["Well."], [])


@pytest.mark.parametrize("provider", MODELS)
async def test_thoughts_that_nobody_wants_to_see_are_not_shown(model, provider):
    model.say(reasoning("Hm.", "Well."))
    chosen = {"provider": provider, "name": MODELS[provider]}
    turn = turn_of(model, show_reasoning=False, **chosen)
    await LlmAgent().run(turn)
    asked = str(model.requests[0].body)

    assert turn.said == ["Well."]
    assert "summarized" not in asked
    assert "include_thoughts" not in asked


@pytest.mark.parametrize("shown", [True, False])
async def test_a_model_of_deepseeks_is_told_its_thoughts_again_with_its_calls(model, shown):
    model.say(
        calls(("run", '{"command": "ls"}'), thought="One."),
        calls(("run", '{"command": "pwd"}')),
        plain("Done."),
        plain("And on."),
        plain("I am another."),
    )
    first = turn_of(model, name="deepseek-v4-pro", show_reasoning=shown)
    await LlmAgent().run(first)
    within = model.requests[2].messages
    again = turn_of(model, name="deepseek-v4-pro", show_reasoning=shown, before=first.log)
    await LlmAgent().run(again)
    await LlmAgent().run(turn_of(model, name="gpt-x", before=first.log))

    assert model.faults == []
    assert [one.get("reasoning_content") for one in within if "tool_calls" in one] == ["One.", ""]
    assert model.requests[3].messages[: len(within)] == within
    assert "One." not in str(model.requests[4].body)
    assert ("One." in [one.thought for one in first.log if one.kind == "think"]) is shown


async def test_a_circle_of_two_steps_ends_the_turn_as_one_does(model):
    one, two = (calls(("run", f'{{"command": "{name}"}}')) for name in ("ls", "pwd"))
    model.say(*[one, two] * 10)
    turn = turn_of(model)
    await LlmAgent().run(turn)

    assert len(model.requests) == 12
    assert [type(each) for each in turn.acted].count(LoopRecoveryAction) == 1


async def test_calls_with_one_id_are_told_apart(model):
    async def answers(reply):
        await reply.head()
        for place, text in enumerate(("one", "two")):
            arguments = f'{{"path": "{text}", "content": "{text}"}}'
            function = {"name": "write", "arguments": arguments}
            call = {"index": place, "id": "same", "type": "function", "function": function}
            await reply.delta({"tool_calls": [call]})
        await reply.end("tool_calls")

    model.say(answers, plain("Well."))
    turn = turn_of(model)
    await LlmAgent().run(turn)

    assert turn.said == ["Well."]
    assert [one.path for one in turn.acted if one.kind == "write"] == ["one", "two"]
    assert model.faults == []


def full_backlog():
    """A listener that accepts nobody, and connections that wait there: the next one waits for ever."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    for _ in range(3):
        one = socket.socket()
        one.settimeout(0)
        with suppress(BlockingIOError):
            one.connect(listener.getsockname())
        waiting.append(one)
    return listener, waiting


@pytest.mark.parametrize("provider", MODELS)
async def test_connecting_has_a_clock_of_its_own_whichever_the_provider(provider):
    listener, waiting = full_backlog()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    choice = Choice(provider, "model-x", address, SecretStr("sk-1"), connect_seconds=0.5)
    try:
        async with opened(choice) as opened_model:
            request = [ModelRequest.user_text_prompt("Hello")]
            with pytest.raises(ModelAPIError) as failed:
                async with model_request_stream(opened_model, request, instrument=False):
                    pass
    finally:
        for one in (listener, *waiting):
            one.close()

    fault = fault_of(failed.value, "model-x")
    assert (fault.reason, fault.passes) == (Reason.MODEL_UNREACHABLE, True)
    assert Choice("openai", "x", None, None).connect_seconds == CONNECT_SECONDS == 10


@pytest.mark.parametrize("provider", MODELS)
async def test_a_model_that_may_not_answer_is_asked_once(model, provider):
    model.say(declined())
    turn = turn_of(model, provider=provider, name=MODELS[provider])

    assert await fails(turn) is Reason.MODEL_FAILED
    assert len(model.requests) == 1
