"""The plain way: python-socketio serves the wire, with everything it and Engine.IO can do.

Polling, upgrades and, where the short way is not used, websockets come through here.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import socketio
from engineio.async_drivers.asgi import WebSocket
from socketio.exceptions import ConnectionRefusedError as SocketRefused
from starlette.datastructures import Headers

from server.addresses import peer_of
from server.errors import RateLimited
from server.sockets.crowd import Crowd
from server.sockets.handlers import Arrival, SocketHandlers
from server.sockets.outlet import EngineOutlet, check_engine, end_poll
from server.sockets.protocol import (
    MAX_ATTACHMENTS,
    MAX_MESSAGE_BYTES,
    PING_SECONDS,
    PONG_SECONDS,
    ClientPacket,
    Refused,
)
from server.sockets.transport import GuardedProtocol, protocol_of

logger = logging.getLogger(__name__)


class Visit:
    """One Engine.IO connection of the plain way: its place, and what it may still send."""

    __slots__ = ("allowance", "pace", "place")

    def __init__(self, crowd: Crowd, address: str, end: Callable[[], None]) -> None:
        self.place = crowd.enter(address, end)
        self.allowance = crowd.allowance(address)
        self.pace = crowd.pace(address)


NO_PACKET = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What the library's parser lets through; it would log each with its whole stack and go on."""

_ENGINE_PACKET = re.compile("[0-6]")


class PacketSocket(WebSocket):  # type: ignore[misc]  # the library is untyped
    """A websocket that counts as gone with the first text that is no packet of Engine.IO."""

    async def wait(self) -> str | bytes:
        """The next message. Raises OSError, as where the client has left."""
        message: str | bytes = await super().wait()
        if isinstance(message, str) and _ENGINE_PACKET.match(message) is None:
            logger.warning("a connection ended: no packet of Engine.IO")
            raise OSError
        return message


class Namespace(socketio.AsyncNamespace):  # type: ignore[misc]  # the library is untyped
    """Hands the library's connects and disconnects of the default namespace to the handlers."""

    def __init__(self, handlers: SocketHandlers) -> None:
        super().__init__("/")
        self._handlers = handlers

    async def on_connect(self, sid: str, environ: Mapping[str, Any], auth: object = None) -> None:  # noqa: ARG002 - the library gives it
        """Join. The library sends CONNECT without a pause after this."""
        scope = environ.get("asgi.scope", {})
        engine_id = str(self.server.manager.eio_sid_from_sid(sid, "/"))
        protocol = protocol_of(scope)
        outlet = partial(EngineOutlet, self.server.eio, engine_id, protocol)
        query = environ.get("QUERY_STRING", "")
        visit: Visit = self.server.visits[engine_id]
        visit.place.settle()
        try:
            await self._handlers.join(Arrival(sid, query, scope, outlet, allowance=visit.allowance))
        except Refused as refused:
            visit.place.refused(refused)
            told = (str(refused),) if refused.data is None else (str(refused), refused.data)
            raise SocketRefused(*told) from refused
        if protocol is not None:
            protocol.widen()

    async def on_disconnect(self, sid: str, reason: str = "") -> None:  # noqa: ARG002 - the library gives it
        """Leave."""
        await self._handlers.leave(sid)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]  # the library is untyped
    """The Socket.IO server of the default namespace.

    Origins are checked by the middleware before a request comes here. The library's dispatch of
    client events is replaced, since only there it is known whether an answer was asked for.
    """

    def __init__(self, handlers: SocketHandlers, crowd: Crowd) -> None:
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
        self.visits: dict[str, Visit] = {}
        """Of each Engine.IO connection."""
        self.crowd = crowd
        """Of Engine.IO connections: those that poll hold no other place."""
        self.eio._async = {**self.eio._async, "websocket": PacketSocket}  # noqa: SLF001 - no other way
        self._handlers = handlers
        self.register_namespace(Namespace(handlers))

    async def _handle_eio_connect(self, eio_sid: str, environ: Mapping[str, Any]) -> bool | None:
        scope = environ["asgi.scope"]
        address = self.crowd.rates.addresses.client(peer_of(scope), Headers(scope=scope))
        try:
            visit = Visit(self.crowd, address, partial(self._end, eio_sid, protocol_of(scope)))
        except RateLimited:
            return False  # between the gate's check and this the last place was taken
        self.visits[eio_sid] = visit
        visit.place.wait()
        await super()._handle_eio_connect(eio_sid, environ)
        return None

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        """Take a message at the pace the client may have; one that makes no sense ends it."""
        visit = self.visits.get(eio_sid)
        if visit is None:
            return  # it is being ended
        visit.pace.tokens -= 1
        if visit.pace.tokens < 0 and (seconds := visit.pace.lacking()):
            await asyncio.sleep(seconds)
        try:
            await self._take_message(eio_sid, data)
        except NO_PACKET as error:
            # Not its text, which may quote what was sent.
            logger.warning("a connection ended: no packet of Socket.IO, %s", type(error).__name__)
            visit.place.violated()
            self._end(eio_sid, protocol_of(self.environ.get(eio_sid, {}).get("asgi.scope", {})))

    async def _take_message(self, eio_sid: str, data: str | bytes) -> None:
        awaited = eio_sid in self._binary_packet
        if awaited != isinstance(data, bytes):
            raise ValueError("an attachment is missing, or of nothing")
        # What an attachment holds is not kept, since no event may have one.
        await super()._handle_eio_message(eio_sid, b"" if awaited else data)
        packet = self._binary_packet.get(eio_sid)
        if packet is not None and packet.attachment_count > MAX_ATTACHMENTS:
            raise ValueError("too many attachments")

    async def _handle_disconnect(
        self, eio_sid: str, namespace: str, reason: str | None = None
    ) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        visit = self.visits.get(eio_sid)
        if visit is not None and namespace in (None, "/"):
            visit.place.wait()

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        self._binary_packet.pop(eio_sid, None)
        visit = self.visits.pop(eio_sid, None)
        if visit is not None:
            visit.place.leave()
        end_poll(self.eio, eio_sid)

    def _end(self, eio_sid: str, protocol: GuardedProtocol | None) -> None:
        with contextlib.suppress(Refused):
            EngineOutlet(self.eio, eio_sid, protocol).abort()

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
