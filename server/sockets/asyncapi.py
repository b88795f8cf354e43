"""The AsyncAPI document: the socket's handshake, events each way and answers, and the frames of the stream."""

from collections.abc import Mapping
from typing import Any

from events.actions import ACTIONS
from events.client_events import CLIENT_ACTIONS
from events.errors import BadEvent
from events.observations import OBSERVATIONS
from events.schemas import REFERENCE, Schema, event_schemas
from events.version import server_version
from server.conversations.manager import Accepted
from server.conversations.notices import (
    AGENT_STATUS_ID,
    APPROVAL_EXPIRED_ID,
    TOO_MANY_ID,
    TOO_MANY_TEXT,
    error_notice,
    expiry_notice,
    status_notice,
    title_notice,
)
from server.errors import ModelKeyMissing, SettingsNotFound, answer_of_kind
from server.schemas import example_of
from server.sockets.deltas import DELTA_OUT
from server.sockets.protocol import (
    BAD_DELTAS,
    EVENT_OUT,
    EVENTS_IN,
    MAX_MESSAGE_BYTES,
    MAX_PARAMETERS,
    NO_CURSOR,
    NOT_FOUND_TEXT,
    PROVIDERS,
    failed_ack,
    refusal_of,
)
from storage.errors import ConversationNotFound

ADDRESS = "/socket.io/"
STREAM_ADDRESS = "/api/conversations/{conversation_id}/stream"
HIDDEN_KINDS = frozenset(("null",))
"""Kinds that are stored and never sent."""
EXAMPLE_ID = "8f6a0c1d2b3e4f5a9c7d6e5f4a3b2c1d"
REFUSALS: Mapping[str, str] = {
    "No conversation_id in query params": "missing, blank, `undefined` or `null`",
    NOT_FOUND_TEXT: "unknown, deleted, somebody else's, or an id that cannot exist",
    "invalid_session_api_key": "the server has a key and this is not it",
    "Unknown provider: ": "in `providers_set`; the name follows",
    BAD_DELTAS: "a value of `deltas` that cannot be read",
    "The query has too many parameters": f"more than {MAX_PARAMETERS}",
    "Unable to connect": "a namespace other than `/`",
    "The client has left": "the transport ended meanwhile; nobody reads this",
}
"""Texts of the socket's own refusals, or how they begin."""

PARTIAL = {"id": "9570aa64-3", "kind": "message", "field": "content", "turn": 57}
DELTAS: Mapping[str, Mapping[str, Any]] = {
    "open": {"type": "open", "partials": [PARTIAL | {"at": 0}]},
    "text": {"type": "text", **PARTIAL, "at": 0, "to": 5, "text": "Good "},
    "dropped": {"type": "dropped", "id": "9570aa64-3", "why": "anew"},
}
"""An example of each delta."""
NOTICES: Mapping[str, Mapping[str, Any]] = {
    "error": error_notice(TOO_MANY_ID, TOO_MANY_TEXT),
    "title": title_notice(EXAMPLE_ID, "Tidy the tests"),
    "status": status_notice("The model is busy; trying again in 3 s"),
    "expiry": expiry_notice(57),
}
"""An example of each notice."""

_INTRODUCTION = (
    "A Socket.IO connection (Engine.IO 4, namespace `/`, WebSocket or polling) follows one"
    " conversation. After CONNECT the server sends the events that the client lacks, then each new"
    " event as it is appended, each event once and in the order of the ids."
)


def asyncapi_document() -> dict[str, Any]:
    """Return the document as JSON values."""
    schemas = dict(event_schemas()) | _own_schemas()
    messages = _messages(schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Parley",
            "version": server_version() or "unknown",
            "description": _INTRODUCTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "here": {"host": "localhost:3000", "pathname": ADDRESS, "protocol": "ws"},
            "http": {"host": "localhost:3000", "protocol": "http"},
        },
        "channels": _channels(messages),
        "operations": _operations(),
        "components": {"schemas": dict(sorted(schemas.items())), "messages": messages},
    }


def _channels(messages: Mapping[str, Any]) -> dict[str, Any]:
    shown = [name for name in messages if name.startswith(f"{EVENT_OUT}.")]
    channels: dict[str, Any] = {
        "connection": {
            "address": ADDRESS,
            "title": "Handshake",
            "description": "The server confirms the connection after all checks, when the client"
            " has joined the conversation; until then it may refuse the client.",
            "messages": _refs(["connect", "connect_error"]),
            "bindings": {"ws": {"method": "GET", "query": _ref("HandshakeQuery")}},
        },
        EVENT_OUT: {
            "address": EVENT_OUT,
            "title": f"{EVENT_OUT}: what happened",
            "description": "Events of the log, and notices, which are not stored and have no"
            " numeric id, so that they move no cursor. Of the states in the backlog only the latest"
            " is sent; events of the environment are sent as the agent's or not at all.",
            "messages": _refs(shown),
        },
    }
    channels[DELTA_OUT] = {
        "address": DELTA_OUT,
        "title": f"{DELTA_OUT}: what is being written",
        "description": "Texts while they are written, for clients that ask for `deltas`. They are"
        " not stored: each text ends as part of an event, which names the partial it completes.",
        "messages": _refs([name for name in messages if name.startswith(f"{DELTA_OUT}.")]),
    }
    channels["stream"] = {
        "address": STREAM_ADDRESS,
        "title": "stream: the same as Server-Sent Events",
        "description": "The frames of a conversation's stream, without a socket. The name of a message"
        " is the frame's `event`, its payload the frame's `data`; `id` is the cursor behind it, which"
        " notices do not have. Events are sent as they are stored, those of the environment too.",
        "parameters": {"conversation_id": {"description": "The conversation; it must exist."}},
        "servers": [{"$ref": "#/servers/http"}],
        "messages": _refs([name for name in messages if name.startswith("stream.")]),
    }
    for name in EVENTS_IN:
        channels[name] = {
            "address": name,
            "title": f"{name}: what a client says",
            "description": "One event, acknowledged when it is durable. Events of one"
            " client are stored in the order in which it sent them.",
            "messages": _refs(
                [*(f"client.{kind}" for kind in CLIENT_ACTIONS), "ack", "failed_ack"]
            ),
        }
    return channels


def _operations() -> dict[str, Any]:
    operations: dict[str, Any] = {
        "connect": {
            "action": "send",
            "channel": _channel("connection"),
            "summary": "Accept or refuse a client",
        },
        "tell": {
            "action": "send",
            "channel": _channel(EVENT_OUT),
            "summary": "Send the backlog, then every new event",
        },
    }
    operations["tell_deltas"] = {
        "action": "send",
        "channel": _channel(DELTA_OUT),
        "summary": "Send texts while they are written",
    }
    operations["stream"] = {
        "action": "send",
        "channel": _channel("stream"),
        "summary": "Send events, texts while they are written, and notices as Server-Sent Events",
    }
    for name in EVENTS_IN:
        operations[f"take_{name}"] = {
            "action": "receive",
            "channel": _channel(name),
            "summary": "Append a client's event and acknowledge it",
            "messages": [_in_channel(name, f"client.{kind}") for kind in CLIENT_ACTIONS],
            "reply": {
                "channel": _channel(name),
                "messages": [_in_channel(name, "ack"), _in_channel(name, "failed_ack")],
            },
        }
    return operations


def _messages(schemas: Mapping[str, Schema]) -> dict[str, Any]:
    messages = {
        "connect": _message("connect", _ref("Connected"), {"sid": "k3yAAB"}),
        "connect_error": _message("connect_error", _ref("Refusal"), *_refusals()),
    }
    for word, declared in (("action", ACTIONS), ("observation", OBSERVATIONS)):
        for kind, event in declared.items():
            if kind not in HIDDEN_KINDS:
                schema = _ref(event.__name__)
                message = _message(EVENT_OUT, schema, example_of(schema, schemas))
                messages[f"{EVENT_OUT}.{word}.{kind}"] = message
    for name, notice in NOTICES.items():
        schema = _ref(f"{name.title()}Notice")
        messages[f"{EVENT_OUT}.notice.{name}"] = _message(EVENT_OUT, schema, notice)
    for kind, delta in DELTAS.items():
        schema = _ref(f"{kind.title()}Delta")
        messages[f"{DELTA_OUT}.{kind}"] = _message(DELTA_OUT, schema, delta)
    stored = _ref("Event")
    messages["stream.event"] = _message("event", stored, example_of(stored, schemas))
    messages["stream.delta"] = _message("delta", _ref("Delta"), *DELTAS.values())
    messages["stream.notice"] = _message("notice", _ref("Notice"), *NOTICES.values())
    for kind, action in CLIENT_ACTIONS.items():
        schema = _ref(f"Client{action.__name__}")
        messages[f"client.{kind}"] = _message(EVENTS_IN[0], schema, example_of(schema, schemas))
    refused = answer_of_kind(BadEvent)._replace(code="bad_state", text="Clients may not ask ...")
    messages["ack"] = _message(
        "ack", _ref("Acknowledgement"), {"status": "ok", **Accepted(4).body()}
    )
    messages["failed_ack"] = _message("ack", _ref("FailedAcknowledgement"), failed_ack(refused))
    return messages


def _message(name: str, payload: Schema, *examples: Any) -> dict[str, Any]:
    return {"name": name, "payload": payload, "examples": [{"payload": one} for one in examples]}


def _refusals() -> list[dict[str, Any]]:
    kinds = (ConversationNotFound, SettingsNotFound, ModelKeyMissing)
    refused = [refusal_of(answer_of_kind(kind)) for kind in kinds]
    told = [{"message": str(one), "data": one.data} for one in refused]
    return [*told, *({"message": text} for text in REFUSALS if text != NOT_FOUND_TEXT)]


def _delta_schemas() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    number: Schema = {"type": "integer", "minimum": 0}
    partial = {"id": text, "kind": text, "field": text, "turn": number}
    held = number | {"description": "Characters that the client holds."}
    opened = _object({**partial, "at": held}, [*partial, "at"], "A text that is being written.")
    return {
        "OpenDelta": _object(
            {"type": {"const": "open"}, "partials": {"type": "array", "items": opened}},
            ["type", "partials"],
            "The texts that are being written. Others that the client holds are over.",
        ),
        "TextDelta": _object(
            {
                "type": {"const": "text"},
                **partial,
                "at": held,
                "to": number,
                "text": text,
            },
            ["type", "id", "at", "to", "text"],
            "A piece: the characters from `at` to `to`. The first of a text says what it is part of.",
        ),
        "DroppedDelta": _object(
            {"type": {"const": "dropped"}, "id": text, "why": text},
            ["type", "id", "why"],
            "A text that will not become an event.",
        ),
        "Delta": _one_of([f"{kind.title()}Delta" for kind in DELTAS], "What is told of texts."),
    }


def _notice_schemas() -> dict[str, Schema]:
    text: Schema = {"type": "string"}

    def info(notice_id: str, about: str) -> Schema:
        told: dict[str, Schema] = {"status_update": {"const": True}, "type": {"const": "info"}}
        fields = {**told, "id": {"const": notice_id}, "message": text}
        return _object(fields, list(fields), about)

    return {
        "ErrorNotice": _object(
            {
                "status_update": {"const": True},
                "type": {"const": "error"},
                "id": text,
                "source": {"const": "environment"},
                "message": text,
                "timestamp": text,
            },
            ["status_update", "type", "id", "source", "message", "timestamp"],
            "An error, sent to the connections concerned.",
        ),
        "TitleNotice": _object(
            {
                "status_update": {"const": True},
                "type": {"const": "info"},
                "message": text | {"description": "The conversation's id."},
                "conversation_title": text,
            },
            ["status_update", "type", "message", "conversation_title"],
            "The conversation has a new title.",
        ),
        "StatusNotice": info(AGENT_STATUS_ID, "What the agent is at just now, in its words."),
        "ExpiryNotice": info(
            APPROVAL_EXPIRED_ID,
            "An approval has expired: it can be decided once it is asked again.",
        ),
        "Notice": _one_of(
            [f"{name.title()}Notice" for name in NOTICES],
            "What connected clients are sent and is not stored.",
        ),
    }


def _own_schemas() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    causes = "\n".join(f"- `{message}`: {cause}" for message, cause in REFUSALS.items())
    return {
        "HandshakeQuery": _object(
            {
                "conversation_id": text | {"description": "The conversation; it must exist."},
                "latest_event_id": {
                    "type": "integer",
                    "minimum": NO_CURSOR,
                    "default": NO_CURSOR,
                    "description": "The id of the last event that the client has. Other texts than"
                    " integers count as -1, and ids past the end as the end.",
                },
                "deltas": text
                | {
                    "description": "`1`, or `id:characters` of each partial text that the client"
                    " holds, comma-separated: texts are sent while they are written.",
                    "examples": ["9570aa64-3:1032"],
                },
                "providers_set": text
                | {"description": f"Comma-separated, of {', '.join(PROVIDERS)}."},
                "session_api_key": text
                | {
                    "description": "The server's key, if it has one. It may also be sent in"
                    " Socket.IO's `auth` under the same name, or in a header of the handshake,"
                    " `X-Session-API-Key` or `Authorization: Bearer`."
                },
            },
            ["conversation_id"],
            "Blank values count as absent; if a parameter is repeated, the first value counts.",
        ),
        **_delta_schemas(),
        **_notice_schemas(),
        "Connected": _object({"sid": text}, ["sid"], "The connection's id."),
        "Refusal": _object(
            {"message": text, "data": _object({"msg_id": text}, ["msg_id"])},
            ["message"],
            f"The reason of a refusal: the text of an error of the REST API, or one of:\n{causes}",
        ),
        "Acknowledgement": _object(
            {
                "status": {"const": "ok"},
                "id": {"type": "integer", "minimum": 0},
                "duplicate": {"type": "boolean", "description": "The key was known."},
                "queued": {"type": "boolean", "description": "The agent loop waits for a slot."},
            },
            ["status", "id", "duplicate"],
            "The event is durable.",
        ),
        "FailedAcknowledgement": _object(
            {"status": {"const": "error"}, "code": text, "message": text},
            ["status", "code", "message"],
            f"The event was refused or not stored. A message may have at most {MAX_MESSAGE_BYTES} bytes.",
        ),
    }


def _object(properties: Mapping[str, Schema], required: list[str], about: str = "") -> Schema:
    schema: Schema = {"type": "object", "properties": dict(properties), "required": required}
    return schema | ({"description": about} if about else {})


def _one_of(names: list[str], about: str) -> Schema:
    return {"oneOf": [_ref(name) for name in names], "description": about}


def _refs(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _ref(name: str) -> Schema:
    return {"$ref": REFERENCE.format(model=name)}


def _channel(name: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{name}"}


def _in_channel(channel: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}/messages/{name}"}
