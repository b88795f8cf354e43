"""What a model is told within a turn is what the log tells of that turn ever after, summaries included."""

import pytest

from events.actions import CondensationAction
from runtime_stub.conformance import TurnDouble
from runtime_stub.llm import LlmAgent
from runtime_stub.stub import StubRuntime
from runtime_stub.turn import AgentSettings, ModelOptions
from tests.support.model_endpoint import calls, plain, reasoning

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
