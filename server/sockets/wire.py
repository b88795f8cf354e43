"""One projection of stored events to what clients see, as frames that are made once."""

from collections.abc import Mapping
from typing import Any

import orjson

from events.event import AgentState, EventFlag, StoredEvent
from events.page_reader import PageKey, PageReader
from events.pages import PageCache, page_bounds, page_of
from server.sockets.protocol import EVENT_OUT

PREFIX = f'2["{EVENT_OUT}",'
"""A Socket.IO event packet up to its payload."""
FRAME_OVERHEAD_BYTES = 250
SHOWN_AS_AGENT = frozenset(("run", "agent_state_changed", "recall", "error"))
HEAVY_EXTRAS = ("dom_object", "axtree_object", "extra_element_properties")


class Frame:
    """One event as it goes over the wire; `text` is None when clients do not see it.

    `state` marks a change of the agent's state, `error_state` the one that is sent last.
    """

    __slots__ = ("error_state", "id", "state", "text")

    def __init__(self, id: int, text: str | None, *, state: bool, error_state: bool) -> None:  # noqa: A002
        self.id = id
        self.text = text
        self.state = state
        self.error_state = error_state

    @property
    def size(self) -> int:
        """Characters to send."""
        return 0 if self.text is None else len(self.text)


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
        return Frame(event.id, f"{PREFIX}{event.body.decode()}]", state=False, error_state=False)
    shown = project(orjson.loads(event.body))
    text = None if shown is None else f"{PREFIX}{orjson.dumps(shown).decode()}]"
    state = event.flag == EventFlag.STATE
    extras = shown.get("extras") if shown is not None else None
    is_error = state and isinstance(extras, dict) and extras.get("agent_state") == AgentState.ERROR
    return Frame(event.id, text, state=state, error_state=is_error)


def payload_frame(payload: Mapping[str, Any]) -> str:
    """The text of a payload that is no stored event."""
    return f"{PREFIX}{orjson.dumps(payload).decode()}]"


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
