"""Classes that observe and step, as the page of agents and the examples have them, run as they did."""

import re
from pathlib import Path

import orjson
import pytest

from docs.examples import notes_agent
from events.event import AgentState
from tests.support.loops import Running
from tests.support.payloads import ends, is_answer, kind_of, recalls

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
AWAITING = AgentState.AWAITING_USER_INPUT
LEFT_OUT = ("turn_ended", "agent_state_changed", "system", "change_agent_state")


def shouting():
    """The class of the page, word by word."""
    (text,) = re.findall(
        r"```python\n(from events.*?class ShoutingAgent.*?)```", PAGE.read_text(), re.DOTALL
    )
    names: dict[str, object] = {}
    exec(compile(text, "agents.md", "exec"), names)  # noqa: S102 - it is what the page shows
    return names["ShoutingAgent"]


async def conversation(agent, *texts):
    """The contents of a log after these messages: kind and text of each event, but for ends of turns."""
    async with Running(agent) as one:
        await one.state(AWAITING)
        for text in texts:
            await one.state(AWAITING, await one.say(text))
        payloads = [orjson.loads(stored.body) async for stored in one.stream.search_events()]
    return [(kind_of(one), said(one)) for one in payloads if kind_of(one) not in LEFT_OUT]


def said(payload):
    """The text of a payload."""
    arguments = payload.get("args") or {}
    return arguments.get("content") or arguments.get("command") or payload.get("content") or ""


async def test_the_shouting_agent_answers_as_before():
    assert await conversation(shouting()(), "hello", "again") == [
        ("message", "hello"),
        ("recall", ""),
        ("recall", ""),
        ("message", "HELLO"),
        ("message", "again"),
        ("recall", ""),
        ("recall", ""),
        ("message", "AGAIN"),
    ]


async def test_the_notes_agent_keeps_and_reads_as_before():
    log = await conversation(notes_agent.NotesAgent(), "note Water the plants", "notes")

    assert [entry for entry in log if entry[0] != "recall"] == [
        ("message", "note Water the plants"),
        ("run", "echo 'Water the plants' >> notes.txt"),
        ("run", ""),
        ("message", "Noted."),
        ("message", "notes"),
        ("read", ""),
        ("read", "Water the plants\n"),
        ("message", "Water the plants\n"),
    ]


@pytest.mark.parametrize("make", [shouting(), notes_agent.NotesAgent])
async def test_every_message_of_an_old_agent_has_a_turn_that_ends(make):
    async with Running(make()) as one:
        await one.state(AWAITING, await one.say("hello"))
        payloads = [orjson.loads(stored.body) async for stored in one.stream.search_events()]

    (recall,), (ended,) = recalls(payloads), ends(payloads)
    (answer,) = [one for one in payloads if is_answer(one)]
    assert answer["turn"] == ended["turn"] == recall["id"]
