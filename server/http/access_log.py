"""The access log: id, duration and status of every request."""

import asyncio
import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars, unbind_contextvars

from server.observability.counters import NOT_ACCEPTED, RequestLabels, ServerCounters

logger = structlog.get_logger(__name__)

QUIET = frozenset(("/alive", "/health", "/ready", "/metrics", "/socket.io"))
"""Routes that are asked all the time."""
PAGES = frozenset(
    ("/{path:path}", "/admin", "/admin/assets/{path:path}", "/docs", "/docs/{path:path}")
)
"""Routes of pages and their files, dozens per visit; logged at `debug` unless refused."""
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
UNMATCHED = "unmatched"
"""The route label of a request that was answered before its route was known, or has none."""
REFUSED, FAULT = 400, 500
CLIENT_GONE = 499
"""The status of a request whose client did not wait for the answer."""
REFUSING = ("websocket.close", "websocket.http.response.start")

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def route_of(scope: Scope) -> str:
    """Return the path template of the route that serves a request, once it is known."""
    return getattr(scope.get("route"), "path", UNMATCHED)


def method_of(scope: Scope) -> str:
    """Return the method if it is a known one, else `other`."""
    method: str = scope["method"]
    return method if method in METHODS else "other"


class AccessLog:
    """Assigns each request an id, in log lines and as X-Request-ID, counts it and logs one line.

    It is the outermost middleware, so that refused requests are included. Of websockets it counts
    and logs only those that are not accepted.
    """

    def __init__(self, app: ASGIApp, server_counters: ServerCounters, *, access_log: bool) -> None:
        self._app = app
        self._server_counters = server_counters
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] == "websocket":
            await self._app(scope, receive, self._watch_refusal(send))
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        status = FAULT
        began = time.perf_counter()
        answered: float | None = None

        async def send_identified(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if headers.get("content-type", "").startswith("text/event-stream"):
                    # It lasts as long as the client likes: what counts is how soon it began.
                    answered = time.perf_counter()
            await send(message)

        with bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_identified)
            except asyncio.CancelledError:
                status = CLIENT_GONE
                raise
            except ClientDisconnect:
                status = CLIENT_GONE
                logger.debug("the client disconnected before its request was complete")
            except Exception:
                status = FAULT
                raise
            finally:
                seconds = (answered or time.perf_counter()) - began
                self._note(RequestLabels(method_of(scope), route_of(scope), status), seconds)
                unbind_contextvars("conversation_id")  # bound by the route, if at all

    def _note(self, request: RequestLabels, seconds: float) -> None:
        self._server_counters.answered(request, seconds)
        if self._access_log:
            served = request.route in PAGES and request.status < REFUSED
            write = logger.debug if served or request.route in QUIET else logger.info
            write("request", **request._asdict(), ms=round(seconds * 1000, 2))

    def _watch_refusal(self, send: Send) -> Send:
        accepted = False

        async def send_watched(message: Message) -> None:
            nonlocal accepted
            accepted = accepted or message["type"] == "websocket.accept"
            if message["type"] in REFUSING and not accepted:
                accepted = True
                self._server_counters.refused[NOT_ACCEPTED] += 1
                if self._access_log:
                    logger.info("refused a websocket", status=message.get("status"))
            await send(message)

        return send_watched
