"""Fan-out: one subscription per conversation, its frames made once and offered to all sessions."""

from collections.abc import Sequence

from events.event import StoredEvent
from events.stream import EventStream
from events.subscription import Subscription
from server.sockets.session import WebSession
from server.sockets.wire import frame_of


class Fanout:
    """The live path of one conversation on this process."""

    def __init__(self, stream: EventStream) -> None:
        self.published = stream.next_id - 1
        self.sessions: dict[str, WebSession] = {}
        self._stream = stream
        self._subscription: Subscription = stream.subscribe("fan-out", self._deliver)

    async def _deliver(self, events: Sequence[StoredEvent]) -> None:
        frames = [frame_of(event) for event in events]
        # Before offering: a session that turns live meanwhile must have examined these.
        self.published = frames[-1].id
        for session in tuple(self.sessions.values()):
            session.offer(frames)

    async def close(self) -> None:
        """End the subscription."""
        await self._stream.unsubscribe(self._subscription)


class FanoutHub:
    """The fan-outs of all conversations that have sessions here."""

    def __init__(self) -> None:
        self._fanouts: dict[str, Fanout] = {}

    def of(self, stream: EventStream) -> Fanout:
        """The conversation's fan-out, made on first use."""
        fanout = self._fanouts.get(stream.conversation_id)
        if fanout is None or fanout._stream is not stream:  # noqa: SLF001 - the same module
            fanout = self._fanouts[stream.conversation_id] = Fanout(stream)
        return fanout

    async def leave(self, session: WebSession, fanout: Fanout) -> None:
        """Take a session out; the last one ends the fan-out."""
        fanout.sessions.pop(session.connection_id, None)
        if not fanout.sessions and self._fanouts.get(session.conversation_id) is fanout:
            del self._fanouts[session.conversation_id]
            await fanout.close()
