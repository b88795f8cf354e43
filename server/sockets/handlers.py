"""Socket.IO's events: join, client events with acknowledgements, leave."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import socketio
from socketio.exceptions import ConnectionRefusedError as SocketRefused

from events.batch import Appended
from events.errors import StreamClosed
from server.auth import Authenticator, Principal
from server.connections import ConnectionRegistry
from server.conversation import ServerConversation
from server.errors import BadRequest, answer_for
from server.loop_settings import LoopSettings
from server.managers.base import ConversationManager
from server.notices import TOO_MANY_ID, TOO_MANY_TEXT, error_notice
from server.sockets.direct import DirectOutlet, Intake
from server.sockets.fanout import Fanout, FanoutHub
from server.sockets.frames import FrameReader
from server.sockets.outlet import Outlet, check_engine, end_poll
from server.sockets.protocol import (
    EVENTS_IN,
    MAX_MESSAGE_BYTES,
    ClientPacket,
    Handshake,
    Refused,
    failed_ack,
    parse_handshake,
    refusal_of,
)
from server.sockets.session import WebSession
from server.sockets.transport import GuardedProtocol, protocol_of
from server.sockets.wire import accepted_frame, ack_frame

logger = logging.getLogger(__name__)

FAULT = 500
"""HTTP statuses from here on are the server's own fault and are logged."""
PING_SECONDS = 15
PONG_SECONDS = 25
"""Clients hold a silent server for dead after 30 s (Python) or 40 s (browsers) by these, so that
a ping may wait 15 s behind the history on its way to a slow client."""
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
    admit: Callable[[str | None], Awaitable[None]]
    """Raises what a user's conversations cannot begin without: SettingsNotFound, ModelKeyMissing."""
    handshake_seconds: float = 10.0
    direct: bool = True
    """Websockets are served the short way, past Engine.IO's queue; see `direct`."""


class Entry(NamedTuple):
    """A connection that has joined, and what it is tied to."""

    session: WebSession
    fanout: Fanout
    conversation: ServerConversation
    intake: Intake | None


class Reply:
    """What one client event is answered, once its outcome is known."""

    __slots__ = ("_ack_id", "_entry", "queued")

    def __init__(self, entry: Entry, ack_id: int | None) -> None:
        self._entry = entry
        self._ack_id = ack_id
        self.queued = False

    def settle(self, outcome: Appended | Exception) -> None:
        """Acknowledge, or say why not."""
        session, _, _, intake = self._entry
        session.waiting -= 1
        if isinstance(outcome, Appended):
            if self._ack_id is not None:
                session.acknowledge(accepted_frame(self._ack_id, outcome, queued=self.queued))
        else:
            self._refuse(session, outcome)
        if intake is not None:
            intake.answered(session.waiting)

    def _refuse(self, session: WebSession, error: Exception) -> None:
        answer = answer_for(error)
        if answer.status >= FAULT:
            logger.error("a client event failed", exc_info=error)
        if self._ack_id is None:
            session.notify(error_notice(f"ERROR${answer.code.upper()}", answer.text))
        else:
            session.acknowledge(ack_frame(self._ack_id, failed_ack(answer)))


class SocketHandlers(socketio.AsyncNamespace):  # type: ignore[misc]  # the library is untyped
    """The default namespace. Everything is validated before a client is told it is connected."""

    def __init__(self, parts: SocketParts) -> None:
        super().__init__("/")
        self._parts = parts
        self._hub = FanoutHub()
        self._sessions: dict[str, Entry] = {}
        self.stopping = False

    async def on_connect(self, sid: str, environ: Mapping[str, Any], auth: object = None) -> None:  # noqa: ARG002 - the library gives it
        """Check everything, join, and begin replay right after the CONNECT packet.

        While the server stops, or closes the conversation, the transport is ended: a refusal is
        final in a browser, but one that loses its transport comes back.
        """
        try:
            async with asyncio.timeout(self._parts.handshake_seconds):
                session, queued = await self._join(sid, environ)
        except Exception as error:
            await self._parts.manager.disconnect_from_session(sid)
            if isinstance(error, StreamClosed):
                with contextlib.suppress(Refused):
                    self._outlet(sid, protocol_of(environ["asgi.scope"])).abort()
            raise _refused(error) from error
        # The library sends CONNECT without a pause after this handler: replay comes behind it.
        loop = asyncio.get_running_loop()
        loop.call_soon(session.start)
        if queued:
            loop.call_soon(session.notify, error_notice(TOO_MANY_ID, TOO_MANY_TEXT))

    async def on_disconnect(self, sid: str, reason: str = "") -> None:  # noqa: ARG002 - the library gives it
        """Detach; the agent goes on."""
        entry = self._sessions.pop(sid, None)
        if entry is not None:
            entry.session.close()
            if entry.intake is not None:
                entry.intake.close()
            self._parts.connections.remove(sid)
            self._hub.leave(entry.session, entry.fanout)
        await self._parts.manager.disconnect_from_session(sid)

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
        reply = Reply(entry, packet.ack_id)
        try:
            _check_event(packet.event, session.waiting)
            data = packet.arguments[0] if packet.arguments else None
            reply.queued = self._parts.manager.take(entry.conversation, data, reply.settle)
        except Exception as error:  # noqa: BLE001 - every failure is answered by the table
            reply.settle(error)
        return session.waiting

    async def drop_all(self) -> None:
        """End every transport after a bounded flush, so that clients come back by themselves."""
        await asyncio.gather(*(entry.session.drop() for entry in self._sessions.values()))

    async def _join(self, sid: str, environ: Mapping[str, Any]) -> tuple[WebSession, bool]:
        if self.stopping:
            raise StreamClosed("the server is stopping")
        parts = self._parts
        handshake: Handshake = parse_handshake(environ.get("QUERY_STRING", ""))
        if not parts.authenticator.key_matches(handshake.session_api_key):
            raise Refused("invalid_session_api_key")
        principal: Principal = await parts.authenticator.principal(environ.get("asgi.scope", {}))
        await parts.admit(principal.user_id)
        conversation_id = handshake.conversation_id
        info = await parts.manager.join_conversation(
            conversation_id, sid, parts.settings, principal.user_id
        )
        conversation = parts.manager.joined(sid)
        if conversation is None:
            raise Refused("The client has left")
        protocol = protocol_of(environ["asgi.scope"])
        fanout = self._hub.of(info.event_store)
        session = WebSession(
            sid,
            principal.user_id,
            info.event_store,
            fanout,
            parts.frames,
            self._outlet(sid, protocol),
            handshake.latest_event_id,
        )
        intake = None
        if protocol is not None and parts.direct:
            intake = Intake(protocol, partial(self.take, sid))
        fanout.sessions[sid] = session
        self._sessions[sid] = Entry(session, fanout, conversation, intake)
        parts.connections.add(session)
        return session, info.queued

    def _outlet(self, sid: str, protocol: GuardedProtocol | None) -> Outlet:
        engine_id = str(self.server.manager.eio_sid_from_sid(sid, "/"))
        if protocol is not None and self._parts.direct:
            return DirectOutlet(self.server.eio, engine_id, protocol)
        return Outlet(self.server.eio, engine_id, protocol)


def _check_event(event: object, waiting: int) -> None:
    if event not in EVENTS_IN:
        raise BadRequest(f"Unknown event: {str(event)[:50]}")
    if waiting > WAITING_LIMIT:
        raise BadRequest(f"More than {WAITING_LIMIT} events are unanswered")


def _refused(error: Exception) -> SocketRefused:
    if not isinstance(error, Refused):
        answer = answer_for(error)
        if answer.status >= FAULT and not isinstance(error, StreamClosed):
            logger.error("handshake failed", exc_info=error)
        error = refusal_of(answer)
    if error.data is None:
        return SocketRefused(str(error))
    return SocketRefused(str(error), error.data)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]  # the library is untyped
    """The Socket.IO server of the default namespace.

    Origins are checked by the middleware before a request comes here. The library's dispatch of
    client events is replaced, since only there it is known whether an answer was asked for.
    """

    def __init__(self, handlers: SocketHandlers) -> None:
        super().__init__(
            async_mode="asgi",
            cors_allowed_origins=[],
            max_http_buffer_size=MAX_MESSAGE_BYTES,
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            namespaces=["/"],
            async_handlers=False,  # a handler only enqueues: it needs no task
        )
        check_engine(self.eio)
        self._handlers = handlers
        self.register_namespace(handlers)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        end_poll(self.eio, eio_sid)

    async def _handle_event_internal(
        self,
        server: object,  # noqa: ARG002 - the library gives it
        sid: str,
        eio_sid: str,  # noqa: ARG002 - the library gives it
        data: Sequence[Any],
        namespace: str,  # noqa: ARG002 - there is only one
        id: int | None,  # noqa: A002 - the library's name
    ) -> None:
        self._handlers.take(sid, ClientPacket(data[0], list(data[1:]), id))
