"""The doorbell's channel over PostgreSQL, for clusters without a Redis."""

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from server.cluster.doorbell import Channel, Connection
from storage.database.postgres import PostgresPool
from storage.database.postgres_notify import MOST_BYTES, Notifications


class PostgresChannel(Channel):
    """NOTIFY and LISTEN on a channel named by the schema; see Channel."""

    most_bytes = MOST_BYTES // 4 * 3  # a payload is text

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """See Channel."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        channel = f"parley_{self._pool.schema}"
        async with Notifications.listening(self._pool, channel) as notifications:
            yield _PostgresConnection(notifications)


class _PostgresConnection:
    """See Connection."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    async def send(self, message: bytes) -> None:
        """See Connection."""
        await self._notifications.send(b64encode(message).decode())

    async def receive(self) -> bytes:
        """See Connection. Bytes that no process of ours sent are given as they are."""
        payload = await self._notifications.receive()
        try:
            return b64decode(payload, validate=True)
        except ValueError:
            return payload.encode()
