"""A conversation as the messages of a chat, in the form of OpenAI's chat completions, which most clients take."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from events.actions import Action, AgentFinishAction, AgentRejectAction, MessageAction
from events.event import Event, EventSource, Interruption
from events.observations import Observation
from runtime_stub.tools import arguments_of
from runtime_stub.turn import Exchange, as_taken_up, is_notice, spoken

ChatMessage: TypeAlias = dict[str, Any]
"""A message: its `role` and `content`, with `tool_calls` or `tool_call_id`; None is the content of a mere call."""


def chat_messages(exchanges: Sequence[Exchange], cause: Sequence[Event]) -> list[ChatMessage]:
    """Return a history, and the cause of the turn that is to answer it, as messages for a model.

    Each message stands where it was first taken up, and one that waits for another turn is left out.
    The call of a tool stands with its result, once there is one. What a crash left of an answer to
    the cause is left out, as it is written anew; so are pictures, files and notices.
    """
    messages: list[ChatMessage] = []
    calls: dict[int | None, tuple[Mapping[str, Any], Action]] = {}
    for one in _in_order(exchanges, cause):
        match one:
            case MessageAction(source=EventSource.USER):
                messages.append({"role": "user", "content": one.content})
            case MessageAction() | AgentFinishAction() | AgentRejectAction():
                if spoken(one).strip():
                    messages.append({"role": "assistant", "content": spoken(one)})
            case Action() if one.tool_call_metadata is not None:
                calls[one.id] = one.tool_call_metadata, one
            case Action() if one.cause in calls:  # the form of it that a person agreed to
                calls[one.id] = calls[one.cause][0], one
            case Observation() if one.cause in calls:
                _add_call(messages, *calls[one.cause], one.content)
            case _:
                pass
    return messages


def _in_order(exchanges: Sequence[Exchange], cause: Sequence[Event]) -> Iterator[Event]:
    """Yield the events in the order in which they are told."""
    waiting = [one for one in cause if isinstance(one, MessageAction)]
    events = [one for each in exchanges for one in (*each.asked, *each.done)]
    marks = {key: place for each in exchanges for key, place in each.taken_up.items()}
    begun = min((marks[one.id] for one in waiting if one.id in marks), default=None)
    for one in as_taken_up(events, marks, waiting):
        is_crashed = one.interrupted == Interruption.CRASHED
        is_of_cause = begun is not None and one.id is not None and one.id > begun
        if not (is_crashed and is_of_cause) and not is_notice(one):
            yield one


def _add_call(
    messages: list[ChatMessage], call: Mapping[str, Any], action: Action, result: str
) -> None:
    """Add a call, to the text that came with it if there is one, and its result."""
    key = call.get("tool_call_id")
    function = {"name": call.get("function_name"), "arguments": json.dumps(arguments_of(action))}
    if not messages or messages[-1].keys() != {"role", "content"} or messages[-1]["role"] == "user":
        messages.append({"role": "assistant", "content": None})
    messages[-1]["tool_calls"] = [{"id": key, "type": "function", "function": function}]
    messages.append({"role": "tool", "tool_call_id": key, "content": result})
