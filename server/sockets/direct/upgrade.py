"""Upgrade requests in the common form, accepted as soon as their bytes arrive.

A request in the common form opens a new websocket with the expected versions, without a subprotocol
or body, and is complete in the first bytes of its connection. Every other connection is handed to
uvicorn with its bytes unchanged.
"""

import asyncio
import binascii
import logging
import re
from asyncio import AbstractEventLoop, BaseTransport, TimerHandle, Transport
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha1
from typing import Any, ClassVar, NamedTuple, cast

from starlette.datastructures import Headers
from uvicorn.config import Config
from uvicorn.server import ServerState

from server.access.auth import Authenticator
from server.access.client_address import UNKNOWN, site_of
from server.access.connection_limits import Admission, ConnectionLimits
from server.access.rate_limits import RateClass
from server.errors import Forbidden, NotAvailable, RateLimited, ServerError, answer_for
from server.http.responses import refusal_bytes
from server.observability.counters import NOT_ACCEPTED, ServerCounters
from server.sockets.direct.connection import EngineConnection
from server.sockets.direct.websocket import Websocket
from server.sockets.handlers import SocketHandlers
from server.sockets.transport.stall_watch import Traffic, abort, end
from server.sockets.transport.uvicorn_http import REFUSED_SECONDS, HttpProtocol

logger = logging.getLogger(__name__)

Fields = Sequence[tuple[bytes, bytes]]

KEY_BYTES = 16
RFC_6455_ID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)
UNCOMMON = (b"sec-websocket-protocol", b"content-length", b"transfer-encoding")
LONGEST_REQUEST_BYTES = 16 * 1024
MOST_TURNED_AWAY = 64
"""Refused connections that are sent the reason at the same time; further ones are aborted."""

_REQUEST = re.compile(
    rb"GET /socket\.io/?\?([!\"$-~]+) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)+)\r\n"
)
"""One whole request with nothing after it; the grammar is no wider than that of RFC 9112.

No part can match in two ways, so that a mismatch is found in one pass.
"""


class UpgradeRequest(NamedTuple):
    """The fields of an upgrade request in the common form."""

    query: str
    fields: Fields
    """Names in lower case, values without white space around them."""
    accept: bytes
    """The `Sec-WebSocket-Accept` of the answer."""


def parse_upgrade(data: bytes) -> UpgradeRequest | None:
    """Parse the first bytes of a connection; None unless they are a request in the common form."""
    found = _REQUEST.fullmatch(data) if len(data) <= LONGEST_REQUEST_BYTES else None
    if found is None or not _is_new(found[1]):
        return None
    fields = []
    for line in found[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
    accept = accept_of(fields)
    return None if accept is None else UpgradeRequest(found[1].decode("ascii"), fields, accept)


def accept_of(fields: Fields) -> bytes | None:
    """Return the `Sec-WebSocket-Accept` of an upgrade request (RFC 6455, 4.2).

    None unless the request is in the common form: no repeated field, no body, no subprotocol.
    """
    found = dict(fields)
    tokens = found.get(b"connection", b"").lower().split(b",")
    if (
        len(found) != len(fields)
        or found.get(b"upgrade", b"").lower() != b"websocket"
        or b"upgrade" not in [token.strip(b" \t") for token in tokens]
        or found.get(b"sec-websocket-version") != b"13"
        or any(name in found for name in UNCOMMON)
    ):
        return None
    key = found.get(b"sec-websocket-key", b"")
    try:
        if len(binascii.a2b_base64(key, strict_mode=True)) != KEY_BYTES:
            return None
    except binascii.Error:
        return None
    return b64encode(sha1(key + RFC_6455_ID, usedforsecurity=False).digest())


def _is_new(query: bytes) -> bool:
    """Return whether a query asks for a new Engine.IO 4 websocket, as the official clients write it."""
    asked = query.split(b"&")
    return (
        b"EIO=4" in asked
        and b"transport=websocket" in asked
        and not any(field.startswith(b"sid=") for field in asked)
    )


class Acceptor:
    """Admits connections within the limits, and accepts upgrade requests in the common form."""

    def __init__(
        self,
        handlers: SocketHandlers,
        authenticator: Authenticator,
        traffic: Traffic,
        connection_limits: ConnectionLimits,
        server_counters: ServerCounters,
        reads: Callable[[bytes], UpgradeRequest | None] = parse_upgrade,
    ) -> None:
        self.server_counters = server_counters
        self.reads = reads
        """Parses the requests that are served directly; None leaves a connection to uvicorn."""
        self.traffic = traffic
        self._handlers = handlers
        self._authenticator = authenticator
        self._limits = connection_limits
        self._turned_away = 0

    def protocol_class(self) -> "type[ProtocolSelector]":
        """Return the protocol class for uvicorn, bound to this acceptor."""
        return type("ProtocolSelector", (ProtocolSelector,), {"acceptor": self})

    def enter(self, transport: Transport) -> Admission:
        """Admit a new connection, and start the deadline of its handshake.

        Raises RateLimited, NotAvailable.
        """
        address = site_of(_peer_of(transport) or UNKNOWN)
        try:
            admission = self._limits.admit(address, partial(abort, transport))
        except (RateLimited, NotAvailable) as error:
            self.server_counters.refused[answer_for(error).code] += 1
            raise
        admission.expect_handshake()
        return admission

    def turn_away(self, transport: Transport, error: ServerError) -> bool:
        """Send the reason for a refusal; return whether the connection stays open to be read.

        Connections of a banned address, and those beyond `MOST_TURNED_AWAY`, are aborted instead.
        """
        banned = self._limits.rates.is_banned(site_of(_peer_of(transport) or UNKNOWN))
        if banned or self._turned_away >= MOST_TURNED_AWAY:
            abort(transport)
            return False
        self._turned_away += 1
        # Aborted connections may be too many for a line each; the ban was logged.
        logger.info(
            "refused a connection of %s: %s", site_of(_peer_of(transport) or UNKNOWN), error
        )
        transport.write(refusal_bytes(error))
        transport.write_eof()
        return True

    def gone(self) -> None:
        """Stop counting a refused connection, which has gone."""
        self._turned_away -= 1

    def admit(self, request: UpgradeRequest, transport: Transport, admission: Admission) -> None:
        """Check intake, origin, host and rate of a request. Raises Forbidden, RateLimited, NotAvailable."""
        self._handlers.check_joins()
        peer = _peer_of(transport)
        scope = {"headers": request.fields, "client": None if peer is None else (peer, 0)}
        self._authenticator.check_source(scope)
        rates = self._limits.rates
        address = rates.addresses.client(peer, Headers(raw=list(request.fields)))
        rates.check(RateClass.FAILURES, address)
        rates.spend(RateClass.HANDSHAKES, address)
        admission.move(address)

    def connect(
        self,
        request: UpgradeRequest,
        transport: Transport,
        loop: AbstractEventLoop,
        ends: set[Any],
        admission: Admission,
    ) -> EngineConnection:
        """Accept a request, and return the connection that serves it."""
        packet_bucket = self._limits.packet_bucket(admission.address)
        websocket = Websocket(transport, loop, self.traffic, ends, admission, packet_bucket)
        scope = {"type": "websocket", "headers": request.fields}
        connection = EngineConnection(
            websocket,
            self._handlers,
            request.query,
            scope,
            self._limits.event_bucket(admission.address),
        )
        websocket.open(connection)
        # In one piece: every write is a system call.
        transport.write(ANSWER % request.accept + connection.greeting())
        return connection


class ProtocolSelector(asyncio.Protocol):
    """The first protocol of a connection: its first bytes decide which protocol serves it."""

    acceptor: ClassVar[Acceptor]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._server = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: Transport | None = None
        self._admission: Admission | None = None
        self._turned_away: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Admit the connection, or refuse it."""
        self._transport = cast("Transport", transport)
        self._server.connections.add(cast("Any", self))
        try:
            self._admission = self.acceptor.enter(self._transport)
        except (RateLimited, NotAvailable) as error:
            if self.acceptor.turn_away(self._transport, error):
                # Time for its client to read the answer, whatever it sends meanwhile.
                self._turned_away = self._loop.call_later(REFUSED_SECONDS, abort, self._transport)

    def data_received(self, data: bytes) -> None:
        """Serve a request in the common form, or hand the connection to uvicorn."""
        transport, admission = self._transport, self._admission
        if transport is None or admission is None or transport.is_closing():
            return
        self._leave()
        request = self.acceptor.reads(data)
        if request is None:
            fallback = HttpProtocol(
                self._config,
                self._server,
                self._app_state,
                self._loop,
                admission,
                self.acceptor.traffic,
                self.acceptor.server_counters,
            )
            fallback.connection_made(transport)
            transport.set_protocol(fallback)
            fallback.data_received(data)
            return
        try:
            self.acceptor.admit(request, transport, admission)
        except (Forbidden, RateLimited, NotAvailable) as error:
            self.acceptor.server_counters.refused[NOT_ACCEPTED] += 1
            logger.info("refused a websocket of %s: %s", admission.address, error)
            self._admission = admission  # left when the connection is lost
            transport.write(refusal_bytes(error))
            end(transport, self._loop, self.acceptor.traffic)
            return
        ends: set[Any] = self._server.connections
        connection = self.acceptor.connect(request, transport, self._loop, ends, admission)
        task = self._loop.create_task(connection.serve())
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        """Stop counting a connection that ended before it was handed over."""
        if self._admission is not None:
            self._admission.leave()
        if self._turned_away is not None:
            self._turned_away.cancel()
            self._turned_away = None
            self.acceptor.gone()
        self._leave()

    def shutdown(self) -> None:
        """Close the connection as the server stops. See uvicorn's protocols."""
        if self._transport is not None:
            self._transport.close()

    def _leave(self) -> None:
        self._server.connections.discard(cast("Any", self))
        self._transport = self._admission = None


def no_upgrade(data: bytes) -> None:
    """Leave every connection to uvicorn."""
    return


def _peer_of(transport: Transport) -> str | None:
    name = transport.get_extra_info("peername")
    return str(name[0]) if name else None
