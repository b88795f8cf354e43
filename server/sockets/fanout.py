"""Fan-out: encodes each published event once and sends the frames to all sessions."""

import logging
from collections.abc import Callable, Sequence

from events.event import StoredEvent
from events.partials import Dropped, Piece
from events.stream import EventStream
from events.summary import SummaryChange
from server.sockets.deltas import delta_frames
from server.sockets.frames import run_of
from server.sockets.outlet import Send
from server.sockets.session import WebSession

logger = logging.getLogger(__name__)


class Fanout:
    """The live path of one conversation on this process."""

    __slots__ = (
        "_follows_partials",
        "_live",
        "_senders",
        "_untaps",
        "_with_deltas",
        "members",
        "published",
        "stream",
    )

    def __init__(self, stream: EventStream) -> None:
        self.published = stream.next_id - 1
        self.members = 0
        """Sessions of the conversation, whether they are level or read on by themselves."""
        self.stream = stream
        self._live: dict[WebSession, Send] = {}
        self._senders: tuple[Send, ...] | None = ()
        self._with_deltas: dict[WebSession, Send] = {}
        self._follows_partials = False
        self._untaps: tuple[Callable[[], None], ...] = (stream.tap(self._deliver),)

    def close(self) -> None:
        """Stop receiving events and pieces."""
        untaps, self._untaps = self._untaps, ()  # they lead back here, and would hold us
        for untap in untaps:
            untap()

    def enter(self, session: WebSession, send: Send, *, deltas: bool = False) -> None:
        """See LivePath."""
        self._live[session] = send
        self._senders = None
        if deltas:
            self._with_deltas[session] = send
            if not self._follows_partials:
                self._follows_partials = True
                self._untaps += (self.stream.partials.tap(self._deliver_pieces),)

    def leave(self, session: WebSession) -> None:
        """Stop sending to a session, which has all published events; it may have left already."""
        self._live.pop(session, None)
        self._with_deltas.pop(session, None)
        self._senders = None

    def _deliver(self, events: Sequence[StoredEvent], _summary: SummaryChange) -> None:
        run = run_of(events)
        # Before sending: a session that falls behind by this has it, and reads on after it.
        self.published = run.last_id
        if self._senders is None:
            self._senders = tuple(self._live.values())
        self._send(run.wire, self._senders)

    def _deliver_pieces(self, pieces: Sequence[Piece | Dropped]) -> None:
        # A session that falls behind by this counts as having these pieces.
        if self._with_deltas:
            self._send(delta_frames(pieces), tuple(self._with_deltas.values()))

    def _send(self, wire: bytes, senders: Sequence[Send]) -> None:
        for send in senders:
            try:
                send(wire)
            except Exception as error:  # noqa: BLE001 - a failing client must not affect others
                self._drop(send, error)

    def _drop(self, send: Send, error: Exception) -> None:
        """Drop a session whose write failed: its client reconnects with its cursor."""
        ids = {"conversation_id": self.stream.conversation_id}
        logger.info("lost a client of %s: %s", self.stream.conversation_id, error, extra=ids)
        for session in [one for one, way in self._live.items() if way == send]:
            session.abort()


class FanoutHub:
    """The fan-outs of all conversations that have sessions here."""

    def __init__(self) -> None:
        self._fanouts: dict[str, Fanout] = {}

    def join(self, stream: EventStream) -> Fanout:
        """Return the conversation's fan-out, made for its first member, with one member more."""
        fanout = self._fanouts.get(stream.conversation_id)
        if fanout is None or fanout.stream is not stream:
            fanout = self._fanouts[stream.conversation_id] = Fanout(stream)
        fanout.members += 1
        return fanout

    def leave(self, fanout: Fanout) -> None:
        """Remove a member; the last one closes the fan-out."""
        fanout.members -= 1
        if not fanout.members:
            fanout.close()
            if self._fanouts.get(fanout.stream.conversation_id) is fanout:
                del self._fanouts[fanout.stream.conversation_id]
