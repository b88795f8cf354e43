"""The strict door for what clients may send: messages and requests for a state."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from pydantic import ValidationError

from events.actions import ACTIONS, Action, ChangeAgentStateAction, MessageAction
from events.errors import BadEvent
from events.event import AgentState, Event, SecurityRisk
from events.layout import layout_of
from events.legacy import is_security_risk
from events.observations import OBSERVATIONS
from events.strictness import refusal_of, shown

CLIENT_STATES = frozenset(
    (
        AgentState.STOPPED,
        AgentState.PAUSED,
        AgentState.RUNNING,
        AgentState.USER_CONFIRMED,
        AgentState.USER_REJECTED,
    )
)
CLIENT_ACTIONS: dict[str, type[Action]] = {
    declared.kind: declared for declared in (MessageAction, ChangeAgentStateAction)
}
CLIENT_FIELDS = frozenset(("action", "args", "client_id"))
SERVER_FIELDS = frozenset(
    (
        "id",
        "timestamp",
        "source",
        "message",
        "cause",
        "tool_call_metadata",
        "llm_metrics",
        "timeout",
        "edited_by",
        "content",
        "extras",
        "success",
        "partial",
        "interrupted",
        "turn",
    )
)
TEXT_KEYS = 2
CLIENT_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")


ClientText: TypeAlias = tuple[str, str | None]
"""A message that is nothing but a text, and its idempotency key."""


class ClientEvent(NamedTuple):
    """An event a client asked to append, and its idempotency key (also in `event.client_id`)."""

    event: Event
    client_id: str | None


def decode_client(payload: object) -> ClientEvent:
    """Validate a client's event; every accepted event can be stored and sent again.

    Raises BadEvent, whose text names the offending key, with one of the codes `not_an_object`,
    `bad_value`, `unknown_kind`, `forbidden_kind`, `forbidden_field`, `unknown_field`,
    `bad_client_id`, `missing_argument`, `unknown_argument`, `bad_state`. `payload` is not changed.
    """
    if not isinstance(payload, dict):
        raise BadEvent("An event must be an object.", code="not_an_object")
    refusal = refusal_of(payload)
    if refusal is not None:
        raise BadEvent(refusal, code="bad_value")
    declared = _kind_of(payload)
    _check_fields(payload)
    client_id = _client_id_of(payload)
    arguments = _arguments_of(declared, payload)
    try:
        event = declared.model_validate(arguments | {"client_id": client_id})
    except ValidationError as error:
        raise _bad_event(declared, error) from error
    if isinstance(event, ChangeAgentStateAction) and event.agent_state not in CLIENT_STATES:
        raise BadEvent(
            f"Clients may not ask for the `agent_state` {shown(event.agent_state)}.",
            code="bad_state",
        )
    return ClientEvent(event, client_id)


def text_of(payload: object) -> ClientText | None:
    """Return the most common event, a message of only ASCII text; None leaves it to `decode_client`.

    Raises BadEvent with the code `bad_client_id`.
    """
    if not isinstance(payload, dict) or payload.get("action") != "message":
        return None
    arguments = payload.get("args")
    if not isinstance(arguments, dict) or len(arguments) != 1:
        return None
    content = arguments.get("content")
    if not isinstance(content, str) or not content.isascii():
        return None
    if len(payload) == TEXT_KEYS:
        return content, None
    client_id = payload.get("client_id")
    if len(payload) > TEXT_KEYS + 1 or not isinstance(client_id, str) or not client_id.isascii():
        return None
    return content, _client_id_of(payload)


def _kind_of(payload: Mapping[str, Any]) -> type[Action]:
    if "observation" in payload:
        raise BadEvent("Clients may not send an `observation`.", code="forbidden_kind")
    kind = payload.get("action")
    if kind is None:
        raise BadEvent("An event needs an `action`.", code="unknown_kind")
    if not isinstance(kind, str):
        raise BadEvent("The `action` must be a string.", code="bad_value")
    declared = CLIENT_ACTIONS.get(kind)
    if declared is not None:
        return declared
    if kind in ACTIONS or kind in OBSERVATIONS:
        raise BadEvent(f"Clients may not send the action {shown(kind)}.", code="forbidden_kind")
    raise BadEvent(f"There is no action {shown(kind)}.", code="unknown_kind")


def _check_fields(payload: Mapping[str, Any]) -> None:
    for key in payload:
        if key in SERVER_FIELDS:
            raise BadEvent(f"Only the server sets {shown(key)}.", code="forbidden_field")
        if key not in CLIENT_FIELDS:
            raise BadEvent(f"An event has no field {shown(key)}.", code="unknown_field")


def _client_id_of(payload: Mapping[str, Any]) -> str | None:
    if "client_id" not in payload:
        return None
    client_id = payload["client_id"]
    if not isinstance(client_id, str) or not CLIENT_ID.fullmatch(client_id):
        raise BadEvent(
            "The `client_id` must be a string of 1 to 128 characters, none of them a control"
            " character.",
            code="bad_client_id",
        )
    return client_id


def _arguments_of(declared: type[Action], payload: Mapping[str, Any]) -> dict[str, Any]:
    given = payload.get("args")
    if given is None:
        raise BadEvent("The event's `args` are missing.", code="missing_argument")
    if not isinstance(given, dict):
        raise BadEvent("The event's `args` must be an object.", code="bad_value")
    names = layout_of(declared).wire_names
    if not is_security_risk(given.get("security_risk", -1)):
        raise BadEvent("The argument `security_risk` must be -1, 0, 1 or 2.", code="bad_value")
    arguments = {key: value for key, value in given.items() if key != "timestamp"}
    if "images_urls" in arguments and "image_urls" in names:
        arguments.setdefault("image_urls", arguments.pop("images_urls"))
    for key in arguments:
        if key not in names:
            raise BadEvent(
                f"The action {declared.kind} has no argument {shown(key)}.",
                code="unknown_argument",
            )
    if "security_risk" in arguments:
        arguments["security_risk"] = SecurityRisk(arguments["security_risk"])
    return arguments


def _bad_event(declared: type[Action], error: ValidationError) -> BadEvent:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = first["loc"][0]
    if first["type"] == "missing":
        return BadEvent(
            f"The action {declared.kind} needs the argument `{name}`.", code="missing_argument"
        )
    why = first["msg"][0].lower() + first["msg"][1:]
    return BadEvent(f"The argument `{name}` is refused: {why}.", code="bad_value")
