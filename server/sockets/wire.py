"""One projection of stored events to what clients see, and the bytes that go over the wire."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from events.batch import Appended
from events.event import PLAIN, StoredEvent
from server.sockets.protocol import EVENT_OUT

PREFIX = f'42["{EVENT_OUT}",'.encode()
"""An Engine.IO message with a Socket.IO event, up to its payload."""
SHOWN_AS_AGENT = frozenset(("run", "agent_state_changed", "recall", "error"))
EXTENDED = {126: 2, 127: 8}
"""Bytes that hold a frame's length by the mark that stands in its place (RFC 6455, section 5.2)."""
HEAVY_EXTRAS = ("dom_object", "axtree_object", "extra_element_properties")


def websocket_frame(message: bytes) -> bytes:
    """A text message as an unmasked final frame (RFC 6455, section 5.2)."""
    size = len(message)
    if size < 126:  # noqa: PLR2004 - the RFC's own limits
        return b"\x81%c%b" % (size, message)
    if size < 65536:  # noqa: PLR2004
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), message)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), message)


def packet_texts(frames: bytes) -> Iterator[str]:
    """The Socket.IO packets in websocket frames made by `websocket_frame` and joined."""
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
    """What a client sees of a stored event; None: nothing.

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
    """The JSON of a stored event as clients see it; None for one that they do not."""
    if event.flag == PLAIN:
        return event.body
    shown = project(orjson.loads(event.body))
    return None if shown is None else orjson.dumps(shown)


def stored_frame(body: bytes) -> bytes:
    """The websocket frame of an event that clients see as it is stored."""
    return websocket_frame(b"%b%b]" % (PREFIX, body))


def payload_frame(payload: Mapping[str, Any]) -> bytes:
    """The websocket frame of a payload."""
    return websocket_frame(b"%b%b]" % (PREFIX, orjson.dumps(payload)))


def ack_frame(ack_id: int, answer: Mapping[str, Any]) -> bytes:
    """The websocket frame of an acknowledgement."""
    return websocket_frame(b"43%d[%b]" % (ack_id, orjson.dumps(answer)))


def accepted_frame(ack_id: int, appended: Appended, *, queued: bool) -> bytes:
    """The websocket frame that acknowledges an event: `id`, whether it was known, and `queued`."""
    event_id, duplicate = appended
    known = b"true" if duplicate else b"false"
    waits = b',"queued":true' if queued else b""
    text = b'43%d[{"status":"ok","id":%d,"duplicate":%b%b}]' % (ack_id, event_id, known, waits)
    return websocket_frame(text)
