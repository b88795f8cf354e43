"""The bounds of what a tool server may send for one call, held by the stream that is read from it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeAlias

import anyio

from runtime_stub.errors import RuntimeFloorError

MOST_BYTES = 8 * 1024 * 1024
"""Bytes that a server may send for one call, and so in one message."""
MOST_MESSAGES = 5_000
"""Messages that it may send for one call: its answer, and notifications before it."""
TOO_MUCH = "it sends more than a call needs"
NO_MCP = "it does not speak MCP"

Streams: TypeAlias = tuple[Any, Any]
"""What a transport of the SDK yields: messages that are received, and those to send."""


class TooMuch(RuntimeFloorError):
    """A server sends more than any call needs."""


class Allowance:
    """Counts what one server sends, anew for each call; `over` is set once nothing more comes."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.fault = ""
        """What is to be said of the server where nothing more is read from it."""
        self._bytes_left = MOST_BYTES
        self._messages_left = MOST_MESSAGES

    def renew(self) -> None:
        """Allow as much again: something is asked of the server."""
        self._bytes_left, self._messages_left = MOST_BYTES, MOST_MESSAGES

    def take(self, *, size: int = 0, messages: int = 0) -> None:
        """Count bytes and messages. Raises TooMuch."""
        self._bytes_left -= size
        self._messages_left -= messages
        if self._bytes_left < 0 or self._messages_left < 0:
            self.fault = TOO_MUCH
            raise TooMuch

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
            self._allowance.take(messages=1)
        except TooMuch:
            self._allowance.over.set()
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
