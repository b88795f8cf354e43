"""The middleware around every route: headers, access checks, body limits, error responses."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.errors import EventsError
from runtime_stub.errors import RuntimeFloorError
from server.access.auth import KEY_HEADER, Authenticator, Owner
from server.access.client_address import peer_of
from server.access.rate_limits import RateClass, RateLimits, names_session
from server.config.settings import ServerConfig
from server.errors import (
    Answer,
    Forbidden,
    NotFound,
    ServerError,
    Unauthorized,
    answer_for,
)
from server.http.access_log import AccessLog, route_of
from server.http.body_limits import WRITING, BodyLimits, is_api, is_upload
from server.http.responses import error_response, refuse_socket, response_of, send_refusal
from server.http.security_headers import PROTECTION, TRANSPORT_SECURITY, ProtectiveHeaders
from server.observability.counters import ServerCounters
from server.user_code import exceptions_only
from storage.errors import StorageError

logger = logging.getLogger(__name__)

FAULT = 500
"""HTTP statuses from here on are the server's own fault and are logged."""
CODES: Mapping[int, str] = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    422: "invalid_body",
}
NO_WEBSOCKET = "There is no websocket at this address; see /socket.io/"
TEXTS: Mapping[int, str] = {404: "There is nothing at this address"}

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def middleware(
    config: ServerConfig,
    authenticator: Authenticator,
    rates: RateLimits,
    server_counters: ServerCounters,
) -> list[Middleware]:
    """Return the middleware of every request, outermost first. It knows nothing of the routes."""
    headers_to_set = {**PROTECTION, **(TRANSPORT_SECURITY if config.https else {})}
    return [
        Middleware(AccessLog, server_counters, access_log=config.access_log),
        Middleware(ProtectiveHeaders, headers_to_set),
        Middleware(AccessControl, authenticator, rates),
        Middleware(UnhandledErrors),
        Middleware(
            BodyLimits,
            config.max_message_bytes,
            config.max_recording_bytes,
            config.handshake_seconds,
        ),
    ]


def exception_handlers() -> dict[Any, Callable[[Request, Exception], Any]]:
    """Return the handlers that turn a route's errors into the error body."""
    kinds = (
        HTTPException,
        ServerError,
        EventsError,
        StorageError,
        RuntimeFloorError,
        TimeoutError,
    )
    return dict.fromkeys(kinds, _answer)


class AccessControl:
    """Checks rates, hosts, origins and, under /api, keys; identifies the owner.

    Sockets are refused before they are accepted, over HTTP. The owner a request acts for is in the
    scope's state; connections are asked for theirs when they join. Origins that may use the server
    are told so (CORS), refused ones are answered 403 and not served. An address that has shown too
    many wrong keys is not asked for another.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator, rates: RateLimits) -> None:
        self._app = app
        self._authenticator = authenticator
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        address = self._rates.addresses.client(peer_of(scope), headers)
        kind = rate_class(scope)
        # Administration has a door of its own, which also records what it refuses.
        admin = scope["type"] == "http" and _is_admin(scope)
        try:
            if admin:
                self._rates.spend(kind, address)
            else:
                self._check(scope, kind, address)
        except ServerError as error:
            if scope["type"] == "websocket":
                await refuse_socket(error, scope, receive, send)
                return
            if not isinstance(error, Forbidden):
                send = _with_cors(send, headers.get("origin"))
            await response_of(error)(scope, receive, send)
            return
        if scope["type"] == "http" and not admin:
            await self._serve(scope, receive, _with_cors(send, headers.get("origin")))
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope, kind: RateClass, address: str) -> None:
        self._authenticator.check_source(scope)
        self._rates.spend(kind, address)
        if kind is RateClass.HANDSHAKES or is_api(scope):
            self._rates.check(RateClass.FAILURES, address)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight_response(headers)(scope, receive, send)
            return
        if is_api(scope):
            try:
                owner = await self._owner(scope, headers)
            except ServerError as error:
                await response_of(error)(scope, receive, send)
                return
            scope.setdefault("state", {})["owner"] = owner
        await self._app(scope, receive, send)

    async def _owner(self, scope: Scope, headers: Headers) -> Owner:
        try:
            self._authenticator.check_key(headers)
        except Unauthorized:
            if headers.get(KEY_HEADER):
                address = self._rates.addresses.client(peer_of(scope), headers)
                self._rates.note(RateClass.FAILURES, address)
            raise
        owner = await self._authenticator.owner(scope)
        if owner is not None:
            self._rates.spend_owner(rate_class(scope), owner)
        return owner


def rate_class(scope: Scope) -> RateClass:
    """Return the rate class of a request."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    if path.startswith("/socket.io"):
        continues = names_session(scope.get("query_string", b""))
        return RateClass.POLLS if continues else RateClass.HANDSHAKES
    if scope["type"] == "websocket" or scope["method"] not in WRITING:
        return RateClass.SEARCHES if path == "/api/search" else RateClass.READS
    if is_upload(scope):
        return RateClass.UPLOADS
    if path == "/api/conversations":
        return RateClass.CREATIONS
    return RateClass.WRITES


class UnhandledErrors:
    """Answers unhandled exceptions, and websockets at paths without one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] == "websocket":
            await self._app(scope, receive, _with_error_body(scope, send))
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            # Classes that settings name may raise anything, SystemExit as well.
            await exceptions_only(partial(self._app, scope, receive, send_watched))
        except ClientDisconnect:
            raise  # the client has left: there is no one to answer
        except Exception as error:
            if started:
                # Only a broken connection tells the client that the answer is not whole.
                raise
            logger.exception("%s %s failed", scope["method"], route_of(scope))
            await error_response(answer_for(error))(scope, receive, send_watched)


def _with_error_body(scope: Scope, send: Send) -> Send:
    accepted = False

    async def send_with_body(message: Message) -> None:
        nonlocal accepted
        accepted = accepted or message["type"] != "websocket.close"
        if accepted:
            await send(message)
        else:
            await send_refusal(response_of(NotFound(NO_WEBSOCKET)), scope, send)

    return send_with_body


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, "http_error")
        text = TEXTS.get(error.status_code, error.detail)
        return error_response(Answer(error.status_code, code, text), error.headers)
    answer = answer_for(error)
    if answer.status >= FAULT:
        level = logging.ERROR if answer.status == FAULT else logging.WARNING
        logger.log(level, "%s %s: %r", request.method, route_of(request.scope), error)
    return response_of(error)


def _is_admin(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.startswith("/api/admin/")


def _with_cors(send: Send, origin: str | None) -> Send:
    async def send_shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.add_vary_header("Origin")
            if origin is not None:
                headers["access-control-allow-origin"] = origin
                headers["access-control-allow-credentials"] = "true"
                headers["access-control-expose-headers"] = "Retry-After, X-Request-ID"
        await send(message)

    return send_shared


def _preflight_response(headers: Headers) -> Response:
    allowed = {
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": headers.get("access-control-request-headers", ""),
        "access-control-max-age": "600",
    }
    return Response(status_code=204, headers=allowed)
