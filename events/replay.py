"""What a recorded conversation asks an agent to do once more."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from pydantic import JsonValue

from events.actions import Action, MessageAction
from events.errors import BadRecording
from events.event import ConfirmationState, EventSource
from events.serialization import decode
from events.unknown import UnknownAction

REPLAYED = frozenset(
    (
        "message",
        "run",
        "run_ipython",
        "read",
        "write",
        "edit",
        "browse",
        "browse_interactive",
        "call_tool_mcp",
        "task_tracking",
        "think",
        "finish",
        "reject",
    )
)
"""Kinds of an agent's actions that are done again; the others steer an agent or its memory."""


class Recording(NamedTuple):
    """The user's first message, and what the agent did, in order and free of ids and times."""

    first_message: MessageAction
    actions: tuple[Action, ...]


def read_recording(text: str) -> Recording:
    """Read a trajectory: a JSON list of events, or an object that holds one as `trajectory`.

    Observations are left out, since acting again gives new ones; so are later user messages, and
    actions that were not confirmed. Raises BadRecording when it is no trajectory, or one
    without a user message.
    """
    actions: list[Action] = []
    first_message: MessageAction | None = None
    for number, payload in enumerate(_events_of(text)):
        kind = payload.get("action")
        if not isinstance(kind, str) or kind not in REPLAYED:
            continue
        event = _decoded(number, payload)
        if event.source == EventSource.USER:
            if isinstance(event, MessageAction) and first_message is None:
                first_message = event
        elif _was_done(event):
            actions.append(_anew(event))
    if first_message is None:
        raise BadRecording("replay_json holds no user message")
    return Recording(first_message, tuple(_without_waiting(actions)))


def _events_of(text: str) -> Iterable[Mapping[str, Any]]:
    try:
        found: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRecording(f"replay_json is not JSON: {error}") from error
    if isinstance(found, dict):
        found = found.get("trajectory")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadRecording("replay_json must be a list of events")
    return [one for one in found if isinstance(one, dict)]


def _decoded(number: int, payload: Mapping[str, Any]) -> Action:
    event = decode(payload)
    if not isinstance(event, Action) or isinstance(event, UnknownAction):
        raise BadRecording(f"Event {number} of replay_json cannot be read")
    return event


def _was_done(action: Action) -> bool:
    state = getattr(action, "confirmation_state", ConfirmationState.CONFIRMED)
    return state == ConfirmationState.CONFIRMED


def _anew(action: Action) -> Action:
    cleared = (
        "id",
        "timestamp",
        "source",
        "cause",
        "client_id",
        "llm_metrics",
        "tool_call_metadata",
    )
    return action.model_copy(update=dict.fromkeys(cleared))


def _without_waiting(actions: list[Action]) -> Iterable[Action]:
    """Only the last action may wait for the user: nobody answers the earlier ones again."""
    for action in actions[:-1]:
        if isinstance(action, MessageAction):
            yield action.model_copy(update={"wait_for_response": False})
        else:
            yield action
    yield from actions[-1:]
