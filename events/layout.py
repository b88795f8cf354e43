"""The layout of events as JSON objects: the places of their fields, and the values allowed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, ClassVar

from pydantic import Field

from events.actions import Action
from events.event import Event, EventSource, Interruption
from events.observations import CmdOutputObservation, Observation


class UnknownAction(Action):
    """An action whose `args` are as stored; `text` is the stored message."""

    wording: ClassVar[str] = "{text}"
    kind: str  # type: ignore[misc]  # differs by instance here, and only here
    args: dict[str, Any] = Field(default_factory=dict)
    text: str = ""


class UnknownObservation(Observation):
    """An observation whose `extras` are as stored; `text` is the stored message."""

    wording: ClassVar[str] = "{text}"
    kind: str  # type: ignore[misc]  # differs by instance here, and only here
    extras: dict[str, Any] = Field(default_factory=dict)
    text: str = ""


WIRE_NAMES = {"diff_cache": "_diff_cache"}
SOURCES = frozenset(EventSource)
INTERRUPTIONS = frozenset(Interruption)
ENVELOPE: dict[str, Callable[[Any], bool]] = {
    "id": lambda value: type(value) is int and value >= 0,
    "timestamp": lambda value: isinstance(value, str),
    "source": lambda value: isinstance(value, str) and value in SOURCES,
    "cause": lambda value: type(value) is int,
    "client_id": lambda value: isinstance(value, str),
    "turn": lambda value: type(value) is int and value >= 0,
    "partial": lambda value: isinstance(value, str),
    "interrupted": lambda value: isinstance(value, str) and value in INTERRUPTIONS,
    "tool_call_metadata": lambda value: isinstance(value, dict),
    "llm_metrics": lambda value: isinstance(value, dict),
}
ACTION_ENVELOPE = ENVELOPE | {
    "timeout": lambda value: type(value) is float or (type(value) is int and abs(value) < 2**64),
    "edited_by": lambda value: isinstance(value, str),
}
OBSERVATION_ENVELOPE = ENVELOPE | {"content": lambda value: isinstance(value, str)}
CONSUMED_BY_ACTIONS = frozenset(("action", "args", "message"))
CONSUMED_BY_OBSERVATIONS = frozenset(("observation", "extras", "message"))
NOT_PLAIN = (CmdOutputObservation, UnknownAction, UnknownObservation)
BOTH_KINDS = frozenset(("action", "observation"))


@dataclass(frozen=True, slots=True)
class Layout:
    """The spelling of a kind's own fields in `args` or `extras`, in order."""

    fields: tuple[tuple[str, str], ...]
    by_wire_name: dict[str, str]
    wire_names: frozenset[str]
    required: frozenset[str]
    words: tuple[tuple[str, type[Enum]], ...]
    is_plain: bool
    """Every field goes over the wire as it is."""


@cache
def layout_of(kind: type[Event]) -> Layout:
    """Tell the layout of an action's or observation's class."""
    shared = Action.model_fields if issubclass(kind, Action) else Observation.model_fields
    own = {name: field for name, field in kind.model_fields.items() if name not in shared}
    fields = tuple((name, WIRE_NAMES.get(name, name)) for name in own)
    words = tuple(
        (name, field.annotation)
        for name, field in own.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Enum)
    )
    return Layout(
        fields=fields,
        by_wire_name={wire_name: name for name, wire_name in fields},
        wire_names=frozenset(wire_name for _, wire_name in fields),
        required=frozenset(wire_name for name, wire_name in fields if own[name].is_required()),
        words=words,
        is_plain=not words and not kind.omitted and not issubclass(kind, NOT_PLAIN),
    )


def envelope_of(
    payload: Mapping[str, Any], kind: type[Event]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the top level of a payload into the envelope's fields and unknown fields.

    A known key with an invalid value counts as unknown, null as absent.
    """
    is_action = issubclass(kind, Action)
    checks = ACTION_ENVELOPE if is_action else OBSERVATION_ENVELOPE
    consumed = CONSUMED_BY_ACTIONS if is_action else CONSUMED_BY_OBSERVATIONS
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for key, value in payload.items():
        check = checks.get(key)
        if key in consumed or (value is None and (check or key in BOTH_KINDS)):
            continue
        if check is None:
            unknown[key] = value
        elif check(value):
            known[key] = value
        elif isinstance(value, datetime):
            known[key] = value.isoformat()
        else:
            unknown[key] = value
    if "source" in known:
        known["source"] = EventSource(known["source"])
    if "interrupted" in known:
        known["interrupted"] = Interruption(known["interrupted"])
    if issubclass(kind, Observation) and kind.success is not Observation.success:
        unknown.pop("success", None)
    return known, unknown
