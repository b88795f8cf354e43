"""What surrounds every route: headers, the gate, bounds of bodies, answers to errors."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.errors import EventsError
from runtime_stub.errors import RuntimeFloorError
from server.auth import Authenticator
from server.config import ServerConfig
from server.errors import Answer, Forbidden, ServerError, TooLarge, UnsupportedMedia, answer_for
from server.requests import Noted, route_of
from server.tallies import Tallies
from storage.errors import StorageError

logger = logging.getLogger(__name__)

FAULT = 500
"""HTTP statuses from here on are the server's own fault and are logged."""
ENVELOPE_BYTES = 64 * 1024
"""What JSON may add around the longest message."""
UPLOAD_BYTES = 32 * 1024 * 1024
"""Bytes of one upload, all its files together."""
PROTECTION: Mapping[str, str] = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
"""Set on every answer whose route has not said otherwise."""
REFUSED_HANDSHAKE = 1008
CODES: Mapping[int, str] = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    422: "invalid_body",
}
TEXTS: Mapping[int, str] = {404: "There is nothing at this address"}

_UPLOAD = re.compile(r"/api/conversations/[^/]+/upload-files")
_WRITING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def middleware(
    config: ServerConfig, authenticator: Authenticator, tallies: Tallies
) -> list[Middleware]:
    """What every request passes, outermost first. Knows nothing of the routes."""
    limit = config.max_message_bytes + ENVELOPE_BYTES
    return [
        Middleware(Noted, tallies, access_log=config.access_log),
        Middleware(ProtectiveHeaders),
        Middleware(Gate, authenticator),
        Middleware(Unforeseen),
        Middleware(BodyRules, limit),
    ]


def exception_handlers() -> dict[Any, Callable[[Request, Exception], Any]]:
    """How errors that a route raises become the one error body."""
    kinds = (
        HTTPException,
        ServerError,
        EventsError,
        StorageError,
        RuntimeFloorError,
        TimeoutError,
    )
    return dict.fromkeys(kinds, _answer)


class ProtectiveHeaders:
    """Adds the headers of PROTECTION to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PROTECTION.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_protected)


class Gate:
    """Refuses foreign hosts, origins and, under /api, wrong keys; says who asks.

    Sockets are refused before they are accepted, which a client sees as HTTP 403. The principal of
    a request is in the scope's state; connections are asked for theirs when they join. Origins that may use the server are told so (CORS), refused ones are
    answered 403 and not served.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http" and _is_admin(scope):
            # Administration has a door of its own, which also records what it refuses.
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._authenticator.check_source(headers)
        except Forbidden as error:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": REFUSED_HANDSHAKE})
            else:
                await error_response(answer_for(error))(scope, receive, send)
            return
        if scope["type"] == "http":
            send = _with_cors(send, headers.get("origin"))
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await _preflight_response(headers)(scope, receive, send)
                return
            if _is_api(scope):
                try:
                    self._authenticator.check_key(headers)
                    principal = await self._authenticator.principal(scope)
                except ServerError as error:
                    await error_response(answer_for(error))(scope, receive, send)
                    return
                scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


class Unforeseen:
    """Answers what nobody foresaw."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        except Exception as error:
            if started:
                # Only a broken connection tells the client that the answer is not whole.
                raise
            logger.exception("%s %s failed", scope["method"], route_of(scope))
            await error_response(answer_for(error))(scope, receive, send_watched)


class BodyRules:
    """Bounds what is sent, and takes nothing but JSON (or an upload) where state may change.

    A form of another site could send the other types without asking first.
    """

    def __init__(self, app: ASGIApp, json_bytes: int) -> None:
        self._app = app
        self._json_bytes = json_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        upload = _UPLOAD.fullmatch(scope["path"]) is not None
        limit = UPLOAD_BYTES if upload else self._json_bytes
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > limit:
            refusal = answer_for(_too_large(limit))
            await error_response(refusal)(scope, receive, send)
            return
        if scope["method"] in _WRITING and _is_api(scope):
            demanded = "multipart/form-data" if upload else "application/json"
            has_body = announced != "0" or "transfer-encoding" in headers
            given = headers.get("content-type")
            if (has_body or given is not None) and media_type_of(given) != demanded:
                unfit = UnsupportedMedia(f"The body must be {demanded}")
                await error_response(answer_for(unfit))(scope, receive, send)
                return
        taken = 0

        async def receive_bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, receive_bounded, send)


def media_type_of(content_type: str | None) -> str:
    """The type of a Content-Type header without parameters, in lower case; "" when absent."""
    return (content_type or "").partition(";")[0].strip().lower()


def error_response(answer: Answer, headers: Mapping[str, str] | None = None) -> Response:
    """The one error body."""
    return Response(
        orjson.dumps(answer.body()), answer.status, headers, media_type="application/json"
    )


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, "http_error")
        text = TEXTS.get(error.status_code, error.detail)
        return error_response(Answer(error.status_code, code, text), error.headers)
    answer = answer_for(error)
    if answer.status >= FAULT:
        logger.warning("%s %s: %r", request.method, route_of(request.scope), error)
    return error_response(answer)


def _is_api(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == "/api" or path.startswith("/api/")


def _is_admin(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.startswith("/api/admin/")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body exceeds {limit // 1024} KiB")


def _with_cors(send: Send, origin: str | None) -> Send:
    async def send_shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.add_vary_header("Origin")
            if origin is not None:
                headers["access-control-allow-origin"] = origin
                headers["access-control-allow-credentials"] = "true"
                headers["access-control-expose-headers"] = "X-Request-ID"
        await send(message)

    return send_shared


def _preflight_response(headers: Headers) -> Response:
    allowed = {
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": headers.get("access-control-request-headers", ""),
        "access-control-max-age": "600",
    }
    return Response(status_code=204, headers=allowed)
