"""Upgrade requests in the common form, accepted as their bytes come in.

Common is what asks for nothing else: the right versions, no polling before it, no subprotocol, from
where it may come, whole in the first bytes of its connection. Everything that is not is given to
uvicorn as it came, which serves it, or refuses it, the plain way.
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
from server.access.connection_limits import Crowd, Place
from server.access.rate_limits import RateClass
from server.errors import Forbidden, NotAvailable, RateLimited, ServerError, answer_for
from server.http.responses import refusal_bytes
from server.observability.counters import NOT_ACCEPTED, Tallies
from server.sockets.direct.connection import EngineConnection
from server.sockets.direct.websocket import Websocket
from server.sockets.handlers import SocketHandlers
from server.sockets.transport.stall_watch import Traffic, abort, end
from server.sockets.transport.uvicorn_http import REFUSED_SECONDS, PlainHttp

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
"""Connections without a place that may be told so at the same time."""

_REQUEST = re.compile(
    rb"GET /socket\.io/?\?([!\"$-~]+) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)+)\r\n"
)
"""A whole request and nothing behind it; the grammar is no wider than RFC 9112's.

No part can end in two ways, so that what does not match is found out in one pass.
"""


class PlainRequest(NamedTuple):
    """The fields of an upgrade request in the common form."""

    query: str
    fields: Fields
    """Names in lower case, values without white space around them."""
    accept: bytes
    """The `Sec-WebSocket-Accept` of the answer."""


def read_plain(data: bytes) -> PlainRequest | None:
    """Read the first bytes of a connection; None unless they are a request in the common form."""
    found = _REQUEST.fullmatch(data) if len(data) <= LONGEST_REQUEST_BYTES else None
    if found is None or not _is_new(found[1]):
        return None
    fields = []
    for line in found[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
    accept = accept_of(fields)
    return None if accept is None else PlainRequest(found[1].decode("ascii"), fields, accept)


def accept_of(fields: Fields) -> bytes | None:
    """The answer to a request for an upgrade (RFC 6455, 4.2); None unless it is in the common form.

    A name that comes twice, a body, a subprotocol are not common.
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
    """Whether a query asks for a new Engine.IO 4 websocket, in the words that clients use."""
    asked = query.split(b"&")
    return (
        b"EIO=4" in asked
        and b"transport=websocket" in asked
        and not any(field.startswith(b"sid=") for field in asked)
    )


class Entrance:
    """Lets connections in: a place for each, and the short way for those who may go it."""

    def __init__(
        self,
        handlers: SocketHandlers,
        authenticator: Authenticator,
        traffic: Traffic,
        crowd: Crowd,
        tallies: Tallies,
        reads: Callable[[bytes], PlainRequest | None] = read_plain,
    ) -> None:
        self.tallies = tallies
        self.reads = reads
        """Finds the requests that go the short way."""
        self.traffic = traffic
        self._handlers = handlers
        self._authenticator = authenticator
        self._crowd = crowd
        self._turned_away = 0

    def door(self) -> "type[Door]":
        """The class of the protocols that look at a connection first, for uvicorn."""
        return type("Door", (Door,), {"entrance": self})

    def enter(self, transport: Transport) -> Place:
        """A place for a connection that came in, which owes a word from now on.

        Raises RateLimited, NotAvailable.
        """
        address = site_of(_peer_of(transport) or UNKNOWN)
        try:
            place = self._crowd.enter(address, partial(abort, transport))
        except (RateLimited, NotAvailable) as error:
            self.tallies.refused[answer_for(error).code] += 1
            raise
        place.wait()
        return place

    def turn_away(self, transport: Transport, error: ServerError) -> bool:
        """Say why a connection gets no place, and whether it is still to be read from for a while.

        A client that is banned, and those beyond so many at once, are cut without a word.
        """
        banned = self._crowd.rates.is_banned(site_of(_peer_of(transport) or UNKNOWN))
        if banned or self._turned_away >= MOST_TURNED_AWAY:
            abort(transport)
            return False
        self._turned_away += 1
        # Of those who are cut there may be too many for a line each; the ban was logged.
        logger.info(
            "refused a connection of %s: %s", site_of(_peer_of(transport) or UNKNOWN), error
        )
        transport.write(refusal_bytes(error))
        transport.write_eof()
        return True

    def gone(self) -> None:
        """One of those who were turned away has gone."""
        self._turned_away -= 1

    def admit(self, request: PlainRequest, transport: Transport, place: Place) -> None:
        """Check where it comes from, and how often. Raises Forbidden, RateLimited."""
        peer = _peer_of(transport)
        scope = {"headers": request.fields, "client": None if peer is None else (peer, 0)}
        self._authenticator.check_source(scope)
        rates = self._crowd.rates
        address = rates.addresses.client(peer, Headers(raw=list(request.fields)))
        rates.check(RateClass.FAILURES, address)
        rates.spend(RateClass.HANDSHAKES, address)
        place.move(address)

    def connect(
        self,
        request: PlainRequest,
        transport: Transport,
        loop: AbstractEventLoop,
        ends: set[Any],
        place: Place,
    ) -> EngineConnection:
        """Accept it."""
        pace = self._crowd.pace(place.address)
        websocket = Websocket(transport, loop, self.traffic, ends, place, pace)
        scope = {"type": "websocket", "headers": request.fields}
        connection = EngineConnection(
            websocket, self._handlers, request.query, scope, self._crowd.allowance(place.address)
        )
        websocket.open(connection)
        # In one piece: every write is a system call.
        transport.write(ANSWER % request.accept + connection.greeting())
        return connection


class Door(asyncio.Protocol):
    """Looks at the first bytes of a connection, and gives it to who serves it."""

    entrance: ClassVar[Entrance]

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
        self._place: Place | None = None
        self._turned_away: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Wait for the first bytes, if there is a place."""
        self._transport = cast("Transport", transport)
        self._server.connections.add(cast("Any", self))
        try:
            self._place = self.entrance.enter(self._transport)
        except (RateLimited, NotAvailable) as error:
            if self.entrance.turn_away(self._transport, error):
                # Until its client has read the answer, whatever it sends meanwhile.
                self._turned_away = self._loop.call_later(REFUSED_SECONDS, abort, self._transport)

    def data_received(self, data: bytes) -> None:
        """Decide."""
        transport, place = self._transport, self._place
        if transport is None or place is None or transport.is_closing():
            return
        self._leave()
        request = self.entrance.reads(data)
        if request is None:
            plain = PlainHttp(
                self._config,
                self._server,
                self._app_state,
                self._loop,
                place,
                self.entrance.traffic,
                self.entrance.tallies,
            )
            plain.connection_made(transport)
            transport.set_protocol(plain)
            plain.data_received(data)
            return
        try:
            self.entrance.admit(request, transport, place)
        except (Forbidden, RateLimited) as error:
            self.entrance.tallies.refused[NOT_ACCEPTED] += 1
            logger.info("refused a websocket of %s: %s", place.address, error)
            self._place = place  # given up when the connection is
            transport.write(refusal_bytes(error))
            end(transport, self._loop, self.entrance.traffic)
            return
        ends: set[Any] = self._server.connections
        connection = self.entrance.connect(request, transport, self._loop, ends, place)
        task = self._loop.create_task(connection.serve())
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        """Nobody said anything that could be served."""
        if self._place is not None:
            self._place.leave()
        if self._turned_away is not None:
            self._turned_away.cancel()
            self._turned_away = None
            self.entrance.gone()
        self._leave()

    def shutdown(self) -> None:
        """The server ends. See uvicorn's protocols."""
        if self._transport is not None:
            self._transport.close()

    def _leave(self) -> None:
        self._server.connections.discard(cast("Any", self))
        self._transport = self._place = None


def nothing_plain(data: bytes) -> None:
    """Read every request as one that does not go the short way."""
    return


def _peer_of(transport: Transport) -> str | None:
    name = transport.get_extra_info("peername")
    return str(name[0]) if name else None
