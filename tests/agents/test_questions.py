"""Questions with a schema: what fits is returned, what does not is asked for again in words."""

import re

import orjson
import pytest

from events.actions import MessageAction
from events.event import AgentState, EventSource
from events.observations import TurnEndedObservation
from events.serialization import decode
from runtime_stub.conformance import TurnDouble
from runtime_stub.questions import BadAnswer, answer_value, plain_schema
from tests.support.loops import Running
from tests.support.turn_agents import Does

AWAITING = AgentState.AWAITING_USER_INPUT
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
PLACE = {
    "type": "object",
    "properties": {"host": {"type": "string", "minLength": 2}, "port": PORT},
    "required": ["host"],
}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (PORT, " 8080\n", 8080),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "boolean"}, "Yes", True),
        ({"type": "boolean"}, "no", False),
        ({"type": "string"}, " as it is ", " as it is "),
        ({"type": "string", "pattern": "^[a-z]+$"}, "abc", "abc"),
        ({"enum": ["red", "blue"]}, "Blue ", "blue"),
        ({"type": "integer", "enum": [1, 2]}, "2", 2),
        ({"enum": [True, None]}, "null", None),
        (PLACE, '{"host": "aa", "port": 80}', {"host": "aa", "port": 80}),
        (PLACE, '{"host": "aa", "more": [1]}', {"host": "aa", "more": [1]}),
    ],
)
def test_an_answer_that_fits_gives_its_value(schema, text, value):
    found = answer_value(text, schema)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        (PORT, "0", "That is not a whole number from 1 to 65535."),
        (PORT, "that one", "That is not a whole number from 1 to 65535."),
        ({"type": "integer", "minimum": 1}, "0", "That is not a whole number of at least 1."),
        ({"type": "number", "maximum": 1.5}, "inf", "That is not a number of at most 1.5."),
        ({"type": "boolean"}, "perhaps", "That is not yes or no."),
        ({"type": "string", "maxLength": 2}, "abc", "That is not a text of at most 2 characters."),
        ({"enum": ["red", 2]}, "green", "That is not one of: red, 2."),
        (
            PLACE,
            "a:80",
            "That is not an object of JSON with host: a text of at least 2 characters;",
        ),
        (PLACE, '{"port": 80}', "That is not an object of JSON with host"),
        (PLACE, '{"host": "aa", "port": true}', "That is not an object of JSON with host"),
        (
            PLACE | {"additionalProperties": False},
            '{"host": "aa", "x": 1}',
            "That is not an object",
        ),
    ],
)
def test_an_answer_that_does_not_fit_is_told_what_would(schema, text, said):
    with pytest.raises(BadAnswer, match=re.escape(said)):
        answer_value(text, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array"},
        {"type": "integer", "multipleOf": 5},
        {"type": "integer", "minimum": "many"},
        {"type": "string", "pattern": "("},
        {"enum": []},
        {"type": "object", "properties": {"inner": PLACE}},
        {"type": "object", "properties": {"list": {"type": "array"}}},
        {"type": "object", "properties": 5},
        {"type": "string", "default": {1, 2}},
    ],
)
def test_a_schema_that_answers_cannot_be_held_to_is_refused(schema):
    with pytest.raises(ValueError, match=r"\w"):
        plain_schema(schema)


async def test_a_question_carries_its_schema_and_is_asked_again_until_an_answer_fits():
    found = []

    async def work(turn):
        found.append(await turn.ask("Which port?", schema=PORT))
        found.append(turn.id)

    async with Running(Does(work)) as one:
        asked = await one.state(AWAITING, await one.say("open it"))
        again = await one.state(AWAITING, (await one.say("that one")))
        await one.state(AWAITING, (await one.say("8080")))
        log = [decode(orjson.loads(stored.body)) async for stored in one.stream.search_events()]

    questions = [
        event
        for event in log
        if isinstance(event, MessageAction) and event.source == EventSource.AGENT
    ]
    assert [event.content for event in questions] == [
        "Which port?",
        "That is not a whole number from 1 to 65535. Which port?",
    ]
    assert all(event.answer_schema == PORT and event.wait_for_response for event in questions)
    assert asked.id < questions[1].id < again.id
    answer, turn_id = found
    assert answer_value(answer.content, PORT) == 8080
    assert {event.turn for event in log if event.kind == "recall" and event.turn} <= {turn_id}
    outcomes = [event.outcome for event in log if isinstance(event, TurnEndedObservation)]
    assert outcomes == ["done"]


async def test_a_message_without_a_schema_is_stored_as_before():
    async with Running(Does(lambda turn: turn.ask("Why?"))) as one:
        await one.state(AWAITING, await one.say("hi"))
        bodies = [stored.body async for stored in one.stream.search_events()]

    assert not [body for body in bodies if b"answer_schema" in body]


async def test_the_double_asks_again_as_a_turn_does():
    turn = TurnDouble(answers=["that one", "80"])

    answer = await turn.ask("Which port?", schema=PORT)

    assert answer.content == "80"
    assert [one.content for one in turn.acted if isinstance(one, MessageAction)] == [
        "Which port?",
        "That is not a whole number from 1 to 65535. Which port?",
    ]
