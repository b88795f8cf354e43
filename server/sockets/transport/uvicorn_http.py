"""uvicorn's HTTP protocol, with the limits and deadlines that it lacks.

Malformed requests are answered with the server's error body. A request's head is limited in length.
Each phase of a connection has a deadline:

- until a head is complete, and until an upgrade is answered: `handshake_seconds`;
- while the application answers: its own, and that of reading the body (`server.http.body_limits`);
- the rest of a body whose response is complete: `UNWANTED_SECONDS` without a byte, and
  `UNWANTED_LONGEST_SECONDS` in all;
- between requests: uvicorn's `timeout_keep_alive`;
- output that the client does not take: `stall_abort_seconds`.
"""

import logging
from asyncio import AbstractEventLoop, TimerHandle
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.http11 import Request

from server.access.connection_limits import Admission
from server.errors import (
    BadRequest,
    HeadTooLarge,
    ServerError,
    TooSlow,
    UpgradeRequired,
    answer_for,
)
from server.http.responses import refusal_bytes
from server.observability.counters import ServerCounters
from server.sockets.transport.stall_watch import StallWatch, Traffic, abort, end
from server.sockets.transport.uvicorn_websocket import GuardedProtocol

logger = logging.getLogger(__name__)

LONGEST_HEAD_BYTES = 64 * 1024
UNWANTED_BYTES = 64 * 1024 * 1024
"""Bytes of a body that are read and dropped after its response: twice the longest body that any
route accepts. Many clients send the whole body before they read; a reset would lose the response."""
UNWANTED_SECONDS = 2.0
"""Seconds without a byte of such a body after which the connection is closed."""
UNWANTED_LONGEST_SECONDS = 30.0
"""Seconds such a body may take in all."""
MOST_PIPELINED = 64
"""Requests of a connection that may wait for earlier responses; further ones are dropped, and the
connection ends with the last response."""
REFUSED_SECONDS = 1.0
"""Seconds a refused connection is still read, so that its client receives the reason."""


class _CycleTransport:
    """The transport as a response sees it; closing is left to the protocol."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: "HttpProtocol") -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        """Write data, unless the connection is over, which the application may not know yet."""
        if not self.is_closing():
            self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        """Return whether writing is over."""
        return self._protocol.finished or self._protocol.transport.is_closing()

    def close(self) -> None:
        """Close the connection once the rest of the request has arrived."""
        self._protocol.close_after_answer()


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection, counted among the connection limits."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: AbstractEventLoop,
        admission: Admission,
        traffic: Traffic,
        server_counters: ServerCounters,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._admission = admission
        self._traffic = traffic
        self._server_counters = server_counters
        self._in_head = False
        self._in_message = False
        self._upgrading = False
        self._refused = False
        self.finished = False
        """Whether the last answer of the connection is written."""
        self._closing = False
        """Whether the connection ends once the rest of an unwanted body has arrived."""
        self._fault: ServerError | None = None
        self._head_bytes = 0
        """Length of the complete fields of the head."""
        self._fed_bytes = 0
        """Bytes received since the segment in which the head began."""
        self._unwanted_bytes = 0
        self._heard_at = 0.0
        self._drain: TimerHandle | None = None
        self._watch: StallWatch | None = None
        admission.end_by(self._expire)

    def data_received(self, data: bytes) -> None:
        """Parse the data; refuse a malformed request, and a head that is too long."""
        if self._refused:
            self._drop(len(data))
            return
        self._unset_keepalive_if_required()
        if not self._in_message and not self._answering:
            # Blank lines between requests are part of none, and must not hold the place either.
            self._admission.expect_handshake()
        went_on = self._in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            if not self.transport.is_closing():
                self._refuse(self._fault or BadRequest("The data received is not an HTTP request"))
            return
        if self._in_head:
            self._fed_bytes = self._fed_bytes + len(data) if went_on else 0
            if max(self._fed_bytes, self._head_bytes) > LONGEST_HEAD_BYTES:
                self._refuse(HeadTooLarge(LONGEST_HEAD_BYTES))

    def on_message_begin(self) -> None:
        """Start the deadline for a head."""
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._upgrading = False
        self._head_bytes = self._fed_bytes = self._unwanted_bytes = 0
        self._admission.expect_handshake()

    def on_url(self, url: bytes) -> None:
        """Count its length."""
        super().on_url(url)
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count its length."""
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value) + len(b": \r\n")

    def on_headers_complete(self) -> None:
        """Accept or refuse a complete head. Raises HeadTooLarge, BadRequest."""
        self._in_head = False
        if self.transport.is_closing():
            raise BadRequest("The connection is closed after the previous response")
        if self._head_bytes > LONGEST_HEAD_BYTES:
            self._fault = HeadTooLarge(LONGEST_HEAD_BYTES)
            raise self._fault
        if len(self.pipeline) >= MOST_PIPELINED:
            self._in_message = False
            self._fault = BadRequest(
                f"More than {MOST_PIPELINED} pipelined requests are waiting for responses"
            )
            raise self._fault
        self._admission.handshake_done()
        if self.parser.should_upgrade() and self._should_upgrade():
            self._upgrading = True
            self._admission.expect_handshake()
            return
        super().on_headers_complete()
        self.cycle.transport = cast("Any", _CycleTransport(self))

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body to the application; drop it if the response is complete."""
        if self._upgrading:
            return
        if self.cycle.response_complete:
            self._drop(len(body))
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Handle the end of a request, which may have been answered before."""
        self._in_message = False
        if self._upgrading:
            return
        if not self.cycle.response_complete:
            super().on_message_complete()
            return
        self.cycle.more_body = False
        self._stop_draining()
        if self._closing:
            self.end()
        else:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Drain the rest of the body, within limits, before the next request."""
        if self._closing:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            return
        cycle = self.cycle  # of the newest request, which may wait for earlier responses
        super().on_response_complete()
        if not self.transport.is_closing() and cycle.response_complete and cycle.more_body:
            self._unset_keepalive_if_required()
            self._drain_body()

    def close_after_answer(self) -> None:
        """End the connection, once the rest of an answered request's body has arrived."""
        cycle: RequestResponseCycle | None = self.cycle  # None when the connection is lost
        if cycle is not None and cycle.response_complete and cycle.more_body:
            self._closing = True
            self._drain_body()
        else:
            self.end()

    def end(self) -> None:
        """Close the connection; a reader that does not take what is due is aborted."""
        end(self.transport, self.loop, self._traffic)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection without a further request after a response."""
        self.end()

    def pause_writing(self) -> None:
        """Start to watch whether the reader reads."""
        super().pause_writing()
        self._watch = StallWatch(self.transport, self.loop, self._traffic)

    def resume_writing(self) -> None:
        """Stop watching."""
        super().resume_writing()
        self._unwatch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        self._unwatch()
        self._stop_draining()
        self._unset_keepalive_if_required()
        self._admission.leave()
        super().connection_lost(exc)
        self._let_go()

    def _let_go(self) -> None:
        """Drop what leads back here, the error by its traceback: it would keep the connection."""
        self.parser = None  # type: ignore[assignment]
        self.cycle = None  # type: ignore[assignment]
        self.pipeline.clear()
        self._fault = None

    @property
    def _answering(self) -> bool:
        """Whether an answer is due, or under way."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _get_upgrade(self) -> bytes | None:
        """Return the protocols the connection is to be upgraded to, from all lines of the header."""
        fields = self.headers
        tokens = b",".join(value for name, value in fields if name == b"connection").lower()
        if b"upgrade" not in [token.strip() for token in tokens.split(b",")]:
            return None
        return next((value.lower() for name, value in fields if name == b"upgrade"), None)

    def _upgrade(self, rest: bytes) -> None:
        """Hand the connection over, to who reads what stands behind the head."""
        if not self._should_upgrade():
            # Answered as if it had not been asked for; the parser reads no further.
            if self._answering:
                self.cycle.keep_alive = False
            else:
                self.end()
            return
        if self._answering:
            self._refuse(BadRequest("An upgrade must not be pipelined behind other requests"))
            return
        try:
            request = self._request()
        except ServerError as error:
            self._refuse(error)
            return
        self.connections.discard(self)
        protocol_class = cast("type[GuardedProtocol]", self.ws_protocol_class)
        protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.take_over(self.transport, self._admission, request, rest)
        self._let_go()

    def _request(self) -> Request:
        """Return the parsed head for a library that would parse it again, with limits of its own.

        Raises BadRequest, UpgradeRequired.
        """
        given = dict(self.headers)
        if given.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in given:
            raise BadRequest("A websocket request must not have a body")
        if b"sec-websocket-version" in given and given[b"sec-websocket-version"] != b"13":
            raise UpgradeRequired("Only version 13 of the websocket protocol is supported")
        try:
            parsed = httptools.parse_url(self.url)
            path = parsed.path.decode("ascii")
            if parsed.query is not None:
                path += "?" + parsed.query.decode("ascii")
        except (httptools.HttpParserError, UnicodeDecodeError) as error:
            raise BadRequest("The request's URL is invalid") from error
        fields = Headers()
        for name, value in self.headers:
            fields[name.decode("ascii")] = value.decode("latin-1")
        version = self.parser.get_http_version()
        return Request(path, fields, self.parser.get_method().decode("ascii"), f"HTTP/{version}")

    def _expire(self) -> None:
        """Refuse a head that is late, or that is displaced by newer handshakes."""
        if self._in_head and not self._answering and not self._refused:
            self._refuse(TooSlow("The request was not received in time"), breach=False)
        else:
            abort(self.transport)

    def _refuse(self, error: ServerError, *, breach: bool = True) -> None:
        """Answer what cannot be served, and end the connection when its client can have read why."""
        self._refused = True
        self._server_counters.refused[answer_for(error).code] += 1
        logger.info("refused a request of %s: %s", self._admission.address, error)
        self._admission.handshake_done()
        if breach:
            self._admission.violated()
        if self._answering:
            if not self._in_message or self._in_head:
                self.cycle.keep_alive = False  # the answers that are due come first
                return
            if self.pipeline or self.cycle.response_started:
                self.end()
                return
            # It is a body that cannot be read; the application waits for it in vain.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(refusal_bytes(error))
        self.transport.write_eof()
        self.finished = True
        self._drain = self.loop.call_later(REFUSED_SECONDS, self.end)

    def _drop(self, size: int) -> None:
        self._unwanted_bytes += size
        self._heard_at = self.loop.time()
        if self._unwanted_bytes > UNWANTED_BYTES:
            self._admission.violated()
            abort(self.transport)

    def _drain_body(self) -> None:
        """Read on, and drop what comes of a body, within bounds."""
        self.flow.resume_reading()
        self._heard_at = self.loop.time()
        self._drain = self.loop.call_later(
            UNWANTED_SECONDS, self._check_drain, self._heard_at + UNWANTED_LONGEST_SECONDS
        )

    def _check_drain(self, last: float) -> None:
        now = self.loop.time()
        silent = now - self._heard_at
        if silent >= UNWANTED_SECONDS or now >= last:
            self.end()
        else:
            self._drain = self.loop.call_later(UNWANTED_SECONDS - silent, self._check_drain, last)

    def _stop_draining(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
