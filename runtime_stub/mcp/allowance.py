"""The bounds of what a tool server may send for one call, held by the stream that is read from it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCRequest

from runtime_stub.errors import RuntimeFloorError

MOST_BYTES = 8 * 1024 * 1024
"""Bytes that a server may send for one call, and so in one message."""
MOST_BYTES_FIRST = 2 * 1024 * 1024
"""Bytes that it may send to be connected, the description of all its tools among them."""
MOST_MESSAGES = 5_000
"""Messages that it may send for one call: its answer, and notifications before it."""
MARKS = b",[{\n\r"
"""Characters of which each value that is read from JSON, and each line, has about one."""
MOST_MARKS = 200_000
"""Such characters in what it sends for one call: reading that many values takes a tenth of a second."""
MOST_RESPONSES = 200
"""Responses of HTTP for one call, the server's own streams among them: a stream that ends is asked for again."""
MOST_REQUESTS = 100
"""Requests of the server's own among its messages, each of which is answered, if only by a refusal."""
REFILL_SECONDS = 200.0
"""Seconds in which all of this is allowed again, for a server that is idle and says so now and then."""
MOST: Mapping[str, int] = {
    "bytes": MOST_BYTES,
    "marks": MOST_MARKS,
    "messages": MOST_MESSAGES,
    "requests": MOST_REQUESTS,
    "responses": MOST_RESPONSES,
}
TOO_MUCH = "it sends more than a call needs"
TOO_MUCH_FIRST = "it sends more than the description of its tools needs"
TOO_OFTEN = "it ends its responses again and again"
NO_MCP = "it does not speak MCP"

Streams: TypeAlias = tuple[Any, Any]
"""What a transport of the SDK yields: messages that are received, and those to send."""


class TooMuch(RuntimeFloorError):
    """A server sends more than any call needs."""


class Allowance:
    """Counts what one server sends, anew for each call; `over` is set once nothing more comes.

    `end` is called where the connection is to end, and `fault` says why if the server is cut off.
    """

    def __init__(
        self, end: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.over = asyncio.Event()
        self.fault = ""
        """What is to be said of the server where nothing more is read from it."""
        self._end = end
        self._too_much = TOO_MUCH_FIRST
        self._most: Mapping[str, int] = {**MOST, "bytes": MOST_BYTES_FIRST}
        self._left: dict[str, float] = dict(self._most)
        self._clock = clock
        self._taken_at = clock()

    def renew(self) -> None:
        """Allow as much again: something is asked of the server."""
        self._too_much, self._most, self._left = TOO_MUCH, MOST, dict(MOST)

    def read(self, received: bytes) -> None:
        """Count bytes before anything is made of them. Raises TooMuch."""
        # Longer ones than are allowed are not looked through.
        is_allowed = len(received) <= self._left["bytes"]
        marks = sum(map(received.count, MARKS)) if is_allowed else 0
        self._take(bytes=len(received), marks=marks)

    def hear(self, message: object) -> None:
        """Count a message. Raises TooMuch."""
        asks = isinstance(message, SessionMessage) and isinstance(message.message, JSONRPCRequest)
        self._take(messages=1, requests=int(asks))

    def respond(self) -> None:
        """Count a response. Raises TooMuch."""
        self._take(TOO_OFTEN, responses=1)

    def _take(self, fault: str = "", **taken: int) -> None:
        now = self._clock()
        part = (now - self._taken_at) / REFILL_SECONDS
        self._taken_at = now
        for name, most in self._most.items():
            left = min(self._left[name] + part * most, most)
            self._left[name] = left - taken.get(name, 0)
        if min(self._left.values()) < 0:
            self.refuse(fault)

    def refuse(self, fault: str = "") -> NoReturn:
        """Cut the server off. Raises TooMuch."""
        self.fault = self.fault or fault or self._too_much
        self.stop()
        raise TooMuch

    def stop(self) -> None:
        """End the connection, which is of no use any more."""
        self.over.set()
        self._end()

    @asynccontextmanager
    async def counted(self, transport: AbstractAsyncContextManager[Streams]) -> AsyncIterator[Any]:
        """Yield the streams of a transport; what is received is counted."""
        async with transport as (received, sent):
            yield _Counted(received, self), sent


class _Counted:
    """The messages that are received from a server, up to what is allowed; then they end."""

    def __init__(self, received: Any, allowance: Allowance) -> None:
        self._received = received
        self._allowance = allowance

    @property
    def last_context(self) -> Any:
        """The context of the message received last, where the transport has one."""
        return getattr(self._received, "last_context", None)

    async def receive(self) -> Any:
        """Return the next message. Raises what the stream raises, EndOfStream for too many."""
        try:
            message = await self._received.receive()
            self._allowance.hear(message)
        except TooMuch:
            raise anyio.EndOfStream from None
        except BaseException:
            self._allowance.over.set()
            raise
        return message

    async def aclose(self) -> None:
        """Close the stream."""
        self._allowance.over.set()
        await self._received.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
