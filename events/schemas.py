"""JSON Schemas of every kind of event as it is stored and sent, from the classes that read them."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from events.actions import ACTIONS, Action
from events.client_events import CLIENT_ACTIONS, CLIENT_ID, CLIENT_STATES
from events.event import Event, EventSource, Interruption
from events.layout import layout_of
from events.observations import OBSERVATIONS, Observation

REFERENCE = "#/components/schemas/{model}"
"""The place of referenced schemas in both documents."""

Schema = dict[str, Any]


class UntitledSchemas(GenerateJsonSchema):
    """Schemas without titles, which repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the library's hook
        """Never."""
        return False


@cache
def event_schemas() -> Mapping[str, Schema]:
    """Return schemas by component name: `Event` is any stored event, `ClientEvent` any client's.

    Every declared kind has one under the name of its class. Fields are required where an event
    cannot be read without them: logs of other versions may lack the others.
    """
    kinds: dict[str, Schema] = {}
    parts: dict[str, Schema] = {}
    for declared in (*ACTIONS.values(), *OBSERVATIONS.values()):
        kinds[declared.__name__] = _stored_schema(declared, parts)
    clients = {
        f"Client{declared.__name__}": _client_schema(declared, parts)
        for declared in CLIENT_ACTIONS.values()
    }
    return {
        "Event": {
            "description": "An event of a log.",
            "anyOf": [_ref(name) for name in (*kinds, "UnknownKind")],
        },
        "ClientEvent": {
            "description": "What a client may ask to append.",
            "oneOf": [_ref(name) for name in clients],
        },
        **clients,
        "EventEnvelope": _envelope_schema(),
        **kinds,
        "UnknownKind": _unknown_schema(),
        **parts,
    }


def _stored_schema(declared: type[Event], parts: dict[str, Schema]) -> Schema:
    is_action = issubclass(declared, Action)
    fields = _fields_of(declared, parts)
    own: Schema = {"type": "object", "properties": fields}
    needed = [
        wire_name
        for name, wire_name in layout_of(declared).fields
        if declared.model_fields[name].is_required()
    ]
    if needed:
        own["required"] = needed
    inner = {"args": own} if is_action else {"content": {"type": "string"}, "extras": own}
    if declared.success is not Observation.success if issubclass(declared, Observation) else False:
        inner["success"] = {"type": "boolean"}
    word = "action" if is_action else "observation"
    return {
        "description": inspect.getdoc(declared),
        "allOf": [
            _ref("EventEnvelope"),
            {
                "type": "object",
                "required": [word, *(("args",) if is_action else ("content", "extras"))],
                "properties": {word: {"const": declared.kind}, **inner},
            },
        ],
    }


def _client_schema(declared: type[Event], parts: dict[str, Schema]) -> Schema:
    fields = _fields_of(declared, parts)
    if "agent_state" in fields:
        fields["agent_state"] = {"type": "string", "enum": sorted(CLIENT_STATES)}
    needed = [name for name, field in declared.model_fields.items() if field.is_required()]
    return {
        "type": "object",
        "description": inspect.getdoc(declared),
        "additionalProperties": False,
        "required": ["action", "args"],
        "properties": {
            "action": {"const": declared.kind},
            "args": {
                "type": "object",
                "additionalProperties": False,
                "required": needed,
                "properties": fields,
            },
            "client_id": {
                "type": "string",
                "description": "The event's idempotency key, for as long as the log exists.",
                "pattern": f"^{CLIENT_ID.pattern}$",
                "examples": ["c0ffee-1"],
            },
        },
    }


def _fields_of(declared: type[Event], parts: dict[str, Schema]) -> dict[str, Schema]:
    whole = declared.model_json_schema(
        ref_template=REFERENCE, schema_generator=UntitledSchemas, mode="serialization"
    )
    parts.update(whole.get("$defs", {}))
    properties = whole["properties"]
    return {wire_name: properties[name] for name, wire_name in layout_of(declared).fields}


def _envelope_schema() -> Schema:
    return {
        "type": "object",
        "description": "What every stored event carries.",
        "required": ["id", "timestamp", "source", "message"],
        "properties": {
            "id": {"type": "integer", "minimum": 0, "description": "Dense from 0 in each log."},
            "timestamp": {
                "type": "string",
                "description": "ISO 8601 in UTC with microseconds and `Z`.",
                "examples": ["2026-03-02T09:15:07.120334Z"],
            },
            "source": {"type": "string", "enum": [source.value for source in EventSource]},
            "message": {"type": "string", "description": "For people; never read back."},
            "cause": {"type": "integer", "description": "Id of the action that is answered."},
            "client_id": {"type": "string", "description": "The client's idempotency key."},
            "timeout": {"type": "number", "description": "Seconds an action may take."},
            "edited_by": {
                "type": "string",
                "description": "The person who changed an action when agreeing to it.",
            },
            "tool_call_metadata": {"type": "object"},
            "llm_metrics": {"type": "object"},
            "turn": {
                "type": "integer",
                "minimum": 0,
                "description": "Id of the `recall` action with which the agent's turn began.",
            },
            "partial": {
                "type": "string",
                "description": "Name of the text, shown while it was written, that this completes.",
            },
            "interrupted": {
                "type": "string",
                "enum": [reason.value for reason in Interruption],
                "description": "Why the text ended early.",
            },
        },
    }


def _unknown_schema() -> Schema:
    def other_than(kinds: Mapping[str, Any]) -> Schema:
        return {"type": "string", "not": {"enum": sorted(kinds)}}

    return {
        "description": "A kind that this version does not know, kept and sent as it was stored.",
        "allOf": [
            _ref("EventEnvelope"),
            {
                "anyOf": [
                    {
                        "type": "object",
                        "required": ["action"],
                        "properties": {"action": other_than(ACTIONS)},
                    },
                    {
                        "type": "object",
                        "required": ["observation"],
                        "properties": {"observation": other_than(OBSERVATIONS)},
                    },
                ]
            },
        ],
    }


def _ref(name: str) -> Schema:
    return {"$ref": REFERENCE.format(model=name)}
