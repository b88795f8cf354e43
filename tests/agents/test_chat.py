"""A conversation as the messages of a chat: in the order in which a model is to read it."""

import json

from events.actions import (
    AgentFinishAction,
    AgentRejectAction,
    CmdRunAction,
    MCPAction,
    MessageAction,
    RecallAction,
)
from events.event import EventSource, Interruption, RecallType
from events.observations import CmdOutputObservation, MCPObservation
from runtime_stub import chat_messages
from runtime_stub.conformance.agent import HistoryDouble
from runtime_stub.turn import NOTICE, Exchange, ToolCall, Window

AGENT, USER = EventSource.AGENT, EventSource.USER


def asks(key, text):
    return MessageAction(id=key, content=text, source=USER)


def says(key, text, turn, **fields):
    return MessageAction(id=key, content=text, source=AGENT, turn=turn, **fields)


def runs(key, command, turn, **fields):
    return CmdRunAction(id=key, command=command, source=AGENT, turn=turn, **fields)


def ran(key, cause, content, turn):
    fields = {"id": key, "cause": cause, "source": AGENT, "turn": turn}
    return CmdOutputObservation(content=content, command="", **fields)


def texts(messages):
    return [(one["role"], one["content"]) for one in messages]


CALL = ToolCall("call-1", "run").metadata()


def test_an_exchange_is_told_in_the_order_of_the_log():
    first, second = asks(0, "Hello"), asks(4, "And now?")
    exchanges = [
        Exchange([first], [says(3, "Good morning.", 1)], {0: 1}),
        Exchange([second], [], {4: 5}),
    ]

    assert texts(chat_messages(exchanges, [second])) == [
        ("user", "Hello"),
        ("assistant", "Good morning."),
        ("user", "And now?"),
    ]


def test_what_is_to_be_answered_stands_behind_an_answer_that_was_under_way_when_it_came():
    first, second = asks(0, "One"), asks(2, "Two")
    exchanges = [Exchange([first, second], [says(4, "Done.", 1)], {0: 1, 2: 6})]

    assert texts(chat_messages(exchanges, [second])) == [
        ("user", "One"),
        ("assistant", "Done."),
        ("user", "Two"),
    ]


def test_a_turn_that_is_begun_again_is_told_what_it_has_done_and_not_what_it_had_begun_to_say():
    question = asks(0, "Look")
    done = [
        runs(3, "ls", 1, tool_call_metadata=CALL),
        ran(4, 3, "a.txt", 1),
        says(5, "There is", 1, interrupted=Interruption.CRASHED),
    ]
    messages = chat_messages([Exchange([question], done, {0: 1})], [question])

    assert [one["role"] for one in messages] == ["user", "assistant", "tool"]
    assert messages[2]["content"] == "a.txt"


def taken(key, cause):
    return RecallAction(id=key, recall_type=RecallType.KNOWLEDGE, cause=cause, source=USER)


async def told(log, *causes):
    """The messages that a turn is told of a log, which it begins with the messages of those ids."""
    exchanges = await HistoryDouble(log).exchanges(Window())
    return texts(chat_messages(exchanges, [log[key] for key in causes]))


async def test_messages_that_a_crash_left_unanswered_are_told_once_each_where_they_were_taken_up():
    log = [
        asks(0, "One"),
        asks(1, "Two"),
        taken(2, 0),
        taken(3, 1),
        asks(4, "Three"),
        says(5, "For a start.", 2),
        taken(6, 4),
        says(7, "And on", 2, interrupted=Interruption.CRASHED),
        asks(8, "Four"),
        taken(9, 0),
    ]
    first = [("user", "One"), ("user", "Two"), ("assistant", "For a start.")]

    assert await told(log, 0, 1, 4) == [*first, ("user", "Three")]


async def test_a_message_that_waits_for_another_turn_is_not_told():
    log = [
        asks(0, "One"),
        asks(1, "Two"),
        taken(2, 0),
        says(3, "I ask.", 2),
        asks(4, "Yes"),
        taken(5, 4),
        taken(6, 0),
    ]

    assert await told(log[:3], 0) == [("user", "One")]
    assert await told(log, 0, 4) == [
        ("user", "One"),
        ("assistant", "I ask."),
        ("user", "Yes"),
    ]


async def test_a_message_that_came_before_a_turn_began_without_it_is_told_behind_that_turn():
    log = [
        asks(0, "One"),
        asks(1, "Two"),
        taken(2, 0),
        says(3, "First.", 2),
        taken(4, 1),
    ]

    assert await told(log, 1) == [("user", "One"), ("assistant", "First."), ("user", "Two")]


def test_words_of_the_server_are_not_told_as_those_of_the_model():
    done = [
        says(2, "No model is set.", 1, tool_call_metadata={NOTICE: True}),
        AgentFinishAction(id=3, source=AGENT, turn=1),
        AgentRejectAction(id=4, source=AGENT, turn=1),
        AgentRejectAction(id=5, source=AGENT, turn=1, outputs={"reason": "Too far."}),
    ]
    messages = chat_messages([Exchange([asks(0, "Go")], done)], [])

    assert texts(messages) == [("user", "Go"), ("assistant", "Too far.")]


def test_an_answer_that_a_crash_cut_short_for_good_is_told():
    done = [says(3, "There is", 1, interrupted=Interruption.CRASHED)]
    last = asks(5, "Go on")
    exchanges = [Exchange([asks(0, "Look")], done, {0: 1}), Exchange([last], [], {5: 6})]

    assert ("assistant", "There is") in texts(chat_messages(exchanges, [last]))


def test_a_call_stands_with_its_result_and_with_the_words_before_it():
    done = [
        says(3, "I look.", 1),
        runs(4, "ls", 1, tool_call_metadata=CALL),
        ran(5, 4, "a.txt", 1),
        AgentFinishAction(id=6, source=AGENT, turn=1, thought="All seen."),
    ]
    _, call, result, end = chat_messages([Exchange([asks(0, "Look")], done)], [])

    assert call["content"] == "I look."
    (made,) = call["tool_calls"]
    assert (made["id"], made["function"]["name"]) == ("call-1", "run")
    assert json.loads(made["function"]["arguments"]) == {"command": "ls"}
    assert result == {"role": "tool", "tool_call_id": "call-1", "content": "a.txt"}
    assert end == {"role": "assistant", "content": "All seen."}


def test_calls_that_were_made_at_once_are_each_followed_by_their_result():
    other = ToolCall("call-2", "lookup").metadata()
    done = [
        runs(3, "ls", 1, tool_call_metadata=CALL),
        MCPAction(
            id=4, name="lookup", arguments={"key": 1}, source=AGENT, tool_call_metadata=other
        ),
        MCPObservation(id=5, content="one", name="lookup", cause=4, source=AGENT),
        ran(6, 3, "a.txt", 1),
    ]
    messages = chat_messages([Exchange([asks(0, "Look")], done)], [])

    assert [one.get("tool_call_id") for one in messages] == [None, None, "call-2", None, "call-1"]
    assert messages[1]["content"] is None
    arguments = messages[1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"key": 1}


def test_a_call_without_a_result_and_an_action_that_no_model_called_are_left_out():
    done = [runs(3, "ls", 1, tool_call_metadata=CALL), runs(4, "pwd", 1), ran(5, 4, "/", 1)]

    assert texts(chat_messages([Exchange([asks(0, "Look")], done)], [])) == [("user", "Look")]


def test_a_call_that_a_person_changed_is_told_as_it_was_carried_out():
    done = [
        runs(3, "rm -r build", 1, tool_call_metadata=CALL),
        runs(4, "ls build", 1, cause=3, edited_by="somebody"),
        ran(5, 4, "a.o", 1),
    ]
    _, call, result = chat_messages([Exchange([asks(0, "Clean")], done)], [])

    (made,) = call["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {"command": "ls build"}
    assert (made["id"], result["content"]) == ("call-1", "a.o")
