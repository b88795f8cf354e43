"""The library path: python-socketio serves the wire, with all features of it and of Engine.IO.

It serves polling, upgrades from polling and, where the direct path is not used, websockets.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import engineio
import orjson
import socketio
from engineio.async_drivers.asgi import WebSocket, make_response as answer
from engineio.async_socket import AsyncSocket
from engineio.packet import Packet
from socketio.exceptions import ConnectionRefusedError as SocketRefused
from socketio.packet import CONNECT_ERROR
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from server.access.client_address import peer_of
from server.access.connection_limits import Admission, ConnectionLimits
from server.errors import Answer, BadRequest, NotAvailable, RateLimited, Refused
from server.http.responses import error_response, response_of, send_refusal
from server.sockets.handlers import JoinRequest, SocketHandlers
from server.sockets.outlet import EngineOutlet, check_engine, end_poll
from server.sockets.protocol import (
    MAX_ATTACHMENTS,
    MAX_MESSAGE_BYTES,
    MAX_PACKETS,
    PING_SECONDS,
    PONG_SECONDS,
    UNKNOWN_NAMESPACE,
    ClientPacket,
    weight_of,
)
from server.sockets.transport.uvicorn_websocket import GuardedProtocol, protocol_of

logger = logging.getLogger(__name__)


class LibraryConnection:
    """One Engine.IO connection of the library path: its admission and its token buckets.

    A websocket shares the admission of its network connection; a polling session is admitted in
    addition to the connections of its requests.
    """

    __slots__ = ("_shared", "admission", "event_bucket", "message_bytes", "packet_bucket")

    def __init__(
        self,
        connection_limits: ConnectionLimits,
        address: str,
        end: Callable[[], None],
        shared: Admission | None = None,
    ) -> None:
        if shared is not None:
            shared.move(address)
        self.admission = shared or connection_limits.admit(address, end)
        self._shared = shared is not None
        self.event_bucket = connection_limits.event_bucket(address)
        self.packet_bucket = connection_limits.packet_bucket(address)
        self.message_bytes = 0
        """Length of the message being received, beginning with a packet's text."""

    def leave(self) -> None:
        """Stop counting the connection, unless a network connection shares its admission."""
        if not self._shared:
            self.admission.leave()


NO_PACKET = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""Errors the library's parser lets escape; it would log each with a traceback and continue."""

NO_TRANSPORT = "A websocket must ask for transport=websocket"
UPGRADE = "5"
"""The packet by which a polling client continues on a websocket."""

_ENGINE_PACKET = re.compile("[0-6]")
_CLIENT_PACKET = re.compile("[134]")
"""Packets that a client may send once it is on its websocket: a farewell, a pong, a message."""
_MESSAGE = "4"


class PollAnswers(asyncio.Queue[Packet | None]):
    """The queue of one client's packets, which limits the packets in a response to a poll.

    The library calls `get`, and then `get_nowait` as long as there are packets.
    """

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    async def get(self) -> Packet | None:
        """Return the first packet of a response."""
        while True:
            self._taken = 0
            with contextlib.suppress(asyncio.QueueEmpty):  # another poll filled up meanwhile
                return await super().get()

    def get_nowait(self) -> Packet | None:
        """Return a further packet. Raises QueueEmpty if there is none, or the response is full."""
        if self._taken >= MAX_PACKETS:
            raise asyncio.QueueEmpty
        packet = super().get_nowait()
        self._taken += 1
        return packet


async def _unpaced(_sid: str) -> None:
    """Let a client send as much as it wants."""


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]  # the library is untyped
    """Engine.IO with bounds it does not have, which lets go of clients that have left."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pace: Callable[[str], Awaitable[None]] = _unpaced
        """Takes a packet from what a client may send, and waits while it has sent too many."""
        self._pings: dict[str, asyncio.Task[Any]] = {}
        """Of each client, the task that waits to ping it."""

    def start_background_task(
        self, target: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        """Start a task of the library; a client's ping ends with the client."""
        task: asyncio.Task[Any] = super().start_background_task(target, *args, **kwargs)
        owner = getattr(target, "__self__", None)
        if isinstance(owner, AsyncSocket):
            self._pings[owner.sid] = task
        return task

    def forget(self, sid: str) -> None:
        """Drop the state of a client that has left.

        The library would keep it until the next ping is due and all clients are checked.
        """
        ping = self._pings.pop(sid, None)
        if ping is not None and ping is not asyncio.current_task():
            ping.cancel()
        self.sockets.pop(sid, None)

    async def _service_task(self) -> None:
        """Close clients that do not answer pings, one after the other.

        The library's own loop references all clients until each is checked.
        """
        while True:
            sids = list(self.sockets)
            for sid in sids:
                await self._check(sid)
                await asyncio.sleep(self.ping_timeout / len(sids))
            if not sids:
                await asyncio.sleep(self.ping_timeout)

    async def _check(self, sid: str) -> None:
        found = self.sockets.get(sid)
        if found is None:
            return
        if found.closed:
            self.forget(sid)
        elif not found.closing:
            try:
                await found.check_ping_timeout()
            except Exception:
                logger.exception("a client that does not answer could not be ended")

    def create_queue(self, *args: Any, **kwargs: Any) -> PollAnswers:  # noqa: ARG002 - the library's
        """Return the queue of one client."""
        return PollAnswers()

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Serve a request; a session that has ended is unknown."""
        first = await receive()
        if first["type"] not in ("http.request", "websocket.connect"):
            return None  # the client has left
        told = [first]

        async def receive_again() -> Message:
            return told.pop() if told else await receive()

        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["type"] == "websocket" and query.get("transport") != ["websocket"]:
            await send_refusal(response_of(BadRequest(NO_TRANSPORT)), scope, send)
            return None
        if scope["type"] == "http":
            # What is no websocket's request by all its lines is none by some of them.
            fields = [field for field in scope["headers"] if field[0] != b"upgrade"]
            scope = {**scope, "headers": fields}
        for sid in query.get("sid", ()):
            found = self.sockets.get(sid)
            if found is not None and found.closed:
                del self.sockets[sid]  # the library raises KeyError instead
        return await super().handle_request(scope, receive_again, send)

    async def disconnect(self, sid: str | None = None) -> None:
        """Close one client, or all, without waiting until they have fetched their packets."""
        for one in [sid] if sid is not None else list(self.sockets):
            found = self.sockets.get(one)
            if found is not None:
                await found.close(wait=False, reason=self.reason.SERVER_DISCONNECT)
                self.sockets.pop(one, None)


class PacketSocket(WebSocket):  # type: ignore[misc]  # the library is untyped
    """A websocket that counts as gone with the first text that is no packet of Engine.IO.

    One to which a polling client changes over must say so in time, as any other handshake.
    """

    _gone: OSError | None = None
    """Said to the library when the client had left."""

    async def __call__(self, environ: Mapping[str, Any]) -> Any:
        """Serve it until it is over."""
        engine_socket = self.handler.__self__
        changes = engine_socket.connected
        if changes and engine_socket.upgrading:
            return engine_socket.server._bad_request("Another upgrade is under way")  # noqa: SLF001
        protocol = protocol_of(environ.get("asgi.scope", {}))
        admission = None if protocol is None else protocol.admission
        self._probed = admission if changes else None
        self._changes = changes
        self._pace = partial(engine_socket.server.pace, engine_socket.sid)
        self.asgi_receive, self.asgi_send = environ["asgi.receive"], environ["asgi.send"]
        try:
            await self.asgi_send({"type": "websocket.accept"})
        except Exception:
            if not changes:
                await engine_socket.close(wait=False, abort=True)
            raise
        if admission is not None:
            admission.expect_handshake()  # for CONNECT, or for the change to be made
        try:
            await self.handler(self)
        finally:
            engine_socket.upgrading = False  # the library forgets it when the change is broken off
            if self._gone is not None:
                self._gone.__traceback__ = None  # its frames hold the task that holds the error
                self._gone = None
        return ""

    async def wait(self) -> str | bytes:
        """Return the next message. Raises OSError for malformed data, as for a client that has left."""
        try:
            return await self._next()
        except OSError as error:
            self._gone = error
            raise

    async def _next(self) -> str | bytes:
        message: str | bytes = await super().wait()
        if isinstance(message, bytes):
            return message
        permitted = _ENGINE_PACKET if self._changes else _CLIENT_PACKET
        if permitted.match(message) is None:
            logger.warning("closing a connection: not an Engine.IO packet")
            raise OSError
        if not message.startswith(_MESSAGE):
            await self._pace()  # a message is counted as it is received, as one that was posted is
        if self._changes and message == UPGRADE:
            self._changes = False
            if self._probed is not None:
                self._probed.handshake_done()
                self._probed = None
        return message


class Namespace(socketio.AsyncNamespace):  # type: ignore[misc]  # the library is untyped
    """Hands the library's connects and disconnects of the default namespace to the handlers."""

    def __init__(self, handlers: SocketHandlers) -> None:
        super().__init__("/")
        self._handlers = handlers

    async def on_connect(self, sid: str, environ: Mapping[str, Any], auth: object = None) -> None:
        """Join. The library sends CONNECT without a pause after this."""
        scope = environ.get("asgi.scope", {})
        engine_id = str(self.server.manager.eio_sid_from_sid(sid, "/"))
        protocol = protocol_of(scope)
        outlet = partial(EngineOutlet, self.server.eio, engine_id, protocol)
        query = environ.get("QUERY_STRING", "")
        connection: LibraryConnection = self.server.connections[engine_id]
        connection.admission.handshake_done()
        try:
            await self._handlers.join(
                JoinRequest(
                    sid,
                    query,
                    scope,
                    outlet,
                    event_bucket=connection.event_bucket,
                    auth=auth,
                    check_failures=connection.admission.check_failures,
                )
            )
        except Refused as refused:
            connection.admission.refused(refused)
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
    client events is replaced, since only there it is known whether an acknowledgement was
    requested.
    """

    def __init__(self, handlers: SocketHandlers, connection_limits: ConnectionLimits) -> None:
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
        self.connections: dict[str, LibraryConnection] = {}
        """The open connections by their Engine.IO id."""
        self.connection_limits = connection_limits
        own = {
            "websocket": PacketSocket,
            "make_response": make_response,
            "translate_request": translate_request,
        }
        self.eio._async = {**self.eio._async, **own}  # noqa: SLF001 - no other way
        self.eio.pace = self._pace
        self._handlers = handlers
        self.register_namespace(Namespace(handlers))

    async def _handle_eio_connect(self, eio_sid: str, environ: Mapping[str, Any]) -> bool | None:
        scope = environ["asgi.scope"]
        address = self.connection_limits.rates.addresses.client(
            peer_of(scope), Headers(scope=scope)
        )
        protocol = protocol_of(scope)
        shared = None if protocol is None else protocol.admission
        try:
            connection = LibraryConnection(
                self.connection_limits, address, partial(self._end, eio_sid, protocol), shared
            )
        except (RateLimited, NotAvailable):
            return False  # the limit was reached after PollingRules checked it
        self.connections[eio_sid] = connection
        connection.admission.expect_handshake()
        await super()._handle_eio_connect(eio_sid, environ)
        return None

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        """Receive a message within the token bucket; malformed data ends the connection."""
        connection = self.connections.get(eio_sid)
        if connection is None:
            return  # the connection is ending
        await self._pace(eio_sid)
        if eio_sid not in self.connections:
            return  # it has ended meanwhile
        try:
            await self._take_message(eio_sid, data)
        except NO_PACKET as error:
            # Not its text, which may quote what was sent.
            logger.warning(
                "closing a connection: not a Socket.IO packet (%s)", type(error).__name__
            )
            connection.admission.violated()
            self._end(eio_sid, protocol_of(self.environ.get(eio_sid, {}).get("asgi.scope", {})))

    async def _pace(self, eio_sid: str) -> None:
        """Take a packet from the client's token bucket, and wait while none is left."""
        connection = self.connections.get(eio_sid)
        if connection is None:
            return
        bucket = connection.packet_bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and (seconds := bucket.lacking()):
            await asyncio.sleep(seconds)

    async def _take_message(self, eio_sid: str, data: str | bytes) -> None:
        awaited = eio_sid in self._binary_packet
        if awaited != isinstance(data, bytes):
            raise ValueError("an attachment is missing, or has no packet")
        if not awaited:
            self.connections[eio_sid].message_bytes = len(data)
        # The content of an attachment is dropped, since no event may have one.
        await super()._handle_eio_message(eio_sid, b"" if awaited else data)
        packet = self._binary_packet.get(eio_sid)
        if packet is not None and packet.attachment_count > MAX_ATTACHMENTS:
            raise ValueError("too many attachments")

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: object) -> None:
        if (namespace or "/") == "/":
            # The library would refuse a second CONNECT as if the first were undone; ignore it instead.
            if self.manager.sid_from_eio_sid(eio_sid, "/") is None:
                await super()._handle_connect(eio_sid, namespace, data)
            return
        # The library sends a bare text, of which the official client shows nothing.
        told = {"message": UNKNOWN_NAMESPACE}
        refusal = self.packet_class(CONNECT_ERROR, data=told, namespace=namespace)
        await self._send_packet(eio_sid, refusal)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _handle_disconnect(
        self, eio_sid: str, namespace: str, reason: str | None = None
    ) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        connection = self.connections.get(eio_sid)
        if connection is not None and namespace in (None, "/"):
            connection.admission.expect_handshake()

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await super()._handle_eio_disconnect(eio_sid, reason)
        self._binary_packet.pop(eio_sid, None)
        connection = self.connections.pop(eio_sid, None)
        if connection is not None:
            connection.leave()
        end_poll(self.eio, eio_sid)
        self.eio.forget(eio_sid)

    def _end(self, eio_sid: str, protocol: GuardedProtocol | None) -> None:
        with contextlib.suppress(Refused):
            EngineOutlet(self.eio, eio_sid, protocol).abort()

    async def _handle_event_internal(
        self,
        server: object,  # noqa: ARG002 - the library gives it
        sid: str,
        eio_sid: str,
        data: Sequence[Any],
        namespace: str,  # noqa: ARG002 - there is only one
        id: int | None,  # noqa: A002 - the library's name
    ) -> None:
        connection = self.connections.get(eio_sid)
        weight = 1 if connection is None else weight_of(connection.message_bytes)
        self._handlers.take(sid, ClientPacket(data[0], list(data[1:]), id, weight))
        # Nothing more is read from the client before this returns.
        await self._handlers.ready(sid)


class RequestBody:
    """The body of one request, as the library reads it."""

    __slots__ = ("_first", "_receive")

    def __init__(self, first: Message, receive: Receive) -> None:
        self._first = first
        self._receive = receive

    async def read(self, length: int) -> bytes:
        """Return the first `length` bytes of the body, or all of a shorter one."""
        message = self._first
        body: bytes = message.get("body", b"")
        while message.get("more_body") and len(body) < length:
            message = await self._receive()
            body += message.get("body", b"")
        return body[:length]


async def translate_request(scope: Scope, receive: Receive, send: Send) -> dict[str, Any]:
    """Return a request as the `environ` that the library expects.

    The library's own function makes a class for each request. A class is part of a reference cycle,
    so it would keep the request and its connection until the collector's rare full pass.
    """
    first = await receive()
    environ: dict[str, Any] = {
        "wsgi.input": RequestBody(first, receive),
        "REQUEST_METHOD": scope.get("method", "GET"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "asgi.receive": receive,
        "asgi.send": send,
        "asgi.scope": scope,
    }
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        value = raw_value.decode("latin-1")
        key = name if name == "CONTENT_LENGTH" else f"HTTP_{name}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ["wsgi.url_scheme"] = environ.get("HTTP_X_FORWARDED_PROTO", "http")
    return environ


async def make_response(
    status: str, headers: Sequence[tuple[str, str]], payload: bytes, environ: Mapping[str, Any]
) -> None:
    """Answer a request as the library does; a refused websocket gets the server's error body."""
    scope = environ["asgi.scope"]
    if scope["type"] != "websocket" or status.startswith("200 "):
        await answer(status, headers, payload, environ)
        return
    code, _, phrase = status.partition(" ")
    try:
        told = str(orjson.loads(payload))
    except orjson.JSONDecodeError:
        told = phrase.capitalize()
    word = "unauthorized" if int(code) == HTTPStatus.UNAUTHORIZED else "bad_request"
    refused = Answer(int(code), word, told)
    await send_refusal(error_response(refused), scope, environ["asgi.send"])
