"""One server of a cluster: what it shares with the others, opened and closed in order."""

import asyncio
import logging
import secrets
import socket
from asyncio import Task
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Protocol

from events.follower import Follower
from events.stores.base import EventStore
from events.stores.postgres.store import PostgresEventStore
from server.cluster.claims import ClusterClaims
from server.cluster.doorbell import Channel, Doorbell
from server.cluster.following import Following
from server.cluster.membership import Load, Membership
from server.cluster.postgres_channel import PostgresChannel
from server.cluster.wire import Kind
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.conversations.users import Users
from storage.config import PostgresStorage
from storage.database.postgres import PostgresPool, Sizes, number_of
from storage.errors import StorageError

logger = logging.getLogger(__name__)

EXTRA = "cluster"
CONNECTIONS = Sizes(append=1, read=2, record=2, search=1, indexing=1)
"""Beats have the one for appends to themselves; those for search are never made."""
DEADLINE_SECONDS = 5.0
CALM_SECONDS = 15.0
"""Seconds between two looks at what users have changed while the doorbell hears."""
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, and not bound


class Listener(Protocol):
    """Is told what other servers say; no call may wait, but the last one, and none may raise."""

    def loops_changed(self) -> None:
        """Another server asks something of a loop, or has given one back."""

    def head_changed(self, conversation_id: str) -> None:
        """The head of a conversation that is open here was changed, as by its deletion."""

    def noticed(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """A payload is meant for the connections of a conversation."""

    def node_died(self) -> None:
        """A server was declared dead."""

    async def declared_dead(self) -> None:
        """This server was declared dead."""


class Bell:
    """The doorbell by conversation; see `server.conversations.clustered`."""

    def __init__(self, doorbell: Doorbell) -> None:
        self._doorbell = doorbell

    def loop_changed(self, conversation_id: str) -> None:
        """Say that something about a loop has changed."""
        self._doorbell.tell(Kind.LOOPS, number_of(conversation_id))

    def look_at(self, conversation_id: str) -> None:
        """Say that a head was changed otherwise than by appending."""
        self._doorbell.look_at(number_of(conversation_id))

    def notice(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """Send a payload to the connections that a conversation has elsewhere."""
        self._doorbell.notice(conversation_id, payload)


class Node:
    """The parts over which a server in a cluster makes its conversation manager; see `open_node`."""

    def __init__(
        self, pool: PostgresPool, channel: Channel, config: ServerConfig, events: EventStore
    ) -> None:
        self._listener: Listener | None = None
        self._users: Users | None = None
        self._look_seconds = config.look_seconds
        self._tasks: set[Task[None]] = set()
        self.membership = Membership(
            pool,
            name=config.node_name or f"{socket.gethostname()}:{config.port}",
            url=config.node_url or _address_of(config),
            version=version("parley-server"),
            lease_seconds=config.lease_seconds,
            tell=self._load,
        )
        self.claims = ClusterClaims(
            pool, self.membership, slots=config.max_concurrent_conversations
        )
        self.follower = Follower(events, look_seconds=config.look_seconds)
        self.following = Following(
            self.follower,
            number_of,
            changed=self._head_changed,
            told=self._told,
            noticed=self._noticed,
        )
        self.doorbell = Doorbell(
            channel, self.following, incarnation=secrets.randbits(63), answers=self.membership.holds
        )
        self.bell = Bell(self.doorbell)

    def listen(self, listener: Listener) -> None:
        """Tell the listener from now on what other servers say."""
        self._listener = listener
        self.membership.watch(listener)

    def serve(self, users: Users) -> None:
        """Tell other servers of what users change here, and read what they change there."""
        self._users = users
        users.on_change = self._change

    async def read_users(self) -> None:
        """Read again and again what is kept of users, as a ring may be lost."""
        while True:
            await asyncio.sleep(CALM_SECONDS if self.doorbell.hears else self._look_seconds)
            if self._users is not None:
                await self._read_again(self._users, self._users.present)

    def _change(self, user_id: str | None) -> None:
        self.doorbell.tell(Kind.OWNERS, _number_of_user(user_id))

    async def _read_again(self, users: Users, user_ids: Sequence[str | None]) -> None:
        for user_id in user_ids:
            try:
                await users.read_again(user_id)
            except StorageError as error:
                logger.warning("cannot read what another server may have changed: %s", error)
            except Exception:
                logger.exception("cannot read what another server may have changed")

    def others_answer(self) -> bool:
        """Return whether another server has said lately that its storage answers."""
        return self.doorbell.others_answer

    def _load(self) -> Load:
        return Load(hears=self.doorbell.hears)

    def _told(self, kind: Kind, numbers: Sequence[int], _values: Sequence[int]) -> None:
        if self._users is not None and kind is Kind.OWNERS:
            changed = [one for one in self._users.present if _number_of_user(one) in numbers]
            if changed:
                task = asyncio.get_running_loop().create_task(
                    self._read_again(self._users, changed)
                )
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if self._listener is not None and kind is Kind.LOOPS:
            self._listener.loops_changed()

    def _head_changed(self, conversation_id: str) -> None:
        if self._listener is not None:
            self._listener.head_changed(conversation_id)

    def _noticed(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        if self._listener is not None:
            self._listener.noticed(conversation_id, payload)


@asynccontextmanager
async def open_node(config: ServerConfig, events: EventStore) -> AsyncIterator[Node]:
    """Enter the cluster of servers that share a schema, and leave it at the end of the block.

    The storage is open. Raises ConfigError without what `redis_url` needs, StorageError.
    """
    storage = config.storage
    if not isinstance(storage, PostgresStorage) or not isinstance(events, PostgresEventStore):
        raise ConfigError("nodes: many servers can share storage = postgres only")
    direct = storage.direct_url or storage.url
    pool = PostgresPool(
        direct.get_secret_value(),
        schema=storage.schema_name,
        sizes=CONNECTIONS,
        pooler=storage.pooler and storage.direct_url is None,
        deadline_seconds=min(DEADLINE_SECONDS, config.lease_seconds),
    )
    try:
        node = Node(pool, _channel(config, pool), config, events)
        async with node.membership, node.doorbell, _running(node):
            events.appended = node.doorbell.ring
            try:
                yield node
            finally:
                events.appended = None
    finally:
        await pool.close()


@asynccontextmanager
async def _running(node: Node) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    running: list[Task[None]] = [
        loop.create_task(node.follower.run()),
        loop.create_task(node.read_users()),
    ]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        await node.follower.close()


def _number_of_user(user_id: str | None) -> int:
    return number_of("nobody" if user_id is None else f"user {user_id}")


def _address_of(config: ServerConfig) -> str:
    """Return the address at which a server is likely to be reached."""
    host = socket.gethostname() if config.host in EVERY_ADDRESS else config.host
    return f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"


def _channel(config: ServerConfig, pool: PostgresPool) -> Channel:
    if config.redis_url is None:
        return PostgresChannel(pool)
    try:
        from server.cluster.redis_channel import RedisChannel  # noqa: PLC0415 - with that setting only
    except ImportError as error:
        raise ConfigError(
            f"redis_url: Redis needs the extra `{EXTRA}`: pip install 'parley-server[{EXTRA}]' ({error})"
        ) from error
    return RedisChannel(config.redis_url.get_secret_value(), f"parley:{pool.schema}")
