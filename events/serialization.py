"""Events to and from the JSON object that is stored and sent."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from pydantic import ValidationError

from events.actions import ACTIONS, Action
from events.errors import BadEvent
from events.event import Event, EventFlag, EventSource
from events.layout import UnknownAction, UnknownObservation, envelope_of, layout_of
from events.legacy import modern_args, modern_run_extras
from events.observations import (
    CUT_MARK,
    MAX_OUTPUT_CHARACTERS,
    OBSERVATIONS,
    CmdOutputMetadata,
    CmdOutputObservation,
    MCPObservation,
    Observation,
)

CLIENT_SOURCES = frozenset((EventSource.AGENT, EventSource.USER))
PROJECTED_ACTIONS = frozenset(("null",))
PROJECTED_OBSERVATIONS = frozenset(("null", "browse", "browse_interactive"))
HEAVY_EXTRAS = frozenset(
    (
        "dom_object",
        "axtree_object",
        "active_page_index",
        "last_browser_action",
        "last_browser_action_error",
        "focused_element_bid",
        "extra_element_properties",
    )
)
PICTURES = frozenset(("screenshot", "set_of_marks"))
OUTPUTS = frozenset((CmdOutputObservation.kind, MCPObservation.kind))
"""Observations that may be of any length."""


def encode(event: Event) -> dict[str, Any]:
    """Give the event's JSON object in the protocol's key order.

    Nested containers are shared with the event: treat the result as read-only below its first
    two levels.
    """
    payload: dict[str, Any] = {}
    if event.id is not None:
        payload["id"] = event.id
    if event.timestamp is not None:
        payload["timestamp"] = event.timestamp
    return _encode_rest(payload, event, event.source, event.client_id)


def encode_new(event: Event, source: EventSource, client_id: str | None) -> dict[str, Any]:
    """Give the JSON object of an event that is about to be appended: no id, no timestamp yet."""
    return _encode_rest({}, event, source, client_id)


def _encode_rest(
    payload: dict[str, Any], event: Event, source: EventSource | None, client_id: str | None
) -> dict[str, Any]:
    if source is not None:
        payload["source"] = str(source)
    payload["message"] = event.message
    if event.cause is not None:
        payload["cause"] = event.cause
    if client_id is not None:
        payload["client_id"] = client_id
    _put_turn(payload, event)
    observation = event if isinstance(event, Observation) else None
    payload["action" if observation is None else "observation"] = event.kind
    if event.tool_call_metadata is not None:
        payload["tool_call_metadata"] = event.tool_call_metadata
    if event.llm_metrics is not None:
        payload["llm_metrics"] = event.llm_metrics
    if event.turn is not None or event.partial is not None or event.interrupted is not None:
        _put_turn(payload, event)
    if observation is not None:
        _put_result(payload, observation)
    else:
        payload["args"] = _arguments_of(event)
        if isinstance(event, Action):
            _put_terms(payload, event)
    if event.unknown_fields:
        return payload | {k: v for k, v in event.unknown_fields.items() if k not in payload}
    return payload


def _put_turn(payload: dict[str, Any], event: Event) -> None:
    if event.turn is not None:
        payload["turn"] = event.turn
    if event.partial is not None:
        payload["partial"] = event.partial
    if event.interrupted is not None:
        payload["interrupted"] = str(event.interrupted)


def _put_terms(payload: dict[str, Any], event: Action) -> None:
    if event.timeout is not None:
        payload["timeout"] = event.timeout
    if event.edited_by is not None:
        payload["edited_by"] = event.edited_by


def _put_result(payload: dict[str, Any], event: Observation) -> None:
    payload["content"] = event.content
    payload["extras"] = _arguments_of(event)
    if event.success is not None:
        payload["success"] = event.success


def decode(payload: Mapping[str, Any]) -> Event:
    """Decode a stored event's JSON object, in the current or an older spelling.

    `payload` is never changed, but nested containers are shared with the event. Undeclared and
    invalid values are preserved (`unknown_fields`, `unknown_arguments`, UnknownAction,
    UnknownObservation). Raises BadEvent only if it is not an event at all.
    """
    if not isinstance(payload, Mapping):
        raise BadEvent("An event must be an object.", code="not_an_object")
    is_action = payload.get("action") is not None
    kind = payload.get("action" if is_action else "observation")
    if kind is None:
        raise BadEvent("An event needs an action or an observation.", code="unknown_kind")
    inner = payload.get("args" if is_action else "extras")
    if not isinstance(kind, str) or not (inner is None or isinstance(inner, Mapping)):
        raise BadEvent(
            "An event's kind must be a text and its args or extras an object.", code="bad_value"
        )
    declared = (ACTIONS if is_action else OBSERVATIONS).get(kind)
    try:
        if declared is not None:
            fitting = _decode_declared(declared, payload, inner or {})
            if fitting is not None:
                return fitting
        return _decode_unknown(kind, payload, inner or {}, is_action=is_action)
    except ValidationError as error:
        raise BadEvent("An event's keys must be texts.", code="bad_value") from error


class Mismatch(NamedTuple):
    """An argument by its wire name, and what is wrong with it."""

    name: str
    why: str


def mismatches_of(payload: Mapping[str, Any]) -> list[Mismatch]:
    """Return the arguments that do not match the declared kind of an action's payload.

    Empty for a valid payload, and for one of an undeclared kind.
    """
    declared = ACTIONS.get(payload["action"])
    if declared is None:
        return []
    values, _, _ = _values_of(declared, payload, payload.get("args") or {})
    layout = layout_of(declared)
    misfits = {}
    for name, word in layout.words:
        try:
            _set_word(values, name, word)
        except ValueError:
            misfits[name] = "is no word of the protocol"
            del values[name]
    try:
        declared.model_validate(values)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            name = str(problem["loc"][0]) if problem["loc"] else ""
            missing = problem["type"] == "missing"
            misfits.setdefault(name, "is missing" if missing else f"is unfit: {problem['msg']}")
    names = dict(layout.fields)
    return [Mismatch(names.get(name, name), why) for name, why in misfits.items()]


def _decode_declared(
    declared: type[Event], payload: Mapping[str, Any], inner: Mapping[str, Any]
) -> Event | None:
    values, unknown_fields, unknown_arguments = _values_of(declared, payload, inner)
    try:
        for name, word in layout_of(declared).words:
            _set_word(values, name, word)
        if isinstance(values.get("metadata"), dict):
            values["metadata"] = CmdOutputMetadata.model_validate(values["metadata"])
        return declared.model_validate(
            values
            | {
                "unknown_fields": unknown_fields or None,
                "unknown_arguments": unknown_arguments or None,
            }
        )
    except ValueError:
        return None


def _values_of(
    declared: type[Event], payload: Mapping[str, Any], inner: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Part a payload into declared values, unknown fields and unknown arguments."""
    layout = layout_of(declared)
    values, unknown_fields = envelope_of(payload, declared)
    if issubclass(declared, Action):
        inner = modern_args(inner, layout.wire_names)
    elif declared is CmdOutputObservation:
        inner = modern_run_extras(inner)
    unknown_arguments = {}
    for wire_name, value in inner.items():
        name = layout.by_wire_name.get(wire_name)
        if name is None:
            unknown_arguments[wire_name] = value
        else:
            values[name] = value
    return values, unknown_fields, unknown_arguments


def _set_word(values: dict[str, Any], name: str, word: type[Enum]) -> None:
    if type(values.get(name)) in (str, int):
        values[name] = word(values[name])


def _decode_unknown(
    kind: str, payload: Mapping[str, Any], inner: Mapping[str, Any], *, is_action: bool
) -> Event:
    unknown: type[Event] = UnknownAction if is_action else UnknownObservation
    values, unknown_fields = envelope_of(payload, unknown)
    text = payload.get("message")
    values["kind"] = kind
    values["args" if is_action else "extras"] = dict(inner)
    values["text"] = text if isinstance(text, str) else ""
    values["unknown_fields"] = unknown_fields or None
    return unknown.model_validate(values)


def _arguments_of(event: Event) -> dict[str, Any]:
    layout = layout_of(type(event))
    values = event.__dict__
    arguments = {wire_name: values[name] for name, wire_name in layout.fields}
    if layout.is_plain:
        return arguments | event.unknown_arguments if event.unknown_arguments else arguments
    if isinstance(event, UnknownAction):
        return event.args
    if isinstance(event, UnknownObservation):
        return event.extras
    for name, _ in layout.words:
        arguments[name] = values[name].value
    if isinstance(event, CmdOutputObservation):
        metadata = event.metadata
        arguments["metadata"] = metadata.__dict__ | (metadata.__pydantic_extra__ or {})
    for name in event.omitted:
        if values[name] is None:
            del arguments[name]
    if event.unknown_arguments:
        return arguments | event.unknown_arguments
    return arguments


def flag_of(payload: Mapping[str, Any]) -> EventFlag:
    """Return the flag that a reader may use without parsing the stored payload."""
    action = payload.get("action")
    observation = payload.get("observation") if action is None else None
    if observation == "agent_state_changed":
        return EventFlag.STATE
    if (
        payload.get("source") not in CLIENT_SOURCES
        or action in PROJECTED_ACTIONS
        or observation in PROJECTED_OBSERVATIONS
    ):
        return EventFlag.SPECIAL
    return EventFlag.PLAIN


def is_long_output(payload: Mapping[str, Any]) -> bool:
    """Tell whether a payload is the output of a command or a tool of which only both ends are stored."""
    content = payload.get("content")
    return (
        isinstance(content, str)
        and len(content) > MAX_OUTPUT_CHARACTERS
        and payload.get("observation") in OUTPUTS
        and not payload["extras"].get("hidden")
    )


def both_ends(payload: dict[str, Any]) -> dict[str, Any]:
    """Copy a payload with both ends of its content; what must not be seen is masked before."""
    half = MAX_OUTPUT_CHARACTERS // 2
    content = payload["content"]
    return {**payload, "content": f"{content[:half]}\n{CUT_MARK}\n{content[-half:]}"}


def trajectory_form(
    payload: Mapping[str, Any], *, with_screenshots: bool = False
) -> dict[str, Any]:
    """Copy a payload without the browser's bulk in `extras`, at any depth."""
    form = dict(payload)
    if "extras" in form:
        dropped = HEAVY_EXTRAS if with_screenshots else HEAVY_EXTRAS | PICTURES
        form["extras"] = _without(form["extras"], dropped)
    return form


def _without(value: Any, dropped: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, dropped) for key, item in value.items() if key not in dropped}
    if isinstance(value, list):
        return [_without(item, dropped) for item in value]
    return value
