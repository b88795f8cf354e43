"""The fold of events into a change of their conversation's metadata."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from events.event import STATE, StoredEvent

Tokens = tuple[int | None, int | None, int | None]
HeadFields: TypeAlias = tuple[
    int | None, str | None, float | None, int | None, int | None, int | None, str | None
]
MESSAGES = frozenset(("message", "finish"))
SPEAKERS = frozenset(("user", "agent"))
MAX_COUNT = 2**62
"""A sum of two counts below this fits a signed 64-bit column."""


class SummaryChange(NamedTuple):
    """The change a run of events makes to the metadata; None leaves a field as it is.

    `last_updated_at` and `last_message_at` are ISO 8601 in UTC with `Z`, `accumulated_cost` is in
    US dollars, `last_state_id` is the id of the newest `agent_state_changed` observation.
    """

    last_event_id: int | None = None
    last_updated_at: str | None = None
    accumulated_cost: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    last_state_id: int | None = None
    last_message_at: str | None = None


NO_CHANGE = SummaryChange()


def fold(change: SummaryChange | None, event_id: int, payload: Mapping[str, Any]) -> SummaryChange:
    """Add the next event, whose id is above all folded before; the newest value wins.

    Metrics that are malformed are left out, cost and tokens each by itself.
    """
    before = change or NO_CHANGE
    timestamp = payload.get("timestamp")
    moment = timestamp if isinstance(timestamp, str) else None
    is_state = payload.get("observation") == "agent_state_changed" and not payload.get("action")
    cost = before.accumulated_cost
    tokens = (before.prompt_tokens, before.completion_tokens, before.total_tokens)
    metrics = payload.get("llm_metrics")
    if isinstance(metrics, Mapping):
        cost = _cost_of(metrics, cost)
        tokens = _tokens_of(metrics, tokens)
    return SummaryChange(
        event_id,
        moment or before.last_updated_at,
        cost,
        *tokens,
        event_id if is_state else before.last_state_id,
        (moment if is_message(payload) else None) or before.last_message_at,
    )


def head_fields(summary: SummaryChange, events: Sequence[StoredEvent]) -> HeadFields:
    """Return what a head keeps of an append, in the order in which databases have the columns.

    The newest state is told by the summary, or else by the events' flags.
    """
    state_id = summary.last_state_id
    if state_id is None:
        for event in events:
            if event.flag == STATE:
                state_id = event.id
    return (
        state_id,
        summary.last_updated_at,
        summary.accumulated_cost,
        summary.prompt_tokens,
        summary.completion_tokens,
        summary.total_tokens,
        summary.last_message_at,
    )


def is_message(payload: Mapping[str, Any]) -> bool:
    """Return whether the payload is a message of a person or an agent to the other.

    An agent's `finish` is its closing message.
    """
    return payload.get("action") in MESSAGES and payload.get("source") in SPEAKERS


def _cost_of(metrics: Mapping[str, Any], known: float | None) -> float | None:
    cost = metrics.get("accumulated_cost")
    if isinstance(cost, bool) or not isinstance(cost, (int, float)):
        return known
    return float(cost) if 0 <= cost < MAX_COUNT else known


def _tokens_of(metrics: Mapping[str, Any], known: Tokens) -> Tokens:
    usage = metrics.get("accumulated_token_usage")
    if not isinstance(usage, Mapping):
        return known
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    if not (_is_count(prompt) and _is_count(completion)):
        return known
    return prompt, completion, prompt + completion


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < MAX_COUNT
