"""Limits of request bodies: type, size, and the time to arrive."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.errors import StreamOverloaded
from server.errors import ServerError, TooLarge, TooSlow, UnsupportedMedia
from server.http.responses import CLOSE, response_of

ENVELOPE_BYTES = 64 * 1024
"""Bytes that JSON may add around the longest message."""
UPLOAD_BYTES = 32 * 1024 * 1024
"""Bytes of one upload, with all its files."""
HELD_BYTES = 256 * 1024 * 1024
"""Bytes of all bodies that are being received or worked on; uploads go to files and do not count."""
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
    a body, extended by a second for each 4 KiB received. Beyond `held_bytes` of all bodies the one
    that has been arriving for longest is refused, or the newest where all others are whole.
    """

    def __init__(
        self,
        app: ASGIApp,
        message_bytes: int,
        recording_bytes: int,
        seconds: float,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._app = app
        self._held = HeldBodies(held_bytes)
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
        held = None if is_upload(scope) else self._held
        bounded = LimitedBody(receive, limit, self._seconds, held)
        try:
            await self._app(scope, bounded.receive, _closing(send, bounded))
        finally:
            bounded.end()

    def _bound_of(self, scope: Scope) -> BodyLimit:
        if is_upload(scope):
            return UPLOADS
        return self._recordings if is_creation(scope) else self._messages


class HeldBodies:
    """Counts the bytes of all bodies, and refuses those that arrive slowest where they are too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._sizes: dict[LimitedBody, int] = {}
        self._arriving: dict[LimitedBody, None] = {}
        """Bodies that are not whole, the one begun first at the front."""

    def add(self, body: "LimitedBody", size: int) -> None:
        """Count bytes that have come; bodies are refused until the others fit."""
        self._total += size
        self._sizes[body] = self._sizes.get(body, 0) + size
        self._arriving.setdefault(body)
        while self._total > self._limit:
            # There is one: what is whole has fitted.
            victim = next(iter(self._arriving))
            self.give_back(victim)
            victim.refuse()

    def complete(self, body: "LimitedBody") -> None:
        """Refuse a body no more: it is whole."""
        self._arriving.pop(body, None)

    def give_back(self, body: "LimitedBody") -> None:
        """Count a body no more: its request is answered."""
        self._arriving.pop(body, None)
        self._total -= self._sizes.pop(body, 0)


class LimitedBody:
    """A request body that is being received."""

    def __init__(
        self,
        receive: Callable[[], Awaitable[Message]],
        limit: BodyLimit,
        seconds: float,
        held: HeldBodies | None,
    ) -> None:
        self.whole = False
        self.taken = 0
        """Bytes that have come."""
        self._held = held
        self._refused = False
        self._deadline: asyncio.Timeout | None = None
        self._receive = receive
        self._limit = limit
        self._seconds = seconds
        self._begun: float | None = None

    @property
    def cut_short(self) -> bool:
        """Whether the body was requested and is not complete."""
        return self._begun is not None and not self.whole

    async def receive(self) -> Message:
        """Return the next part of the body. Raises TooLarge, TooSlow, StreamOverloaded."""
        if self.whole:
            return await self._receive()
        if self._refused:
            raise _too_many()
        if self._begun is None:
            self._begun = asyncio.get_running_loop().time()
        patience = self._seconds + self.taken / SLOWEST_BYTES_PER_SECOND
        try:
            async with asyncio.timeout_at(self._begun + patience) as self._deadline:
                message = await self._receive()
        except TimeoutError as error:
            if self._refused:
                raise _too_many() from error
            raise TooSlow("The body was not received in time") from error
        finally:
            self._deadline = None
        self._count(message)
        return message

    def _count(self, message: Message) -> None:
        size = len(message.get("body", b""))
        self.taken += size
        if self.taken > self._limit.size:
            raise too_large(*self._limit)
        if self._held is not None and not self._refused:
            self._held.add(self, size)
        if self._refused:
            raise _too_many()
        self.whole = not message.get("more_body", False)
        if self.whole and self._held is not None:
            self._held.complete(self)

    def refuse(self) -> None:
        """Answer the request as overloaded, also while its next part is awaited."""
        self._refused = True
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    def end(self) -> None:
        """Give back what the body held."""
        if self._held is not None:
            self._held.give_back(self)


def _too_many() -> StreamOverloaded:
    return StreamOverloaded("Too many bodies are being received; try again later")


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
