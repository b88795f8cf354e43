"""The fold of events into what their conversation has used."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import orjson

from events.event import StoredEvent
from events.summary import fold
from storage.usage.model import ConversationUsage, UsageLine

NO_DAY = date.min
MODEL_CHARACTERS = 200
"""A longer name of a model is cut: it is part of a key."""


class _Sums(NamedTuple):
    cost: float
    prompt: int
    completion: int


def counted(usage: ConversationUsage, events: Sequence[StoredEvent]) -> ConversationUsage:
    """Add the next events; the first one's id is `usage.position`.

    Metrics tell sums of the whole conversation, so that the difference to those before is what
    was used on the event's UTC day, of the model the metrics name. So all lines together always
    come to what the conversation's record says. An event without metrics counts for the model "".
    One that cannot be read counts for the day 0001-01-01.
    """
    lines = {(line.day, line.model): line for line in usage.lines}
    sums = _Sums(usage.cost, usage.prompt_tokens, usage.completion_tokens)
    for event in events:
        payload = _payload_of(event)
        day, model = _day_of(payload), _model_of(payload)
        told = _sums_after(sums, event.id, payload)
        known = lines.get((day, model), UsageLine(day=day, model=model))
        lines[day, model] = UsageLine(
            day=day,
            model=model,
            events=known.events + 1,
            prompt_tokens=known.prompt_tokens + told.prompt - sums.prompt,
            completion_tokens=known.completion_tokens + told.completion - sums.completion,
            cost=known.cost + told.cost - sums.cost,
        )
        sums = told
    return usage.model_copy(
        update={
            "position": usage.position + len(events),
            "cost": sums.cost,
            "prompt_tokens": sums.prompt,
            "completion_tokens": sums.completion,
            "lines": tuple(lines[key] for key in sorted(lines)),
        }
    )


def _payload_of(event: StoredEvent) -> Mapping[str, Any]:
    try:
        payload = orjson.loads(event.body)
    except orjson.JSONDecodeError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _sums_after(sums: _Sums, event_id: int, payload: Mapping[str, Any]) -> _Sums:
    change = fold(None, event_id, payload)
    return _Sums(
        sums.cost if change.accumulated_cost is None else change.accumulated_cost,
        sums.prompt if change.prompt_tokens is None else change.prompt_tokens,
        sums.completion if change.completion_tokens is None else change.completion_tokens,
    )


def _day_of(payload: Mapping[str, Any]) -> date:
    try:
        # Timestamps are in UTC: their first ten characters are the day.
        return date.fromisoformat(payload["timestamp"][:10])
    except (KeyError, TypeError, ValueError):
        return NO_DAY


def _model_of(payload: Mapping[str, Any]) -> str:
    try:
        model = payload["llm_metrics"]["accumulated_token_usage"]["model"]
    except (KeyError, TypeError):
        return ""
    return model[:MODEL_CHARACTERS] if isinstance(model, str) else ""
