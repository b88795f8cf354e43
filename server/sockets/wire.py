"""One projection of stored events to what clients see, as frames that are made once."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from events.batch import Appended
from events.event import AgentState, EventFlag, StoredEvent
from events.page_reader import PageKey, PageReader
from events.pages import PageCache, page_bounds, page_of
from server.sockets.protocol import EVENT_OUT

PREFIX = f'42["{EVENT_OUT}",'.encode()
"""An Engine.IO message with a Socket.IO event, up to its payload."""
FRAME_OVERHEAD_BYTES = 250
SHOWN_AS_AGENT = frozenset(("run", "agent_state_changed", "recall", "error"))
HEAVY_EXTRAS = ("dom_object", "axtree_object", "extra_element_properties")


class Frame:
    """One event as it goes over the wire: a whole websocket frame, made once for all clients.

    `packet` is None when clients do not see the event. `state` marks a change of the agent's
    state, `error_state` the one that is sent last.
    """

    __slots__ = ("error_state", "id", "packet", "state")

    def __init__(
        self,
        id: int,  # noqa: A002 - the field's name
        packet: bytes | None,
        *,
        state: bool = False,
        error_state: bool = False,
    ) -> None:
        self.id = id
        self.packet = packet
        self.state = state
        self.error_state = error_state

    @property
    def size(self) -> int:
        """Bytes to send."""
        return 0 if self.packet is None else len(self.packet)

    @property
    def text(self) -> str | None:
        """The Socket.IO packet alone, for the way through Engine.IO."""
        return None if self.packet is None else packet_text(self.packet)


class FrameBatch:
    """Consecutive frames, and what is visible of them as one run of bytes."""

    __slots__ = ("first_id", "frames", "last_id", "wire")

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames
        self.first_id = frames[0].id
        self.last_id = frames[-1].id
        self.wire = b"".join([frame.packet for frame in frames if frame.packet is not None])

    def after(self, position: int) -> "FrameBatch":
        """The part above a position, which is below `last_id`."""
        if position < self.first_id:
            return self
        return FrameBatch([frame for frame in self.frames if frame.id > position])


def websocket_frame(message: bytes) -> bytes:
    """A text message as an unmasked final frame (RFC 6455, section 5.2)."""
    size = len(message)
    if size < 126:  # noqa: PLR2004 - the RFC's own limits
        return b"\x81%c%b" % (size, message)
    if size < 65536:  # noqa: PLR2004
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), message)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), message)


def packet_text(packet: bytes) -> str:
    """The Socket.IO packet inside a websocket frame made by `websocket_frame`."""
    header = {126: 4, 127: 10}.get(packet[1], 2)
    return packet[header + 1 :].decode()


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


def frame_of(event: StoredEvent) -> Frame:
    """The frame of an event; its JSON is used as stored wherever the projection is the identity."""
    if event.flag == EventFlag.PLAIN:
        return Frame(event.id, websocket_frame(b"%b%b]" % (PREFIX, event.body)))
    shown = project(orjson.loads(event.body))
    if shown is None:
        return Frame(event.id, None)
    state = event.flag == EventFlag.STATE
    extras = shown.get("extras")
    is_error = state and isinstance(extras, dict) and extras.get("agent_state") == AgentState.ERROR
    return Frame(event.id, payload_frame(shown), state=state, error_state=is_error)


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


class FrameReader:
    """Frames of stored pages, projected once and cached for all conversations and clients."""

    def __init__(self, reader: PageReader, cache_bytes: int) -> None:
        self._reader = reader
        self._cache: PageCache[PageKey, tuple[Frame, ...]] = PageCache(cache_bytes)

    async def read(self, conversation_id: str, start_id: int, next_id: int) -> tuple[Frame, ...]:
        """Frames from `start_id` to the end of its page, below `next_id`; hidden ones included.

        Raises what PageReader.read raises.
        """
        if start_id >= next_id:
            return ()
        key = PageKey(conversation_id, page_of(start_id, self._reader.page_size))
        first_id, end_id = page_bounds(key.page, self._reader.page_size)
        end_id = min(end_id, next_id)
        frames = self._cache.get(key)
        if frames is None or first_id + len(frames) < end_id:
            events = await self._reader.read(conversation_id, first_id, end_id)
            frames = tuple(frame_of(event) for event in events)
            size = sum(frame.size + FRAME_OVERHEAD_BYTES for frame in frames)
            self._cache.put(key, frames, size)
        return frames[start_id - first_id : end_id - first_id]
