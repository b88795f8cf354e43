"""Fan-out: what a conversation publishes, made into frames once and offered to all its sessions."""

from collections.abc import Sequence

from events.event import StoredEvent
from events.stream import EventStream
from events.summary import SummaryChange
from server.sockets.frames import run_of
from server.sockets.session import WebSession


class Fanout:
    """The live path of one conversation on this process."""

    def __init__(self, stream: EventStream) -> None:
        self.published = stream.next_id - 1
        self.sessions: dict[str, WebSession] = {}
        self.stream = stream
        self._stop = stream.tap(self._deliver)

    def close(self) -> None:
        """Take nothing more."""
        self._stop()

    def _deliver(self, events: Sequence[StoredEvent], _summary: SummaryChange) -> None:
        run = run_of(events)
        # Before offering: a session that turns live meanwhile must have examined these.
        self.published = run.last_id
        for session in tuple(self.sessions.values()):
            session.offer(run)


class FanoutHub:
    """The fan-outs of all conversations that have sessions here."""

    def __init__(self) -> None:
        self._fanouts: dict[str, Fanout] = {}

    def of(self, stream: EventStream) -> Fanout:
        """The conversation's fan-out, made on first use."""
        fanout = self._fanouts.get(stream.conversation_id)
        if fanout is None or fanout.stream is not stream:
            fanout = self._fanouts[stream.conversation_id] = Fanout(stream)
        return fanout

    def leave(self, session: WebSession, fanout: Fanout) -> None:
        """Take a session out; the last one ends the fan-out."""
        fanout.sessions.pop(session.connection_id, None)
        if not fanout.sessions:
            fanout.close()
            if self._fanouts.get(session.conversation_id) is fanout:
                del self._fanouts[session.conversation_id]
