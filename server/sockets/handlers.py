"""The handlers of the default namespace: join, event, leave; the same for every transport."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from structlog.contextvars import bound_contextvars

from events.batch import Appended
from events.errors import StreamClosed, StreamOverloaded
from server.access.auth import Authenticator
from server.access.connection_limits import UNLIMITED, TokenBucket
from server.conversations.connections import ConnectionEntry, ConnectionRegistry
from server.conversations.conversation import ServerConversation
from server.conversations.manager import ConversationManager
from server.conversations.notices import TOO_MANY_ID, TOO_MANY_TEXT, error_notice
from server.errors import WRONG_KEY, BadRequest, NotAvailable, Refused, answer_for
from server.observability.counters import ServerCounters
from server.sockets.fanout import Fanout, FanoutHub
from server.sockets.frames import FrameReader
from server.sockets.intake import HOLD_AT, AwaitedIntake, Intake
from server.sockets.outlet import Outlet
from server.sockets.protocol import (
    EVENTS_IN,
    ClientPacket,
    Handshake,
    accepted_frame,
    ack_frame,
    failed_ack,
    key_of_auth,
    parse_handshake,
    refusal_of,
)
from server.sockets.session import WebSession
from server.user_code import UserCodeFailed, exceptions_only

logger = logging.getLogger(__name__)

FAULT = 500
"""HTTP statuses from here on are the server's own fault and are logged."""
REFUSALS = (StreamOverloaded, StreamClosed)
"""Refusals that are no fault of the server, and not logged: there may be thousands."""
WAITING_LIMIT = 4096
"""Unanswered events that one client may have; one more is refused."""


@dataclass(frozen=True, slots=True)
class HandlerDependencies:
    """Dependencies of the handlers."""

    manager: ConversationManager
    connections: ConnectionRegistry
    authenticator: Authenticator
    frames: FrameReader
    admit: Callable[[str | None], Awaitable[None]]
    """Checks the settings a conversation needs. Raises SettingsNotFound, ModelKeyMissing."""
    handshake_seconds: float = 10.0


class SocketEntry(ConnectionEntry):
    """The entry of a client's connection in the table that the manager shares."""

    __slots__ = ("link",)

    def __init__(self, connection_id: str) -> None:
        super().__init__(connection_id, joining=True)
        self.link: Link | None = None
        """Set once it has joined."""


@dataclass(slots=True)  # read for every event
class Link:
    """The ties of a connection that has joined: its session, fan-out, conversation and intake."""

    session: WebSession
    fanout: Fanout
    conversation: ServerConversation
    intake: Intake


class Acknowledgement:
    """The acknowledgement of one client event, sent once its outcome is known."""

    __slots__ = ("_ack_id", "_link", "_settled", "_weight", "queued")

    def __init__(self, link: Link, ack_id: int | None, weight: int) -> None:
        self._link = link
        self._ack_id = ack_id
        self._weight = weight
        self._settled = False
        self.queued = False

    def wait(self) -> None:
        """Say in the acknowledgement, or by a notice after it, that the loop waits for a slot."""
        self.queued = True
        if self._settled:
            self._link.session.notify(error_notice(TOO_MANY_ID, TOO_MANY_TEXT))

    def settle(self, outcome: Appended | Exception) -> None:
        """Acknowledge the event, or send why it was refused."""
        session, intake = self._link.session, self._link.intake
        self._settled = True
        session.waiting -= 1
        session.unanswered -= self._weight
        if isinstance(outcome, Appended):
            if self._ack_id is not None:
                session.acknowledge(accepted_frame(self._ack_id, outcome, queued=self.queued))
        else:
            self._refuse(session, outcome)
        if intake.held:
            intake.note(session.unanswered)

    def _refuse(self, session: WebSession, error: Exception) -> None:
        answer = answer_for(error)
        if answer.status >= FAULT and not isinstance(error, REFUSALS):
            logger.error("a client event failed", exc_info=error, extra=session.ids)
        if self._ack_id is None:
            session.notify(error_notice(f"ERROR${answer.code.upper()}", answer.text))
        else:
            session.acknowledge(ack_frame(self._ack_id, failed_ack(answer)))


TakePacket: TypeAlias = Callable[[ClientPacket], None]
"""Takes one packet of a client; its outcome is acknowledged later."""


def awaited(_take: TakePacket) -> Intake:
    """Return the intake of a client whose packets are handed to `SocketHandlers.take` by a task."""
    return AwaitedIntake()


def unchecked() -> None:
    """Check nothing, for clients without an address."""


class JoinRequest(NamedTuple):
    """The request of a client to join a conversation."""

    connection_id: str
    query: str
    scope: Mapping[str, Any]
    """The ASGI scope of its request, at least `headers` and `client`."""
    outlet: Callable[[], Outlet]
    """Creates the outlet to the client. Raises Refused if it has left."""
    intake: Callable[[TakePacket], Intake] = awaited
    """Creates the source of its events, which passes each to a `TakePacket`."""
    event_bucket: TokenBucket = UNLIMITED
    auth: object = None
    """The payload of CONNECT: JSON, or None."""
    check_failures: Callable[[], object] = unchecked
    """Raises RateLimited if its address has sent too many wrong keys."""


class SocketHandlers:
    """The handlers of the default namespace. A join is validated before CONNECT is sent."""

    def __init__(self, parts: HandlerDependencies) -> None:
        self._parts = parts
        self._hub = FanoutHub()
        self._connections = parts.connections
        self._entries = parts.connections.entries
        self.stopping = False
        """No connection is admitted any more."""
        self.ending = False
        """The server ends: no event is accepted any more."""

    async def join(self, request: JoinRequest) -> None:
        """Check everything and join. Raises Refused.

        The caller must send CONNECT in the step in which this returns: replay begins in the next.
        If the server has begun to stop since it accepted the connection, or closes the conversation,
        the transport is closed: a browser treats a refusal as final, but reconnects after a lost
        transport. See `check_joins`.
        """
        entry = SocketEntry(request.connection_id)
        self._connections.enter(entry)
        try:
            async with asyncio.timeout(self._parts.handshake_seconds):
                session, queued = await self._join(entry, request)
        except Exception as error:
            await self._detach(request.connection_id)
            if isinstance(error, StreamClosed):
                with contextlib.suppress(Refused):
                    request.outlet().abort()
            raise _refused(error) from error
        finally:
            self._connections.joined(entry)
        loop = asyncio.get_running_loop()
        loop.call_soon(session.start)
        if queued:
            loop.call_soon(session.notify, error_notice(TOO_MANY_ID, TOO_MANY_TEXT))

    async def leave(self, connection_id: str) -> None:
        """Detach a connection; the agent goes on. Unknown connections are ignored."""
        link = self._unlink(connection_id)
        self._connections.remove(connection_id)
        if link is not None:
            link.session.close()
            link.intake.close()
            self._hub.leave(link.fanout)
        await self._detach(connection_id)

    def take(self, sid: str, packet: ClientPacket) -> None:
        """Enqueue a client's event in order, and acknowledge it when it is durable.

        Without an acknowledgement id, a failure is sent to the connection as a notice. Reading from
        the client stops while too many of its events are unanswered.
        """
        entry = self._entries.get(sid)
        link = entry.link if isinstance(entry, SocketEntry) else None
        if link is None:
            return  # the connection has left
        session = link.session
        session.waiting += 1
        session.unanswered += packet.weight
        reply = Acknowledgement(link, packet.ack_id, packet.weight)
        try:
            self._check_intake()
            session.spend()
            _check_event(packet.event, session.waiting)
            data = packet.arguments[0] if packet.arguments else None
            self._parts.manager.take(link.conversation, data, reply.settle, reply.wait)
        except Exception as error:  # noqa: BLE001 - every failure is answered by the table
            reply.settle(error)
        except BaseException as error:  # noqa: BLE001 - the manager may be a custom class
            reply.settle(UserCodeFailed(type(error).__name__))
        if session.unanswered >= HOLD_AT:
            link.intake.note(session.unanswered)

    async def ready(self, sid: str) -> None:
        """Wait until the next event of a client may be read, or the client has left."""
        entry = self._entries.get(sid)
        link = entry.link if isinstance(entry, SocketEntry) else None
        if link is not None and isinstance(link.intake, AwaitedIntake):
            await link.intake.ready()

    async def drop_all(self) -> None:
        """End every transport after a bounded flush, so that clients reconnect by themselves."""
        await asyncio.gather(*(connection.drop() for connection in self._connections.all()))

    def check_joins(self) -> None:
        """Raise NotAvailable while nobody may join: handshakes are answered so with HTTP status 503.

        After that every client tries again, and knows at once that it was refused.
        """
        if self.stopping:
            raise NotAvailable("The server is draining or stopping")

    def _check_intake(self) -> None:
        if self.ending:
            raise NotAvailable("The server is stopping")

    def _unlink(self, connection_id: str) -> Link | None:
        """Take the link from a connection, so that nothing more is received from it."""
        entry = self._entries.get(connection_id)
        if not isinstance(entry, SocketEntry):
            return None
        link, entry.link = entry.link, None
        return link

    async def _detach(self, connection_id: str) -> None:
        """Detach a connection from its conversation; a failure is logged, and the caller continues."""
        try:
            await exceptions_only(
                partial(self._parts.manager.disconnect_from_session, connection_id)
            )
        except Exception:
            logger.exception(
                "the manager failed to detach a connection", extra={"connection_id": connection_id}
            )

    async def _join(self, entry: SocketEntry, request: JoinRequest) -> tuple[WebSession, bool]:
        if self.stopping:
            raise StreamClosed("the server is stopping")
        parts = self._parts
        connection_id = request.connection_id
        handshake: Handshake = parse_handshake(request.query)
        request.check_failures()
        given = (handshake.session_api_key, key_of_auth(request.auth))
        if not parts.authenticator.connection_key_matches(given, request.scope):
            raise Refused(WRONG_KEY)
        owner = await parts.authenticator.owner(request.scope)
        await parts.admit(owner)
        asked = handshake.conversation_id, connection_id, None, owner
        joined = await exceptions_only(partial(parts.manager.join_conversation, *asked))
        await joined.conversation.stream.look_for(handshake.latest_event_id)
        if not entry.joining:
            raise Refused("The client has left")
        if (lost := joined.conversation.stream.shortened) is not None:
            raise lost
        conversation, info = joined
        outlet = request.outlet()
        intake = request.intake(partial(self.take, connection_id))
        fanout = self._hub.join(conversation.stream)
        session = WebSession(
            connection_id,
            owner,
            conversation.stream,
            fanout,
            parts.frames,
            outlet,
            handshake.latest_event_id,
            request.event_bucket,
            handshake.held,
        )
        entry.link = Link(session, fanout, conversation, intake)
        self._connections.add(session)
        return session, info.queued


def _check_event(event: object, waiting: int) -> None:
    if not isinstance(event, str):
        raise BadRequest("The name of an event must be text")
    if event not in EVENTS_IN:
        raise BadRequest(f"Unknown event: {event[:50]}")
    if waiting > WAITING_LIMIT:
        raise BadRequest(f"More than {WAITING_LIMIT} events are not acknowledged yet")


def _refused(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    answer = answer_for(error)
    if answer.status >= FAULT and not isinstance(error, StreamClosed):
        logger.error("handshake failed", exc_info=error)
    return refusal_of(answer)


TEXTS = {
    "invalid_session_api_key": "wrong_key",
    "Conversation not found": "conversation_not_found",
    "The client has left": "client_left",
}
"""Reasons by the message of a refusal without a cause; all others concern the query."""


class CountedHandlers(SocketHandlers):
    """Counts joins and refusals; events pass without extra work."""

    def __init__(self, parts: HandlerDependencies, server_counters: ServerCounters) -> None:
        super().__init__(parts)
        self._server_counters = server_counters

    async def join(self, request: JoinRequest) -> None:
        """See SocketHandlers. Log lines within carry the connection's id."""
        with bound_contextvars(connection_id=request.connection_id):
            try:
                await super().join(request)
            except Refused as refused:
                self._server_counters.refused[reason_of(refused)] += 1
                raise
        self._server_counters.connections += 1

    async def leave(self, connection_id: str) -> None:
        """See SocketHandlers. Adds the connection's delivered events to the total."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            self._server_counters.delivered += connection.delivered
        await super().leave(connection_id)


def reason_of(refused: Refused) -> str:
    """Return the reason of a refusal as a metric label, one of a few words."""
    cause = refused.__cause__
    if isinstance(cause, Exception) and not isinstance(cause, Refused):
        return answer_for(cause).code
    return TEXTS.get(str(refused), "bad_query")
