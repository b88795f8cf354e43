"""The conversation as a turn reads it: its events up to a position, and exchanges made of them."""

from collections.abc import AsyncIterator, Sequence

from events.actions import Action, MessageAction
from events.event import Event, EventSource
from events.observations import Observation
from events.stream import EventStream
from runtime_stub.turn import Exchange, History, Window
from server.user_code import outside

LEFT_OUT = frozenset(("recall", "system", "agent_state_changed", "change_agent_state", "null"))
"""Kinds that are no part of an exchange."""


class LoggedHistory(History):
    """The events of a log up to `position`, masked as they are stored."""

    def __init__(self, stream: EventStream, position: int) -> None:
        self._stream = stream
        self._position = position

    @property
    def position(self) -> int:
        """See History."""
        return self._position

    async def events(self, *, after: int = -1, reverse: bool = False) -> AsyncIterator[Event]:
        """See History."""
        if after >= self._position:
            return
        found = self._stream.search_events(after + 1, self._position, reverse=reverse)
        while True:
            # The log is read as the server's own; what reads along is not.
            with outside():
                stored = await anext(found, None)
            if stored is None:
                return
            yield self._stream.unmasked(stored)

    async def exchanges(self, window: Window) -> Sequence[Exchange]:
        """See History."""
        found: list[Exchange] = []
        asked: list[MessageAction] = []
        done: list[Event] = []
        size = 0
        async for event in self.events(reverse=True):
            if event.kind in LEFT_OUT:
                continue
            is_asked = isinstance(event, MessageAction) and event.source == EventSource.USER
            if asked and not is_asked:
                if found and size > window.characters:
                    break
                found.append(_exchange(asked, done))
                asked, done = [], []
                if len(found) == window.exchanges:
                    break
            size += len(event.message) + len(getattr(event, "content", ""))
            if isinstance(event, MessageAction) and is_asked:
                asked.append(event)
            elif event.source == EventSource.AGENT and isinstance(event, Action | Observation):
                done.append(event)
        else:
            if (asked or done) and not (found and size > window.characters):
                found.append(_exchange(asked, done))
        return tuple(reversed(found))


def _exchange(asked: Sequence[MessageAction], done: Sequence[Event]) -> Exchange:
    return Exchange(tuple(reversed(asked)), tuple(reversed(done)))
