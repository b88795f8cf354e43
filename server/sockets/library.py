"""The plain way: python-socketio serves the wire, with everything it and Engine.IO can do.

Polling, upgrades and, where the short way is not used, websockets come through here.
"""

import contextlib
import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import socketio
from engineio.async_drivers.asgi import WebSocket
from socketio.exceptions import ConnectionRefusedError as SocketRefused

from server.sockets.handlers import Arrival, SocketHandlers
from server.sockets.outlet import EngineOutlet, check_engine, end_poll
from server.sockets.protocol import (
    MAX_MESSAGE_BYTES,
    PING_SECONDS,
    PONG_SECONDS,
    ClientPacket,
    Refused,
)
from server.sockets.transport import protocol_of

logger = logging.getLogger(__name__)

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
        outlet = partial(EngineOutlet, self.server.eio, engine_id, protocol_of(scope))
        query = environ.get("QUERY_STRING", "")
        try:
            await self._handlers.join(Arrival(sid, query, scope, outlet))
        except Refused as refused:
            told = (str(refused),) if refused.data is None else (str(refused), refused.data)
            raise SocketRefused(*told) from refused

    async def on_disconnect(self, sid: str, reason: str = "") -> None:  # noqa: ARG002 - the library gives it
        """Leave."""
        await self._handlers.leave(sid)


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
        self.eio._async = {**self.eio._async, "websocket": PacketSocket}  # noqa: SLF001 - no other way
        self._handlers = handlers
        self.register_namespace(Namespace(handlers))

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        try:
            await super()._handle_eio_message(eio_sid, data)
        except NO_PACKET as error:
            # Not its text, which may quote what was sent.
            logger.warning("a connection ended: no packet of Socket.IO, %s", type(error).__name__)
            scope = self.environ.get(eio_sid, {}).get("asgi.scope", {})
            with contextlib.suppress(Refused):  # it has left by itself
                EngineOutlet(self.eio, eio_sid, protocol_of(scope)).abort()

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
