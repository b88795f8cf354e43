"""A turn in memory records what that of a server does, so that a test with it holds for a server."""

import contextlib

import pytest

from events.actions import CmdRunAction, MCPAction, MessageAction
from events.errors import PartialOver
from events.event import AgentState, EventSource
from runtime_stub.conformance import TurnDouble
from runtime_stub.turn import MEMORY_BYTES, SecretMissing, ToolCall, Usage, Window
from tests.support.loops import Running
from tests.support.turn_agents import Does, write

AWAITING = AgentState.AWAITING_USER_INPUT
LEFT_OUT = ("system", "recall")
"""Kinds of the server's own among the agent's events."""


def recorded(events):
    """The kinds and texts of the agent's events, and their metadata: the names of tools, and signatures."""
    return [
        (event.kind, event.message, getattr(event, "content", None), event.tool_call_metadata)
        for event in events
        if event.source == EventSource.AGENT and event.kind not in LEFT_OUT
    ]


async def test_a_double_records_actions_results_and_texts_as_a_server_does():
    async def work(turn):
        async with turn.doing(MCPAction(name="clock"), call=ToolCall("c1", "clock")) as step:
            step.result("noon")
        async with turn.doing(CmdRunAction(command="ls")):
            pass
        with contextlib.suppress(ValueError):
            async with turn.doing(CmdRunAction(command="fail")):
                raise ValueError("sk-SECRET is bad")
        async with turn.say(kind="think") as thought:
            thought.write("It is noon.")
            thought.metadata["thinking"] = {"signature": "S"}
        await write(turn, "Noon")

    double = TurnDouble("What time is it?")
    await Does(work).run(double)
    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("What time is it?"))
        logged = await one.events()

    assert recorded(double.log) == recorded(logged)
    assert [kind for kind, *_ in recorded(logged)].count("error") == 1


def shown(exchange):
    """Return the texts of a question, and the kinds of what was done about it."""
    return [one.content for one in exchange.asked], [one.kind for one in exchange.done]


async def test_a_double_gives_the_exchanges_of_its_conversation_as_a_server_does():
    found = []

    async def work(turn):
        if turn.cause[0].content == "third":
            for window in (Window(), Window(exchanges=1), Window(characters=1)):
                exchanges = await turn.history.exchanges(window)
                found.append([shown(one) for one in exchanges])
        await write(turn, "an answer")

    async with Running(Does(work)) as one:
        for text in ("first", "second", "third"):
            await one.state(AWAITING, await one.say(text))
    said = [
        MessageAction(content=text, source=source)
        for text, source in (
            ("first", EventSource.USER),
            ("an answer", EventSource.AGENT),
            ("second", EventSource.USER),
            ("an answer", EventSource.AGENT),
        )
    ]
    await Does(work).run(TurnDouble("third", before=said))

    assert found[0] == [(["first"], ["message"]), (["second"], ["message"]), (["third"], [])]
    assert found[1] == [(["third"], [])]
    assert found[3:] == found[:3]


async def test_a_double_refuses_what_a_server_refuses():
    async def work(turn):
        with pytest.raises(ValueError, match="a report has a model"):
            turn.report(Usage("m", cost=-1.0))
        with pytest.raises(ValueError, match="an agent may keep"):
            await turn.keep(b"x" * (MEMORY_BYTES + 1))
        with pytest.raises(SecretMissing, match="OTHER"):
            await turn.secret("OTHER")
        await write(turn, "done")

    double = TurnDouble(secrets={"KEY": "value"})
    await Does(work).run(double)
    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("hi"))
        assert await one.answers() == double.said == ["done"]


@pytest.mark.parametrize(
    ("text", "shown"), [("echo ", {("run", "command"): "echo hello"}), ("rm -rf ", {})]
)
async def test_a_double_keeps_of_a_draft_what_a_server_goes_on_showing(text, shown):
    async def work(turn):
        draft = turn.draft("run", "command")
        draft.write(text)
        await turn.act(CmdRunAction(command="echo hello"), draft=draft)
        with pytest.raises(PartialOver):
            draft.write("more")
        await write(turn, "done")

    double = TurnDouble()
    await Does(work).run(double)
    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("hi"))
        (action, _) = await one.of_kind("run", EventSource.AGENT)
        assert await one.answers() == double.said == ["done"]

    assert double.drafts == shown
    assert (action.partial is not None) is bool(shown)
