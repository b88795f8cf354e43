"""What a model is told within a turn is what the log tells of that turn ever after, summaries included."""

import base64
import os

import pytest

from events.actions import CondensationAction, MessageAction
from events.event import EventSource
from runtime_stub.conformance import TurnDouble
from runtime_stub.llm import LlmAgent
from runtime_stub.stub import StubRuntime
from runtime_stub.turn import AgentSettings, ModelOptions, Reason, TurnFailed
from tests.support.model_endpoint import calls, cut, plain, reasoning, refused

SHORT, LONG = "echo short", f"echo {'long ' * 300}"


def run(command):
    return ("run", f'{{"command": "{command}"}}')


@pytest.fixture
async def runtime():
    made = StubRuntime()
    await made.connect()
    yield made
    await made.close()


def turn_of(model, runtime, message, before=(), context_tokens=100_000):
    chosen = ModelOptions(context_tokens=context_tokens, reserve_tokens=500)
    return TurnDouble(
        message,
        before=before,
        runtime=runtime,
        settings=AgentSettings(llm_model="gpt-x", llm_base_url=model.url, model_options=chosen),
    )


def told(request):
    """The messages of a request, without the instructions."""
    return [
        (
            one["role"],
            one.get("content") or "",
            [call["function"] for call in one.get("tool_calls", ())],
        )
        for one in request.messages[1:]
    ]


STEPS = {
    "texts and calls": [
        calls(run(SHORT), text="I look."),
        calls(run(LONG), run(SHORT)),
        reasoning("Hm.", "Done."),
    ],
    "calls alone": [calls(run(SHORT)), calls(run("cat nothing")), plain("Done.")],
    "an answer alone": [plain("Done.")],
}


@pytest.mark.parametrize("steps", STEPS)
async def test_a_further_turn_tells_what_the_turn_before_it_told(model, runtime, steps):
    model.say(*STEPS[steps], plain("And on."))
    first = turn_of(model, runtime, "Do it.")
    await LlmAgent().run(first)
    within = told(model.requests[-1])
    await LlmAgent().run(turn_of(model, runtime, "Go on.", first.log))

    assert told(model.requests[-1]) == [
        *within,
        ("assistant", "Done.", []),
        ("user", "Go on.", []),
    ]


async def test_a_turn_that_fills_the_context_summarises_its_own_beginning_for_good(model, runtime):
    async def otherwise(reply):
        is_summary = "Summarise the conversation" in reply.request.said[-1][1]
        asked = sum(1 for one in model.requests if "Summarise" not in one.said[-1][1])
        if is_summary:
            await plain("In short: echoes.", usage=False)(reply)
        elif asked < 12:
            await long_call(reply)
        else:
            await plain("Done.", usage=False)(reply)

    async def long_call(reply):
        await reply.head()
        arguments = f'{{"command": "{LONG}{len(model.requests)}"}}'
        call = {"index": 0, "id": "c", "type": "function"}
        function = {"name": "run", "arguments": arguments}
        await reply.delta({"tool_calls": [{**call, "function": function}]})
        await reply.end("tool_calls", usage=False)

    model.otherwise = otherwise
    first = turn_of(model, runtime, "Do it.", context_tokens=6000)
    await LlmAgent().run(first)
    within = told(model.requests[-1])
    await LlmAgent().run(turn_of(model, runtime, "Go on.", first.log))

    condensed = [one for one in first.log if isinstance(one, CondensationAction)]
    assert condensed
    assert all(
        "The user's last message was: USER: Do it." in (one.summary or "") for one in condensed
    )
    assert all(
        sum(len(text) + len(str(made)) for _, text, made in told(one)) < 6000 * 3.5
        for one in model.requests
    )
    assert told(model.requests[-1]) == [
        *within,
        ("assistant", "Done.", []),
        ("user", "Go on.", []),
    ]


def said(text, source=EventSource.USER):
    return MessageAction(content=text, source=source)


async def test_a_text_takes_as_many_tokens_as_it_has_bytes_whichever_its_script(model, runtime):
    model.otherwise = plain("好的。", usage=False)
    before = [
        said(one * 2000, who) for one in "你我他" for who in (EventSource.USER, EventSource.AGENT)
    ]
    turn = turn_of(model, runtime, "再见", before, context_tokens=8000)
    await LlmAgent().run(turn)

    assert [one.kind for one in turn.log].count("condensation") == 1
    assert all(
        sum(len(text.encode()) for _, text in one.said) < 8000 * 3.5 for one in model.requests
    )


async def test_a_request_that_is_too_long_even_when_shorter_ends_the_turn(model, runtime):
    too_long = refused(400, "context_length_exceeded")
    model.say(too_long, plain("In short: words."), too_long)
    before = [said("word " * 50) for _ in range(6)]
    turn = turn_of(model, runtime, "And on.", before)
    with pytest.raises(TurnFailed) as failed:
        await LlmAgent().run(turn)

    assert failed.value.reason is Reason.CONTEXT_TOO_LONG
    assert len(model.requests) == 3


async def test_a_summary_that_breaks_off_is_stored_as_the_second_request_has_it(model, runtime):
    model.say(
        refused(400, "context_length_exceeded"),
        cut(3),
        plain("In short: words."),
        plain("At last."),
    )
    before = [MessageAction(content="word " * 50, source=EventSource.USER) for _ in range(6)]
    turn = turn_of(model, runtime, "And on.", before)
    await LlmAgent().run(turn)
    (made,) = [one for one in turn.log if isinstance(one, CondensationAction)]

    assert str(made.summary).startswith("In short: words.")


async def test_a_picture_is_no_text_where_a_provider_counts_nothing(model, runtime):
    picture = "data:image/png;base64," + base64.b64encode(os.urandom(200_000)).decode()
    model.say(plain("A chart.", usage=False))
    shown = MessageAction(content="What is it?", source=EventSource.USER, image_urls=[picture])
    turn = TurnDouble(
        "And?",
        before=[shown],
        runtime=runtime,
        settings=AgentSettings(
            llm_model="gpt-x", llm_base_url=model.url, model_options=ModelOptions(vision=True)
        ),
    )
    await LlmAgent().run(turn)

    assert turn.said == ["A chart."]
    assert turn.usages[0].prompt_tokens < 5000
