"""The approvals that the events of a log tell of: asked, decided and asked again.

Nothing before the newest settled state of a log is open but what that state names.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from events.actions import ChangeAgentStateAction
from events.event import (
    AgentState,
    ConfirmationState,
    EventSource,
    SecurityRisk,
    StoredEvent,
)
from events.filter import EventFilter
from events.observations import AgentStateChangedObservation
from events.stream import EventStream

CONFIRMABLE = frozenset(
    ("run", "run_ipython", "browse_interactive", "edit", "read", "call_tool_mcp")
)
"""Kinds of action that wait for the user's word in confirmation mode."""
ASKED_RISKS = frozenset((SecurityRisk.HIGH, SecurityRisk.UNKNOWN))
"""Risks at which they do; no analyzer is configured, so an unknown one counts as high."""
DECISIONS = frozenset((AgentState.USER_CONFIRMED, AgentState.USER_REJECTED))
"""The commands that decide."""
RESTING = frozenset(
    (
        AgentState.AWAITING_USER_INPUT,
        AgentState.PAUSED,
        AgentState.STOPPED,
        AgentState.FINISHED,
        AgentState.REJECTED,
        AgentState.ERROR,
    )
)
"""States without an action in progress: every earlier one has an observation or is named as asked."""
BY_USER = EventFilter(include_kinds=(ChangeAgentStateAction.kind,), source=EventSource.USER)
"""The commands of people."""


class LogEnd(NamedTuple):
    """The newest settled state of a log, what it names, and what follows it, ascending."""

    rest_id: int = 0
    asked: Sequence[StoredEvent] = ()
    allowed: Sequence[str] = ()
    later: Sequence[tuple[Mapping[str, Any], StoredEvent]] = ()


async def read_end(stream: EventStream) -> LogEnd:
    """Read a log back to its newest settled state."""
    if stream.last_state_id is None:
        return LogEnd()
    later: list[tuple[Mapping[str, Any], StoredEvent]] = []
    rest_id = 0
    extras: Mapping[str, Any] = {}
    async for stored in stream.search_events(0, stream.next_id - 1, reverse=True):
        payload = orjson.loads(stored.body)
        if state_in(payload) in RESTING:
            rest_id, extras = stored.id, _extras(payload)
            break
        later.append((payload, stored))
    if not rest_id:
        return LogEnd(later=later[::-1])
    asked = [
        stored
        for question_id in extras.get("approvals") or ()
        async for stored in stream.search_events(question_id, question_id)
    ]
    return LogEnd(rest_id, asked, extras.get("allowed") or (), later[::-1])


def state_in(payload: Mapping[str, Any]) -> str | None:
    """Return the state of the agent that an event records, None if it is another event."""
    if payload.get("observation") != AgentStateChangedObservation.kind:
        return None
    return str(_extras(payload).get("agent_state"))


def asks(payload: Mapping[str, Any], state: str) -> bool:
    """Return whether a person is asked about an action recorded in a state.

    Kinds without a `confirmation_state` show it only by standing behind the state that asks.
    """
    arguments = payload.get("args")
    if payload.get("source") != EventSource.AGENT or not isinstance(arguments, Mapping):
        return False
    if "confirmation_state" in arguments:
        return bool(arguments["confirmation_state"] == ConfirmationState.AWAITING_CONFIRMATION)
    return (
        state == AgentState.AWAITING_USER_CONFIRMATION
        and payload.get("action") in CONFIRMABLE
        and arguments.get("security_risk", SecurityRisk.UNKNOWN) in ASKED_RISKS
    )


def decides(payload: Mapping[str, Any]) -> bool:
    """Return whether an event is a person's decision."""
    return _command_in(payload).get("agent_state") in DECISIONS


def asking_again(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a command that asks again, about one action or a kind; else nothing."""
    arguments = _command_in(payload)
    asks_again = arguments.get("agent_state") == AgentState.AWAITING_USER_CONFIRMATION
    return arguments if asks_again else {}


def _command_in(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a person's command; nothing of another event."""
    by_user = payload.get("source") == EventSource.USER
    if not by_user or payload.get("action") != ChangeAgentStateAction.kind:
        return {}
    arguments = payload.get("args")
    return arguments if isinstance(arguments, Mapping) else {}


def _extras(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    extras = payload.get("extras")
    return extras if isinstance(extras, Mapping) else {}
