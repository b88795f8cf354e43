"""The socket's wire names, its handshake query and its answers; no I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson

from events.batch import Appended
from events.cursor import parse_held
from events.errors import BadCursor
from events.event import PLAIN, StoredEvent
from events.strictness import shown
from server.errors import Answer, Refused
from storage.conversations.metadata import ProviderType
from storage.errors import BadKey
from storage.keys import check_conversation_id

EVENT_OUT = "oh_event"
EVENTS_IN = ("oh_user_action", "oh_action")
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
JOIN_BYTES = 64 * 1024
"""The longest message of one who has not joined: there is nothing long to say yet."""
MAX_ATTACHMENTS = 64
"""Of one message; none is ever used."""
MAX_PACKETS = 16
"""Of one body of a poll, or of its answer: python-socketio's client and server take no more."""
UNKNOWN_NAMESPACE = "Unable to connect"
MAX_ACK_DIGITS = 15
PING_SECONDS = 15
PONG_SECONDS = 25
"""Clients hold a silent server for dead after 30 s (Python) or 40 s (browsers) by these, so that
a ping may wait 15 s behind the history on its way to a slow client."""
NO_CURSOR = -1
MAX_PARAMETERS = 100
PROVIDERS = {provider.value: provider for provider in ProviderType}
LAST_ID = 2**53 - 1
"""The largest id a browser can count to."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The parameters of a client's connection request.

    `latest_event_id` is the last id the client has; replay starts after it. `held` is how many
    characters it has of texts that are being written; None for a client that is not sent them.
    """

    conversation_id: str
    latest_event_id: int = NO_CURSOR
    providers: tuple[ProviderType, ...] = ()
    session_api_key: str | None = None
    held: Mapping[str, int] | None = None


def parse_handshake(query_string: str) -> Handshake:
    """Read the handshake's query. Raises Refused with the text the protocol gives.

    Blank values count as absent and of repeated keys the first counts, except `providers_set`.
    An id that could never exist is refused in the same words as one that does not.
    """
    try:
        query = parse_qs(query_string, max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise Refused("The query has too many parameters") from error
    conversation_id = query.get("conversation_id", [""])[0]
    if not conversation_id or conversation_id in ("undefined", "null"):
        raise Refused("No conversation_id in query params")
    try:
        check_conversation_id(conversation_id)
    except BadKey as error:
        raise Refused(NOT_FOUND_TEXT, dict(NOT_FOUND_DATA)) from error
    return Handshake(
        conversation_id,
        _cursor(query.get("latest_event_id", [""])[0]),
        _providers(query.get("providers_set", [])),
        query.get("session_api_key", [None])[0],
        _held(query.get("deltas", [""])[0]),
    )


def key_of_auth(auth: object) -> str | None:
    """Return the session key in the payload of CONNECT (Socket.IO's `auth`), if it holds one."""
    key = auth.get("session_api_key") if isinstance(auth, dict) else None
    return key if isinstance(key, str) else None


BAD_DELTAS = "The parameter deltas must be 0, 1 or a list of id:characters"
NOT_FOUND_TEXT = "Conversation not found"
NOT_FOUND_DATA = {"msg_id": "CONVERSATION$NOT_FOUND"}


LONG_BYTES = 16 * 1024


def weight_of(size_bytes: int) -> int:
    """Return what a client's event of this length counts for: one, and one for each 16 KiB."""
    return 1 + size_bytes // LONG_BYTES


@dataclass(slots=True)  # made for every event, and a named tuple takes twice as long
class ClientPacket:
    """A client's event: its name, what came with it, and the id under which it wants an answer.

    `weight` is the number of short events that it counts for; see `weight_of`.
    """

    event: object
    arguments: list[Any]
    ack_id: int | None
    weight: int = 1


def parse_event(message: bytes) -> ClientPacket | None:
    """Read an Engine.IO message that is a plain event of the default namespace; else None.

    The form is `42`, an acknowledgement id if one is wanted, and a JSON array that is not empty.
    """
    start = message.find(b"[", 2, 2 + MAX_ACK_DIGITS + 1)
    if start < 0 or message[:2] != b"42":
        return None
    digits = message[2:start]
    if digits and not digits.isdigit():
        return None
    try:
        data = orjson.loads(message[start:])
    except orjson.JSONDecodeError:
        return None
    if not data:
        return None
    ack_id = int(digits) if digits else None
    return ClientPacket(data[0], data[1:], ack_id, 1 + len(message) // LONG_BYTES)


def refusal_of(answer: Answer) -> Refused:
    """Return the handshake's refusal for an error that has an answer."""
    return Refused(answer.text, None if answer.msg_id is None else {"msg_id": answer.msg_id})


def opening(connection_id: str) -> bytes:
    """Engine.IO's first message, to a websocket."""
    payload = {
        "sid": connection_id,
        "upgrades": [],
        "pingTimeout": PONG_SECONDS * 1000,
        "pingInterval": PING_SECONDS * 1000,
        "maxPayload": MAX_MESSAGE_BYTES,
    }
    return b"0%b" % orjson.dumps(payload)


def connected(connection_id: str) -> bytes:
    """Return the message that accepts a client."""
    return b"40%b" % orjson.dumps({"sid": connection_id})


def refusal(refused: Refused, namespace: str = "/") -> bytes:
    """Return the message that refuses a client."""
    payload = {"message": str(refused)} | ({} if refused.data is None else {"data": refused.data})
    prefix = "44" if namespace == "/" else f"44{namespace},"
    return prefix.encode() + orjson.dumps(payload)


def failed_ack(answer: Answer) -> dict[str, Any]:
    """Return the acknowledgement of an event that was refused or not stored."""
    return {"status": "error", "code": answer.code, "message": answer.text}


def _cursor(text: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or digits != text:
        return NO_CURSOR  # all below 0 are the same
    significant = digits.lstrip("0") or "0"
    return LAST_ID if len(significant) > len(str(LAST_ID)) else min(int(significant), LAST_ID)


def _held(text: str) -> Mapping[str, int] | None:
    if text in ("", "0"):
        return None
    try:
        return {} if text == "1" else parse_held(text)
    except BadCursor as error:
        raise Refused(BAD_DELTAS) from error


def _providers(values: list[str]) -> tuple[ProviderType, ...]:
    names = [name for value in values for name in value.split(",") if name]
    for name in names:
        if name not in PROVIDERS:
            raise Refused(f"Unknown provider: {shown(name).strip('`')}")
    return tuple(PROVIDERS[name] for name in names)


PREFIX = f'42["{EVENT_OUT}",'.encode()
"""An Engine.IO message with a Socket.IO event, up to its payload."""
SHOWN_AS_AGENT = frozenset(("run", "agent_state_changed", "recall", "error"))
EXTENDED = {126: 2, 127: 8}
"""Bytes that hold a frame's length by the mark that stands in its place (RFC 6455, section 5.2)."""
HEAVY_EXTRAS = ("dom_object", "axtree_object", "extra_element_properties")


def websocket_frame(message: bytes) -> bytes:
    """Return a text message as an unmasked final frame (RFC 6455, section 5.2)."""
    size = len(message)
    if size < 126:  # noqa: PLR2004 - the RFC's own limits
        return b"\x81%c%b" % (size, message)
    if size < 65536:  # noqa: PLR2004
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), message)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), message)


def packet_texts(frames: bytes) -> Iterator[str]:
    """Yield the Socket.IO packets in joined frames of `websocket_frame`."""
    begin = 0
    while begin < len(frames):
        size = frames[begin + 1]
        begin += 2
        if size in EXTENDED:
            digits = EXTENDED[size]
            size = int.from_bytes(frames[begin : begin + digits], "big")
            begin += digits
        yield frames[begin + 1 : begin + size].decode()
        begin += size


def project(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a stored event as clients see it; None for one they do not see.

    Environment events are shown as the agent's if they are facts about the work, and hidden
    otherwise; null events are hidden; what browsers cannot use is left out of browse results.
    """
    observation = payload.get("observation")
    if "null" in (payload.get("action"), observation):
        return None
    shown = dict(payload)
    source = payload.get("source")
    if source not in ("agent", "user"):
        if observation not in SHOWN_AS_AGENT:
            return None
        shown["source"] = "agent"
    extras = payload.get("extras")
    if observation in ("browse", "browse_interactive") and isinstance(extras, dict):
        shown["extras"] = {key: value for key, value in extras.items() if key not in HEAVY_EXTRAS}
    return shown


def sent_body(event: StoredEvent) -> bytes | None:
    """Return the JSON of a stored event as sent to clients; None for one that is not sent."""
    if event.flag == PLAIN:
        return event.body
    shown = project(orjson.loads(event.body))
    return None if shown is None else orjson.dumps(shown)


def stored_frame(body: bytes) -> bytes:
    """Return the websocket frame of an event that is sent as it is stored."""
    return websocket_frame(b"%b%b]" % (PREFIX, body))


def payload_frame(payload: Mapping[str, Any]) -> bytes:
    """Return the websocket frame of a payload."""
    return websocket_frame(b"%b%b]" % (PREFIX, orjson.dumps(payload)))


def ack_frame(ack_id: int, answer: Mapping[str, Any]) -> bytes:
    """Return the websocket frame of an acknowledgement."""
    return websocket_frame(b"43%d[%b]" % (ack_id, orjson.dumps(answer)))


def accepted_frame(ack_id: int, appended: Appended, *, queued: bool) -> bytes:
    """Return the websocket frame that acknowledges an event: `id`, `duplicate`, `queued`."""
    known = b"true" if appended.duplicate else b"false"
    waits = b',"queued":true' if queued else b""
    text = b'43%d[{"status":"ok","id":%d,"duplicate":%b%b}]' % (ack_id, appended.id, known, waits)
    return websocket_frame(text)
