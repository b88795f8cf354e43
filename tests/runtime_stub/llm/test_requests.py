"""Requests to a model: which are repeated, how often, and what is left of an answer that broke off."""

import asyncio

import pytest

from runtime_stub.conformance import TurnDouble
from runtime_stub.llm import LlmAgent
from runtime_stub.turn import AgentSettings, ModelOptions, Reason, TurnFailed
from tests.support.model_endpoint import (
    calls,
    compressed,
    endless,
    hang,
    huge,
    plain,
    refused,
    unknown_tool,
)


def turn_of(model, *, pause=20.0, **options):
    """A turn of an agent that asks that model, which may pause for so many seconds."""
    chosen = ModelOptions(first_token_seconds=20, token_seconds=pause, **options)
    return TurnDouble(
        "Hello",
        settings=AgentSettings(llm_model="gpt-x", llm_base_url=model.url, model_options=chosen),
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
