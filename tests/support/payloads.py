"""Payloads: events as clients are sent them, and the parts of a log that tests compare."""

from collections.abc import Iterable
from typing import Any, TypeAlias

Payload: TypeAlias = dict[str, Any]
LOST = "AGENT_ERROR$TURN_LOST"


def kind_of(payload: Payload) -> str:
    """Return the kind of an event; empty for a notice."""
    return str(payload.get("action") or payload.get("observation") or "")


def is_state(payload: Payload) -> bool:
    """Whether the event tells a state of the agent."""
    return payload.get("observation") == "agent_state_changed"


def is_error_state(payload: Payload) -> bool:
    """Whether it is the state on which clients do not move their cursor."""
    return is_state(payload) and payload["extras"]["agent_state"] == "error"


def is_answer(payload: Payload) -> bool:
    """Whether it is a message of the agent."""
    return payload.get("action") == "message" and payload["source"] == "agent"


def answers(log: Iterable[Payload]) -> list[str]:
    """Return the texts of the agent's messages."""
    return [payload["args"]["content"] for payload in log if is_answer(payload)]


def recalls(log: Iterable[Payload]) -> list[Payload]:
    """Return the marks of messages that turns have taken up."""
    return [payload for payload in log if payload.get("action") == "recall"]


def ends(log: Iterable[Payload]) -> list[Payload]:
    """Return the ends of turns."""
    return [payload for payload in log if payload.get("observation") == "turn_ended"]


def outcomes(log: Iterable[Payload]) -> list[str]:
    """Return the outcomes of the turns that have ended."""
    return [payload["extras"]["outcome"] for payload in ends(log)]


def lost(log: Iterable[Payload]) -> list[int | None]:
    """Return the messages of which it is told that they are not answered, by their ids."""
    errors = (payload for payload in log if payload.get("observation") == "error")
    return [one.get("cause") for one in errors if one["extras"].get("error_id") == LOST]
