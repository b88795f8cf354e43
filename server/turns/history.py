"""The conversation as a turn reads it: the events of its log up to a position."""

from collections.abc import AsyncIterator

from events.event import Event
from events.stream import EventStream
from runtime_stub.turn import History
from server.user_code import outside


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
