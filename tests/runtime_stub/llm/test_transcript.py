"""The transcript that a model is told of a conversation: every call with its answer, and messages where they were taken up."""

import re
from typing import Any

import pytest
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from events.actions import (
    AgentFinishAction,
    AgentThinkAction,
    CmdRunAction,
    CondensationAction,
    FileWriteAction,
    LoopRecoveryAction,
    MessageAction,
    RecallAction,
)
from events.event import ConfirmationState, EventSource, Interruption, RecallType
from events.observations import (
    CmdOutputMetadata,
    CmdOutputObservation,
    ErrorObservation,
    LoopDetectionObservation,
)
from runtime_stub.conformance.agent import HistoryDouble
from runtime_stub.llm.transcript import (
    BEGINNING,
    ENDED_LOOP,
    GO_ON,
    NO_ANSWER,
    NO_WORDS,
    PICTURE,
    SEEN,
    Reader,
    read_transcript,
)
from runtime_stub.turn import NOTICE, ToolCall

ANTHROPIC = Reader("anthropic")


def asked(text, **fields):
    return MessageAction(content=text, source=EventSource.USER, **fields)


def said(text, **fields):
    return MessageAction(content=text, source=EventSource.AGENT, **fields)


def recall(cause):
    kind = RecallType.KNOWLEDGE
    return RecallAction(recall_type=kind, cause=cause, source=EventSource.USER)


def run(command, call, response="r", **fields):
    metadata = ToolCall(call, "run", 1, {"id": response}).metadata()
    return CmdRunAction(
        command=command, source=EventSource.AGENT, tool_call_metadata=metadata, **fields
    )


def output(cause, content, code=0):
    return CmdOutputObservation(
        content=content,
        command="",
        metadata=CmdOutputMetadata(exit_code=code),
        cause=cause,
        source=EventSource.AGENT,
    )


def log_of(*events):
    return [event.model_copy(update={"id": place}) for place, event in enumerate(events)]


async def told(*events, waiting=(), reader=ANTHROPIC, characters=10**6):
    log = log_of(*events)
    messages = [log[place] for place in waiting]
    transcript = await read_transcript(HistoryDouble(log), messages, characters)
    return [shown(one) for one in transcript.messages("Be brief.", reader)]


def shown(message):
    """A message in short: who, and what."""
    found: list[Any] = []
    for part in message.parts:
        match part:
            case UserPromptPart(content=content):
                found.append(content)
            case TextPart(content=content):
                found.append(content)
            case ThinkingPart():
                found.append(("thinks", part.content, part.signature))
            case ToolCallPart():
                found.append(("calls", part.tool_call_id, part.args_as_dict()))
            case ToolReturnPart():
                found.append(("returns", part.tool_call_id, part.content))
    assert isinstance(message, ModelRequest | ModelResponse)
    return ("user" if isinstance(message, ModelRequest) else "model", *found)


async def test_questions_and_answers_alternate():
    found = await told(
        asked("One?"), recall(0), said("One."), asked("Two?"), recall(3), waiting=[3]
    )
    assert found == [("user", "One?"), ("model", "One."), ("user", "Two?")]


async def test_a_message_stands_where_it_was_taken_up():
    found = await told(asked("One?"), recall(0), asked("Two?"), said("One."), recall(2))
    assert found == [("user", "One?"), ("model", "One."), ("user", "Two?")]


async def test_a_message_that_a_turn_takes_up_stands_at_the_end():
    found = await told(asked("One?"), recall(0), asked("Two?"), said("One."), waiting=[2])
    assert found == [("user", "One?"), ("model", "One."), ("user", "Two?")]


async def test_a_message_that_waits_for_another_turn_is_not_told():
    found = await told(asked("One?"), asked("Two?"), recall(0), waiting=[0])
    assert found == [("user", "One?")]


async def test_messages_that_a_crash_left_unanswered_are_told_once_each():
    found = await told(
        asked("One?"),
        asked("Two?"),
        recall(0),
        recall(1),
        asked("Three?"),
        said("One."),
        recall(4),
        asked("Four?"),
        recall(0),
        waiting=[0, 1, 4],
    )
    assert found == [("user", "One?", "Two?"), ("model", "One."), ("user", "Three?")]


def forgets(last, summary="In short."):
    return CondensationAction(
        forgotten_events_start_id=0,
        forgotten_events_end_id=last,
        summary=summary,
        summary_offset=0,
    )


SUMMARISED = "[The beginning of the conversation, in short:]\n\nIn short."


async def test_a_message_that_came_before_a_cut_and_was_taken_up_behind_it_is_told():
    found = await told(
        asked("One?"),
        recall(0),
        asked("Two?"),
        run("a", "1"),
        output(3, "A"),
        forgets(4),
        recall(2),
        said("Two."),
        asked("Three?"),
        recall(8),
        waiting=[8],
    )
    assert found == [("user", SUMMARISED, "Two?"), ("model", "Two."), ("user", "Three?")]


async def test_a_message_that_a_summary_tells_of_is_not_told_again_when_its_turn_is_begun_again():
    found = await told(
        asked("One?"),
        asked("Two?"),
        recall(0),
        recall(1),
        run("a", "1"),
        output(4, "A"),
        forgets(5),
        run("b", "2"),
        output(7, "B"),
        recall(0),
        waiting=[0, 1],
    )
    assert found == [
        ("user", SUMMARISED),
        ("model", ("calls", "2", {"command": "b"})),
        ("user", ("returns", "2", "B")),
    ]


async def test_a_long_conversation_is_read_back_to_where_a_message_was_taken_up():
    found = await told(
        asked("One?"),
        recall(0),
        asked("Two?"),
        said("One. " * 100),
        recall(2),
        said("x" * 50),
        characters=20,
    )
    assert found[:2] == [("user", "Two?"), ("model", "x" * 50)]


async def test_words_of_the_server_are_not_told_as_those_of_the_model():
    notice = said("No model is set.", tool_call_metadata={NOTICE: True})
    loop = LoopDetectionObservation(content="Again.", cause=3, source=EventSource.AGENT)
    found = await told(
        asked("Go"),
        notice,
        AgentFinishAction(source=EventSource.AGENT),
        LoopRecoveryAction(option=3, source=EventSource.AGENT),
        loop,
        MessageAction(content="Restarted.", source=EventSource.ENVIRONMENT),
        asked("And on."),
    )
    assert found == [("user", "Go", ENDED_LOOP, "And on.")]


async def test_calls_of_one_answer_stand_together_and_are_answered_in_their_order():
    found = await told(
        asked("Do!"),
        said("I do."),
        run("a", "1"),
        run("b", "2"),
        output(3, "B", 1),
        output(2, "A"),
        said("Done."),
    )
    assert found == [
        ("user", "Do!"),
        ("model", "I do.", ("calls", "1", {"command": "a"}), ("calls", "2", {"command": "b"})),
        ("user", ("returns", "1", "A"), ("returns", "2", "B\n[exit code 1]")),
        ("model", "Done."),
        ("user", GO_ON),
    ]


async def test_calls_of_two_answers_stand_apart():
    found = await told(
        asked("Do!"), run("a", "1", "r1"), output(1, "A"), run("b", "1", "r2"), output(3, "B")
    )
    assert [who for who, *_ in found] == ["user", "model", "user", "model", "user"]
    first, result, second, other = [call for _, (_, call, *_) in found[1:]]
    assert (first, result) == ("1", "1")
    assert second == other != "1"


@pytest.mark.parametrize(
    ("reader", "call", "kept"),
    [
        (Reader(), "functions.run:0", False),
        (Reader(), "call_0fypS1hVX", False),
        (Reader(), "0fypS1hVX", True),
        (Reader(model="moonshotai/kimi-k2"), "functions.run:0", True),
        (Reader("google"), "functions.run:0", True),
        (ANTHROPIC, "functions.run:0", False),
        (ANTHROPIC, "toolu_1", True),
    ],
)
async def test_ids_and_names_of_calls_have_the_form_that_the_provider_takes(reader, call, kept):
    called = run("a", call).model_copy(
        update={"tool_call_metadata": ToolCall(call, "functions.run").metadata()}
    )
    log = log_of(asked("Do!"), called)
    transcript = await read_transcript(HistoryDouble(log), [], 10**6)
    made: Any = transcript.messages("", reader)[1].parts[0]
    answered: Any = transcript.messages("", reader)[2].parts[0]

    assert made.tool_name == "functions_run"
    assert answered.tool_call_id == made.tool_call_id
    assert (made.tool_call_id == call) is kept
    expected = re.escape(call) if kept else "[a-zA-Z0-9]{9}"
    assert re.fullmatch(expected, made.tool_call_id)


async def test_a_model_of_mistrals_has_spoken_between_a_result_and_words_of_the_user():
    events = asked("Do!"), run("a", "1"), output(1, "A"), asked("Quick!")
    found = await told(*events, reader=Reader(model="mistralai/mistral-small"))

    assert found[3:] == [("model", SEEN), ("user", "Quick!")]


async def test_a_call_without_an_answer_is_answered_as_interrupted():
    found = await told(asked("Do!"), run("a", "1"), said("Again."), asked("Well?"))
    assert found[2:] == [
        ("user", ("returns", "1", NO_ANSWER)),
        ("model", "Again."),
        ("user", "Well?"),
    ]


async def test_words_of_the_user_between_a_call_and_its_answer_follow_the_answer():
    found = await told(asked("Do!"), run("a", "1"), asked("Quick!"), output(1, "A"))
    assert found[2:] == [("user", ("returns", "1", "A"), "Quick!")]


async def test_a_call_that_a_person_agreed_to_is_told_once_as_it_was_carried_out():
    waits = ConfirmationState.AWAITING_CONFIRMATION
    found = await told(
        asked("Do!"),
        run("a", "1", confirmation_state=waits),
        run("a changed", "1", cause=1, edited_by="ann"),
        output(2, "A"),
    )
    assert found[1:] == [
        ("model", ("calls", "1", {"command": "a changed"})),
        ("user", ("returns", "1", "A")),
    ]


async def test_an_answer_that_was_cut_short_is_told_as_one():
    found = await told(asked("Go"), said("Good mor", interrupted=Interruption.CRASHED))
    assert found[1:] == [
        ("model", "Good mor"),
        ("user", "[Your answer was cut off here by a restart of the server.]"),
    ]


async def test_only_what_a_provider_has_signed_is_told_as_a_thought():
    signed = {"thinking": {"signature": "S", "provider_name": "anthropic"}}
    found = await told(
        asked("Go"),
        AgentThinkAction(thought="unsigned", source=EventSource.AGENT),
        AgentThinkAction(thought="signed", source=EventSource.AGENT, tool_call_metadata=signed),
        said("Good"),
        asked("On"),
    )
    assert found[1] == ("model", ("thinks", "signed", "S"), "Good")


async def test_what_was_condensed_is_told_as_its_summary():
    found = await told(
        asked("One?"),
        said("One."),
        asked("Two?"),
        said("Two."),
        CondensationAction(
            forgotten_events_start_id=0,
            forgotten_events_end_id=1,
            summary="Something about one.",
            summary_offset=0,
        ),
        asked("Three?"),
    )
    assert found[0] == (
        "user",
        "[The beginning of the conversation, in short:]\n\nSomething about one.",
        "Two?",
    )
    assert found[1:] == [("model", "Two."), ("user", "Three?")]


async def test_a_long_conversation_is_read_back_to_a_question():
    found = await told(
        asked("One?"),
        said("One. " * 100),
        asked("Two?"),
        said("x" * 50),
        asked("3?"),
        characters=20,
    )
    assert found[0] == ("user", "Two?")


async def test_arguments_that_are_as_ever_are_left_out():
    write = FileWriteAction(path="a", content="", source=EventSource.AGENT)
    found = await told(asked("Write"), write)
    who, (_, _, arguments) = found[1]
    assert (who, arguments) == ("model", {"path": "a", "content": ""})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("data:image/png;base64,AAAA", BinaryContent(data=b"\0\0\0", media_type="image/png")),
        ("https://example.org/a.png", ImageUrl(url="https://example.org/a.png")),
        ("data:image/png;base64,%%", PICTURE),
        ("file:///etc/passwd", PICTURE),
    ],
)
async def test_pictures_are_shown_where_they_can_be(address, expected):
    (found,) = await told(asked("See", image_urls=[address]), reader=Reader("openai", vision=True))
    if expected == PICTURE:
        assert found == ("user", f"See\n{PICTURE}")
    else:
        assert found == ("user", ["See", expected])


async def test_an_error_that_answers_a_message_is_not_told():
    found = await told(
        asked("One?"), ErrorObservation(content="lost", cause=0, source=EventSource.AGENT)
    )
    assert found == [("user", "One?")]


async def test_of_a_long_output_both_ends_are_told():
    found = await told(asked("Do!"), run("a", "1"), output(1, f"first{'x' * 40_000}last"))
    (_, ((_, _, content),)) = found[2][0], found[2][1:]

    assert len(content) <= 30_000
    assert content.startswith("firstx")
    assert content.endswith("xlast")


async def test_a_message_without_words_is_told_as_one():
    found = await told(asked(" \n"), said(""), asked("Well?"))
    assert found == [("user", NO_WORDS, "Well?")]


async def test_a_conversation_that_the_agent_has_begun_is_told_from_its_words():
    found = await told(said("Good morning."), asked("Hello"))
    assert found == [("user", BEGINNING), ("model", "Good morning."), ("user", "Hello")]
