"""uvicorn's websocket protocol for the library path, with a watch on stalled readers."""

import logging
from asyncio import BaseTransport, TimerHandle, Transport
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from server.access.connection_limits import Admission
from server.access.rate_limits import names_session
from server.observability.counters import NOT_ACCEPTED, ServerCounters
from server.sockets.protocol import JOIN_BYTES, MAX_MESSAGE_BYTES
from server.sockets.transport.stall_watch import WRITE_LIMIT_BYTES, StallWatch, Traffic, abort, end

logger = logging.getLogger(__name__)
connection_log = logging.getLogger("uvicorn.websocket")
"""A logger apart from the server's own: connections are not logged, failures are."""

EXTENSION = "parley.transport"
PACKET_TYPES = b"0123456"
STAND_IN = b"GET / HTTP/1.1\r\n\r\n"
"""The head the library's parser reads in place of one parsed already: it has bounds of its own, and is
silent about what is beyond them."""
WAITING_MESSAGES = 8192
"""Messages of one client that may wait for the application; more cannot be honest."""


class GuardedProtocol(WebSocketsSansIOProtocol):
    """Puts itself into the ASGI scope for the application, and aborts a stalled connection."""

    traffic: ClassVar[Traffic]
    server_counters: ClassVar[ServerCounters]
    admission: Admission | None = None
    _head: Request | None = None
    _rest = b""
    _parts: bytearray
    _watch: StallWatch | None = None
    _last: TimerHandle | None = None

    def take_over(
        self, transport: Transport, admission: Admission, request: Request, rest: bytes
    ) -> None:
        """Serve a connection from an upgrade request that was parsed; its handshake deadline runs on.

        `rest` came behind the request. It, and what follows, is read once the request is accepted.
        """
        self.admission = admission
        self._head = request
        admission.end_by(partial(abort, transport))
        self.connection_made(transport)
        transport.set_protocol(self)
        self.data_received(STAND_IN)
        if not transport.is_closing():
            self._rest = rest
            transport.pause_reading()

    def handle_connect(self, event: Request) -> None:
        """Take the request that was parsed before; what is no handshake the library refuses."""
        super().handle_connect(self._head or event)
        self._head = None
        if self.close_sent:
            self.server_counters.refused[NOT_ACCEPTED] += 1
            logger.info("refused a websocket: %s", self.conn.handshake_exc)
            self.end()

    async def send(self, message: Any) -> None:
        """Send it; a request that is accepted came in time. Raises ClientDisconnected."""
        if self.transport.is_closing() and not self.handshake_complete:
            raise ClientDisconnected  # the library would take it for a fault of the application
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # with a refusal, which the library takes for a fault
        if message["type"] == "websocket.accept" and self.admission is not None:
            self.admission.handshake_done()
            if not self.transport.is_closing():
                self.transport.resume_reading()
                rest, self._rest = self._rest, b""
                self.data_received(rest)

    def connection_made(self, transport: BaseTransport) -> None:
        """Bound what the transport may hold; for the kernel see `bound_unsent`."""
        super().connection_made(transport)
        self.logger = self.conn.logger = connection_log
        self.transport.set_write_buffer_limits(high=WRITE_LIMIT_BYTES, low=0)

    async def run_asgi(self) -> None:
        """Run the application with this protocol in reach."""
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions[EXTENSION] = self
        if not names_session(self.scope["query_string"]):
            self.conn.max_message_size = JOIN_BYTES
        try:
            await super().run_asgi()
        finally:
            del extensions[EXTENSION]  # it leads back here, and would keep the connection
        # The library closes, at once or after the client's farewell, and would wait for ever until
        # the last bytes were taken.
        seconds = self.close_timeout + self.traffic.stall_seconds
        if not self.disconnected:
            self._last = self.loop.call_later(seconds, self.abort)

    def widen(self) -> None:
        """Take messages of full length: the client has joined."""
        self.conn.max_message_size = MAX_MESSAGE_BYTES

    def handle_text(self, event: Frame) -> None:
        """Take a message, or its first part."""
        self._parts = bytearray(b"" if event.fin else event.data)
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """Take a message, or its first part."""
        self._parts = bytearray(b"" if event.fin else event.data)
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        """Join the parts as they come: each may be next to nothing."""
        self._parts += event.data
        if event.fin:
            self.frames = [bytes(self._parts)]
            self._parts.clear()
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """Pass a message to the application; end the connection of a client that sends an invalid one."""
        message = b"".join(self.frames)
        text = self.curr_msg_data_type == "text"
        if self.queue.qsize() >= WAITING_MESSAGES or (text and not _is_packet(message)):
            self.frames = []
            self._breach()
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Say so, and remember who it was."""
        if self.admission is not None:
            self.admission.violated()
        super().handle_parser_exception()

    def pause_writing(self) -> None:
        """Start to watch whether the reader reads."""
        super().pause_writing()
        self._watch = StallWatch(self.transport, self.loop, self.traffic)

    def resume_writing(self) -> None:
        """Stop watching."""
        super().resume_writing()
        self._unwatch()

    def handle_ping(self) -> None:
        """Answer, unless writing is paused: one who only pings must not fill the buffer."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching, and stop counting the connection."""
        self._unwatch()
        if self._last is not None:
            self._last.cancel()
        if self.admission is not None:
            self.admission.leave()
        super().connection_lost(exc)
        self.conn.parser.close()  # a generator that leads back to its owner

    def end(self) -> None:
        """Close the connection without a farewell."""
        end(self.transport, self.loop, self.traffic)

    def abort(self) -> None:
        """End the connection at once."""
        abort(self.transport)

    def _breach(self) -> None:
        if self.admission is not None:
            self.admission.violated()
        self.abort()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None


def _is_packet(message: bytes) -> bool:
    """Return whether a message is an Engine.IO text packet; the library logs others at length."""
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return message != b"" and message[:1] in PACKET_TYPES


def protocol_of(scope: Mapping[str, Any]) -> GuardedProtocol | None:
    """Return the protocol of a websocket request; None for any other request."""
    protocol = scope.get("extensions", {}).get(EXTENSION)
    return protocol if isinstance(protocol, GuardedProtocol) else None


def guarded(traffic: Traffic, server_counters: ServerCounters) -> type[GuardedProtocol]:
    """Return the protocol class bound to one server."""
    members = {"traffic": traffic, "server_counters": server_counters}
    return type("GuardedProtocol", (GuardedProtocol,), members)
