"""The doorbell's channel over Redis: PUBLISH and SUBSCRIBE. Needs the extra `redis`."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from server.cluster.doorbell import Channel, Connection
from server.cluster.wire import MOST_BYTES

CONNECT_SECONDS = 1.0
"""Also the longest that a connection may be silent: the doorbell sends twice in that time."""


class RedisChannel(Channel):
    """A channel of that name at that address; see Channel."""

    most_bytes = MOST_BYTES

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """See Channel."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        redis = Redis.from_url(
            self._url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CONNECT_SECONDS,
            # What is lost is made anew, by the doorbell.
            retry=Retry(NoBackoff(), 0),
        )
        async with redis, aclosing(redis.pubsub(ignore_subscribe_messages=True)) as heard:
            await heard.subscribe(self._name)
            yield _RedisConnection(redis, heard, self._name)


class _RedisConnection:
    """See Connection."""

    def __init__(self, redis: Redis, heard: PubSub, name: str) -> None:
        self._redis = redis
        self._heard = heard
        self._name = name

    async def send(self, message: bytes) -> None:
        """See Connection."""
        await self._redis.publish(self._name, message)

    async def receive(self) -> bytes:
        """See Connection."""
        async for message in self._heard.listen():
            return bytes(message["data"])
        raise ConnectionError("Redis ended the subscription")
