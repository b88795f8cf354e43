"""What clients do: join, send events and have them answered, leave; whatever serves their wire."""

import asyncio
import contextlib
import logging
from asyncio import CancelledError, Future
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from events.batch import Appended
from events.errors import StreamClosed
from server.auth import Authenticator, Principal
from server.connections import ConnectionRegistry
from server.conversation import ServerConversation
from server.errors import BadRequest, ServerError, answer_for
from server.loop_settings import LoopSettings
from server.managers.base import ConversationManager, Taken
from server.notices import TOO_MANY_ID, TOO_MANY_TEXT, error_notice
from server.sockets.direct import Intake
from server.sockets.fanout import Fanout, FanoutHub
from server.sockets.outlet import Outlet
from server.sockets.protocol import (
    EVENTS_IN,
    ClientPacket,
    Handshake,
    Refused,
    accepted_ack,
    failed_ack,
    parse_handshake,
    refusal_of,
)
from server.sockets.session import WebSession
from server.sockets.transport import GuardedProtocol
from server.sockets.wire import FrameReader, ack_frame

logger = logging.getLogger(__name__)

FAULT = 500
"""HTTP statuses from here on are the server's own fault and are logged."""
WAITING_LIMIT = 4096
"""Events of one client that may be taken and unanswered; one more is refused."""


@dataclass(frozen=True, slots=True)
class SocketParts:
    """What the handlers work with."""

    manager: ConversationManager
    connections: ConnectionRegistry
    authenticator: Authenticator
    frames: FrameReader
    settings: LoopSettings
    handshake_seconds: float = 10.0
    refusal: ServerError | None = None
    """Why nobody may join: settings or a model's key are missing."""


class Entry(NamedTuple):
    """A connection that has joined, and what it is tied to."""

    session: WebSession
    fanout: Fanout
    conversation: ServerConversation
    intake: Intake | None


class Arrival(NamedTuple):
    """A client that asks to join."""

    connection_id: str
    query: str
    principal: Principal
    outlet: Callable[[], Outlet]
    """Gives its way out. Raises Refused when it has left already."""
    protocol: GuardedProtocol | None = None
    """Where its events are taken from; None where somebody else calls `take`."""


class SocketHandlers:
    """The default namespace. Everything is validated before a client is told it is connected."""

    def __init__(self, parts: SocketParts) -> None:
        self._parts = parts
        self._hub = FanoutHub()
        self._sessions: dict[str, Entry] = {}
        self.stopping = False

    async def join(self, arrival: Arrival) -> None:
        """Check everything and join. Raises Refused.

        The caller must send CONNECT in the step in which this returns: replay begins in the next.
        While the server stops, or closes the conversation, the transport is ended: a refusal is
        final in a browser, but one that loses its transport comes back.
        """
        try:
            async with asyncio.timeout(self._parts.handshake_seconds):
                session, queued = await self._join(arrival)
        except Exception as error:
            await self._parts.manager.disconnect_from_session(arrival.connection_id)
            if isinstance(error, StreamClosed):
                with contextlib.suppress(Refused):
                    arrival.outlet().abort()
            raise _refused(error) from error
        loop = asyncio.get_running_loop()
        loop.call_soon(session.start)
        if queued:
            loop.call_soon(session.notify, error_notice(TOO_MANY_ID, TOO_MANY_TEXT))

    async def leave(self, connection_id: str) -> None:
        """Detach; the agent goes on. Unknown connections are no error."""
        entry = self._sessions.pop(connection_id, None)
        if entry is not None:
            entry.session.close()
            if entry.intake is not None:
                entry.intake.close()
            self._parts.connections.remove(connection_id)
            self._hub.leave(entry.session, entry.fanout)
        await self._parts.manager.disconnect_from_session(connection_id)

    def take(self, sid: str, packet: ClientPacket) -> int:
        """Enqueue a client's event at once, so that order is kept, and answer when it is durable.

        A failure that nobody asked to be acknowledged is shown to that connection by a notice
        instead. Gives how many of the client's events are unanswered now.
        """
        entry = self._sessions.get(sid)
        if entry is None:
            return 0  # its connection went while it waited for its turn
        session = entry.session
        session.waiting += 1
        try:
            _check_event(packet.event, session.waiting)
            taken = self._parts.manager.take(
                entry.conversation, packet.arguments[0] if packet.arguments else None
            )
        except Exception as error:  # noqa: BLE001 - every failure is answered by the table
            self._failed(entry, packet.ack_id, error)
        else:
            taken.appended.add_done_callback(partial(self._settled, entry, packet.ack_id, taken))
        return session.waiting

    async def drop_all(self) -> None:
        """End every transport after a bounded flush, so that clients come back by themselves."""
        await asyncio.gather(*(entry.session.drop() for entry in self._sessions.values()))

    async def _join(self, arrival: Arrival) -> tuple[WebSession, bool]:
        if self.stopping:
            raise StreamClosed("the server is stopping")
        parts = self._parts
        connection_id = arrival.connection_id
        handshake: Handshake = parse_handshake(arrival.query)
        if not parts.authenticator.key_matches(handshake.session_api_key):
            raise Refused("invalid_session_api_key")
        if parts.refusal is not None:
            raise refusal_of(answer_for(parts.refusal))
        info = await parts.manager.join_conversation(
            handshake.conversation_id, connection_id, parts.settings, arrival.principal.user_id
        )
        conversation = parts.manager.joined(connection_id)
        if conversation is None:
            raise Refused("The client has left")
        fanout = self._hub.of(info.event_store)
        session = WebSession(
            connection_id,
            arrival.principal.user_id,
            info.event_store,
            fanout,
            parts.frames,
            arrival.outlet(),
            handshake.latest_event_id,
        )
        intake = None
        if arrival.protocol is not None:
            intake = Intake(arrival.protocol, partial(self.take, connection_id))
        fanout.sessions[connection_id] = session
        self._sessions[connection_id] = Entry(session, fanout, conversation, intake)
        parts.connections.add(session)
        return session, info.queued

    def _settled(
        self, entry: Entry, ack_id: int | None, taken: Taken, appended: Future[Appended]
    ) -> None:
        error = CancelledError() if appended.cancelled() else appended.exception()
        if isinstance(error, Exception):
            self._failed(entry, ack_id, error)
        elif error is None:
            body = taken.accepted(appended.result()).body()
            self._answered(entry, ack_id, accepted_ack(body))

    def _failed(self, entry: Entry, ack_id: int | None, error: Exception) -> None:
        answer = answer_for(error)
        if answer.status >= FAULT:
            logger.error("a client event failed", exc_info=error)
        if ack_id is None:
            entry.session.notify(error_notice(f"ERROR${answer.code.upper()}", answer.text))
        self._answered(entry, ack_id, failed_ack(answer))

    def _answered(self, entry: Entry, ack_id: int | None, answer: Mapping[str, Any]) -> None:
        entry.session.waiting -= 1
        if ack_id is not None:
            entry.session.send(ack_frame(ack_id, answer))
        if entry.intake is not None:
            entry.intake.answered(entry.session.waiting)


def _check_event(event: object, waiting: int) -> None:
    if event not in EVENTS_IN:
        raise BadRequest(f"Unknown event: {str(event)[:50]}")
    if waiting > WAITING_LIMIT:
        raise BadRequest(f"More than {WAITING_LIMIT} events are unanswered")


def _refused(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    answer = answer_for(error)
    if answer.status >= FAULT and not isinstance(error, StreamClosed):
        logger.error("handshake failed", exc_info=error)
    return refusal_of(answer)
