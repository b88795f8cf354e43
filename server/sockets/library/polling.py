"""Checks of a polling request before the library sees it.

The library answers "OK" to a body that it could not read, and logs it at length.
"""

import re
from collections.abc import Callable, Container

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.access.client_address import peer_of
from server.access.connection_limits import ConnectionLimits
from server.access.rate_limits import names_session
from server.errors import BadRequest, ServerError, TooLarge
from server.http.responses import CLOSE, refuse_socket, response_of
from server.sockets.protocol import MAX_PACKETS
from server.sockets.transport.uvicorn_websocket import protocol_of

SEPARATOR = b"\x1e"

_PACKET = re.compile(rb"[134]|b")
"""Packets a client may post; excludes those that open a session, ping or do nothing."""


class PollingRules:
    """Checks connection limits and the packets of posted bodies before the library sees a request."""

    def __init__(
        self,
        app: ASGIApp,
        connection_limits: ConnectionLimits,
        sessions: Container[str],
        check_joins: Callable[[], None],
    ) -> None:
        self._app = app
        self._limits = connection_limits
        self._sessions = sessions
        self._check_joins = check_joins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        address = self._limits.rates.addresses.client(peer_of(scope), Headers(scope=scope))
        try:
            if not names_session(scope.get("query_string", b"")):
                self._let_in(scope, address)
            if scope["type"] == "http" and scope["method"] == "POST" and self._is_known(scope):
                receive = await _read(scope, receive)
        except ClientDisconnect:
            return
        except ServerError as error:
            if scope["type"] == "websocket":
                await refuse_socket(error, scope, receive, send)
                return
            if isinstance(error, (BadRequest, TooLarge)):
                self._limits.rates.violated(address)
            await response_of(error, CLOSE)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _let_in(self, scope: Scope, address: str) -> None:
        """Check intake and the limits for a new connection. Raises RateLimited, NotAvailable."""
        self._check_joins()
        protocol = protocol_of(scope)
        if protocol is None or protocol.admission is None:
            self._limits.check(address)
        else:  # a websocket shares the admission of its network connection
            protocol.admission.move(address)

    def _is_known(self, scope: Scope) -> bool:
        """Return whether the library will read the body; it refuses unknown sessions unread."""
        return QueryParams(scope["query_string"]).get("sid") in self._sessions


async def _read(scope: Scope, receive: Receive) -> Receive:
    """Check the whole body; return a `receive` that replays it. Raises BadRequest, TooLarge."""
    body = await Request(scope, receive).body()
    packets = body.split(SEPARATOR, MAX_PACKETS)
    if len(packets) > MAX_PACKETS:
        raise BadRequest(f"The body has more than {MAX_PACKETS} packets")
    if not all(_PACKET.match(packet) for packet in packets):
        raise BadRequest("The body must consist of Engine.IO packets")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("The body must be UTF-8 text") from error
    headers = MutableHeaders(scope=scope)
    headers["content-length"] = str(len(body))
    told = False

    async def receive_again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
