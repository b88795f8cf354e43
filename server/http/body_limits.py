"""Limits of request bodies: type, size, and the time to arrive."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ServerError, TooLarge, TooSlow, UnsupportedMedia
from server.http.responses import CLOSE, response_of

ENVELOPE_BYTES = 64 * 1024
"""Bytes that JSON may add around the longest message."""
UPLOAD_BYTES = 32 * 1024 * 1024
"""Bytes of one upload, with all its files."""
SLOWEST_BYTES_PER_SECOND = 4096
"""Rate below which a body, after the first seconds, is no longer waited for."""
LONGEST_NUMBER = 18
"""Digits of a length that is read at all."""
WRITING = frozenset(("POST", "PUT", "PATCH", "DELETE"))

_UPLOAD = re.compile(r"/api/conversations/[^/]+/upload-files")


class BodyLimit(NamedTuple):
    """The maximum size of a body in bytes, and the setting that defines it, if any."""

    size: int
    setting: str | None = None


UPLOADS = BodyLimit(UPLOAD_BYTES)


class BodyLimits:
    """Limits bodies, and requires JSON (or an upload) for requests that may change state.

    A form of another site could send other types without a preflight. `seconds` is the deadline for
    a body, extended by a second for each 4 KiB received.
    """

    def __init__(
        self, app: ASGIApp, message_bytes: int, recording_bytes: int, seconds: float
    ) -> None:
        self._app = app
        self._messages = BodyLimit(message_bytes + ENVELOPE_BYTES, "max_message_bytes")
        self._recordings = BodyLimit(
            max(message_bytes, recording_bytes) + ENVELOPE_BYTES, "max_recording_bytes"
        )
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._bound_of(scope)
        try:
            _check(scope, headers, limit)
        except ServerError as error:
            await response_of(error, CLOSE)(scope, receive, send)
            return
        bounded = LimitedBody(receive, limit, self._seconds)
        await self._app(scope, bounded.receive, _closing(send, bounded))

    def _bound_of(self, scope: Scope) -> BodyLimit:
        if is_upload(scope):
            return UPLOADS
        return self._recordings if is_creation(scope) else self._messages


class LimitedBody:
    """A request body that is being received."""

    def __init__(
        self, receive: Callable[[], Awaitable[Message]], limit: BodyLimit, seconds: float
    ) -> None:
        self.whole = False
        self._receive = receive
        self._limit = limit
        self._seconds = seconds
        self._taken = 0
        self._begun: float | None = None

    @property
    def cut_short(self) -> bool:
        """Whether the body was requested and is not complete."""
        return self._begun is not None and not self.whole

    async def receive(self) -> Message:
        """Return the next part of the body. Raises TooLarge, TooSlow."""
        if self.whole:
            return await self._receive()
        if self._begun is None:
            self._begun = asyncio.get_running_loop().time()
        patience = self._seconds + self._taken / SLOWEST_BYTES_PER_SECOND
        try:
            async with asyncio.timeout_at(self._begun + patience):
                message = await self._receive()
        except TimeoutError as error:
            raise TooSlow("The body was not received in time") from error
        self._taken += len(message.get("body", b""))
        if self._taken > self._limit.size:
            raise too_large(*self._limit)
        self.whole = not message.get("more_body", False)
        return message


def media_type_of(content_type: str | None) -> str:
    """Return a Content-Type without its parameters, in lower case; "" when absent."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_api(scope: Scope) -> bool:
    """Return whether a request requires the session key."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == "/api" or path.startswith("/api/")


def is_upload(scope: Scope) -> bool:
    """Return whether a request may upload files."""
    return _UPLOAD.fullmatch(scope["path"]) is not None


def is_creation(scope: Scope) -> bool:
    """Return whether a request creates a conversation, whose body may contain a recording."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] == "POST" and path.rstrip("/") == "/api/conversations"


def _check(scope: Scope, headers: Headers, limit: BodyLimit) -> None:
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and (len(announced) > LONGEST_NUMBER or int(announced) > limit.size):
        raise too_large(*limit)
    if scope["method"] in WRITING and is_api(scope):
        demanded = "multipart/form-data" if is_upload(scope) else "application/json"
        has_body = announced != "0" or "transfer-encoding" in headers
        given = headers.get("content-type")
        if (has_body or given is not None) and media_type_of(given) != demanded:
            raise UnsupportedMedia(f"The body must be {demanded}")


def too_large(size: int, setting: str | None) -> TooLarge:
    """Return the refusal of a body above `size` bytes, which names the setting that allows more."""
    hint = "" if setting is None else f"; raise the setting {setting} to permit more"
    return TooLarge(f"The body exceeds {size // 1024} KiB{hint}")


def _closing(send: Send, body: LimitedBody) -> Send:
    """Say with an answer that comes before the body is whole that the connection ends with it."""

    async def send_closing(message: Message) -> None:
        if message["type"] == "http.response.start" and body.cut_short:
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        await send(message)

    return send_closing
