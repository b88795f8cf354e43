"""PostgreSQL's NOTIFY as a channel between processes, over a connection of its own.

Not in the transactions of appends: each that notifies takes a lock of the whole server until it is
committed, which made 16 writers five times as slow.
"""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from storage.database.outcomes import translated
from storage.database.postgres import PostgresPool
from storage.database.postgres_hosts import in_time
from storage.database.postgres_lock import KEEPALIVES
from storage.errors import Unavailable

if TYPE_CHECKING:
    import asyncpg

MOST_BYTES = 7_999
"""The longest payload that PostgreSQL takes."""
MOST_WAITING = 10_000
"""Payloads that wait to be received; the oldest are dropped."""
DEADLINE_SECONDS = 2.0
SETTINGS = f"{KEEPALIVES}; SET synchronous_commit = off"
"""A notification that is lost in a crash of the server is lost; nobody waits for the disk."""


class Notifications:
    """A connection that listens to one channel and notifies it, also itself."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", channel: str) -> None:
        self._connection = connection
        self._channel = channel
        self._received: deque[str] = deque(maxlen=MOST_WAITING)
        self._lost = False
        self._waiter: Future[None] | None = None

    @classmethod
    @asynccontextmanager
    async def listening(cls, pool: PostgresPool, channel: str) -> "AsyncIterator[Notifications]":
        """Listen past the pooler within the block. Raises Unavailable."""
        connection = await pool.connect_directly()
        found = cls(connection, channel)
        try:
            await found._listen()
            yield found
        finally:
            connection.terminate()

    async def send(self, payload: str) -> None:
        """Notify the channel. Raises Unavailable."""
        try:
            with in_time(self._connection, DEADLINE_SECONDS):
                await self._connection.execute("SELECT pg_notify($1, $2)", self._channel, payload)
        except Exception as error:  # see the driver's habits in storage.database.postgres
            raise translated(error, sure=True) from error

    async def receive(self) -> str:
        """Return the next payload, in order from each sender. Raises Unavailable once it is lost."""
        while not self._received:
            if self._lost:
                raise Unavailable("the connection that listens is lost")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._received.popleft()

    async def _listen(self) -> None:
        connection = self._connection
        connection.add_termination_listener(self._end)
        try:
            with in_time(connection, DEADLINE_SECONDS):
                await connection.execute(SETTINGS)
                await connection.add_listener(self._channel, self._notified)
        except Exception as error:
            raise translated(error, sure=True) from error

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._received.append(str(payload))
        self._wake()

    def _end(self, _connection: object) -> None:
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
