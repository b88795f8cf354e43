"""A channel between doorbells of one process, as unreliable as it is told to be."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from server.cluster.doorbell import Channel, Connection
from server.cluster.wire import Kind


class Exchange(Channel):
    """Gives every message to every connection.

    `carries` is asked how often a message arrives: 0 loses it. While `answers` is False sending
    takes for ever, and while `is_up` is False nobody can connect.
    """

    most_bytes = 7_999

    def __init__(self) -> None:
        self.carries: Callable[[bytes], int] = lambda _: 1
        self.answers = True
        self.is_up = True
        self.sent: list[bytes] = []
        self._queues: list[asyncio.Queue[bytes | None]] = []

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """See Channel."""
        return self._connected()

    def deliver(self, message: bytes) -> None:
        """Give a message to every connection, whoever it is of."""
        for queue in self._queues:
            queue.put_nowait(message)

    def cut(self) -> None:
        """End all connections, and let nobody connect."""
        self.is_up = False
        for queue in self._queues:
            queue.put_nowait(None)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        if not self.is_up:
            raise ConnectionError("nobody is there")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._queues.append(queue)
        try:
            yield _Connection(self, queue)
        finally:
            self._queues.remove(queue)


class _Connection:
    """See Connection."""

    def __init__(self, exchange: Exchange, queue: "asyncio.Queue[bytes | None]") -> None:
        self._exchange = exchange
        self._queue = queue

    async def send(self, message: bytes) -> None:
        """See Connection."""
        if not self._exchange.answers:
            await asyncio.Event().wait()
        self._exchange.sent.append(message)
        for _ in range(self._exchange.carries(message)):
            self._exchange.deliver(message)

    async def receive(self) -> bytes:
        """See Connection."""
        message = await self._queue.get()
        if message is None:
            raise ConnectionError("the connection was cut")
        return message


class Heard:
    """A hearer that remembers what it was told; see Hearer."""

    def __init__(self) -> None:
        self.rings: dict[int, int] = {}
        self.order: list[tuple[int, int]] = []
        self.tellings: list[tuple[Kind, int, int]] = []
        self.notices: list[tuple[str, Mapping[str, Any]]] = []
        self.hearing: list[bool] = []
        self.misses = 0

    def rung(self, numbers: Sequence[int], positions: Sequence[int]) -> None:
        """See Hearer."""
        self.order += zip(numbers, positions, strict=True)
        self.rings |= dict(zip(numbers, positions, strict=True))

    def told(self, kind: Kind, numbers: Sequence[int], values: Sequence[int]) -> None:
        """See Hearer."""
        self.tellings += [
            (kind, number, value) for number, value in zip(numbers, values, strict=True)
        ]

    def noticed(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """See Hearer."""
        self.notices.append((conversation_id, payload))

    def heard(self, *, hears: bool) -> None:
        """See Hearer."""
        self.hearing.append(hears)

    def missed(self) -> None:
        """See Hearer."""
        self.misses += 1
