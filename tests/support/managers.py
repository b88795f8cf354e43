"""Conversation managers over one storage, as many as there are nodes, and clients of any of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import orjson

from events.event import StoredEvent
from events.stores.base import EventStore
from events.stores.memory import MemoryEventStore
from server.cluster.node import open_node
from server.config.settings import ServerConfig
from server.conversations.clustered import ClusteredConversationManager
from server.conversations.connections import ConnectionRegistry
from server.conversations.conversation import ServerConversation
from server.conversations.manager import Accepted, ConversationManager
from server.conversations.standalone import StandaloneConversationManager
from storage.conversations.base import ConversationStores
from storage.conversations.memory import MemoryConversations
from storage.conversations.metadata import ConversationMetadata
from tests.support.backends import FACTORIES
from tests.support.clients import message
from tests.support.loop_world import World, parts_of
from tests.support.memory_claims import Follows, MemoryBell, MemoryClaims, SharedRows
from tests.support.postgres import postgres_settings
from tests.support.user_backends import memory_user_stores, open_user_stores
from tests.support.waiting import WAIT_SECONDS

USER = "ann"
LIMIT = 2
"""Loops of a user."""
SETTINGS = {"max_concurrent_conversations": LIMIT, "confirmation_mode": True}


@dataclass(frozen=True, slots=True)
class Node:
    """One manager, and the connections of its process."""

    manager: ConversationManager
    connections: ConnectionRegistry
    claims: MemoryClaims | None = None
    """Of a node in a cluster."""


@dataclass(slots=True)
class Client:
    """A connection that reads what its conversation says, and goes when it is dropped."""

    connection_id: str
    node: Node
    conversation: ServerConversation
    user_id: str | None
    client: str | None = None
    position: int = -1
    head: int = -1
    queued_bytes: int = 0
    live: bool = True
    waiting: int = 0
    delivered: int = 0
    notices: list[Mapping[str, Any]] = field(default_factory=list)
    payloads: list[dict[str, Any]] = field(default_factory=list)
    dropped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def conversation_id(self) -> str:
        """See Connection."""
        return self.conversation.conversation_id

    @property
    def states(self) -> list[str]:
        """The states it has heard of, in order."""
        extras = [one["extras"] for one in self.payloads if "agent_state" in one.get("extras", {})]
        return [one["agent_state"] for one in extras]

    def hear(self, events: Sequence[StoredEvent], _summary: object) -> None:
        """Take in events as they are published."""
        self.payloads += [orjson.loads(one.body) for one in events]

    def notify(self, payload: Mapping[str, Any]) -> None:
        """See Connection."""
        self.notices.append(payload)

    async def drop(self) -> None:
        """See Connection."""
        self.node.connections.remove(self.connection_id)
        await self.node.manager.disconnect_from_session(self.connection_id)
        self.dropped.set()


@dataclass(slots=True)
class Nodes:
    """Managers over one storage: what happens at one is to be seen at each."""

    each: Sequence[Node]
    world: World
    records: ConversationStores
    events: EventStore
    random: Random = field(default_factory=lambda: Random(17))  # noqa: S311 - chooses nodes
    _count: int = 0

    @property
    def any(self) -> ConversationManager:
        """Another manager at each call, by chance."""
        return self.random.choice(self.each).manager

    async def new(self, user_id: str | None = USER, conversation_id: str | None = None) -> str:
        """Make a conversation; its id."""
        self._count += 1
        sid = conversation_id or f"c{self._count}"
        await self.records.for_user(user_id).save_metadata(
            ConversationMetadata(conversation_id=sid, user_id=user_id)
        )
        return sid

    async def say(
        self, sid: str, text: str, key: str | None = None, user_id: str | None = USER
    ) -> Accepted:
        """Have any node accept a message."""
        manager = self.any
        data = message(text) if key is None else message(text) | {"client_id": key}
        async with manager.attach(sid, user_id) as conversation:
            return await manager.accept(conversation, data)

    async def join(self, sid: str, node: Node | None = None, user_id: str | None = USER) -> Client:
        """Join as a client, at any node unless one is named."""
        node = node or self.random.choice(self.each)
        self._count += 1
        name = f"connection {self._count}"
        joined = await node.manager.join_conversation(sid, name, None, user_id)
        client = Client(name, node, joined.conversation, user_id)
        joined.conversation.stream.tap(client.hear)
        node.connections.add(client)
        return client

    async def heard(
        self,
        sid: str,
        fits: Callable[[dict[str, Any]], object],
        *,
        after: int = -1,
        user_id: str | None = USER,
    ) -> int:
        """Wait at any node for the first event behind `after` that fits; its id."""
        async with asyncio.timeout(WAIT_SECONDS), self.any.attach(sid, user_id) as conversation:
            async for stored in conversation.stream.follow(after):
                if fits(orjson.loads(stored.body)):
                    return stored.id
        raise AssertionError(f"the log of {sid} ended behind {after}")

    async def answered(self, sid: str, text: str, *, after: int = -1) -> int:
        """Wait for the answer to a message; its id."""
        wanted = f"done: {text}"
        return await self.heard(
            sid, lambda one: one["source"] == "agent" and one.get("message") == wanted, after=after
        )

    async def log(self, sid: str) -> list[dict[str, Any]]:
        """The whole log as it is stored."""
        head = await self.events.head(sid)
        return [orjson.loads(one.body) for one in await self.events.read(sid, 0, head.next_id)]

    async def states(self, sid: str) -> list[str]:
        """The states in the log."""
        extras = [one.get("extras", {}) for one in await self.log(sid)]
        return [one["agent_state"] for one in extras if "agent_state" in one]


OpenNodes = Callable[[Path], AbstractAsyncContextManager[Nodes]]


@asynccontextmanager
async def _standalone(folder: Path) -> AsyncIterator[Nodes]:
    world, records, events = World(), MemoryConversations(), MemoryEventStore()
    parts = parts_of(world, records, events, memory_user_stores(), **SETTINGS)
    async with StandaloneConversationManager(parts) as manager:
        yield Nodes([Node(manager, parts.connections)], world, records, events)


@asynccontextmanager
async def _clustered(folder: Path, *, count: int) -> AsyncIterator[Nodes]:
    world, records, events = World(), MemoryConversations(), MemoryEventStore()
    shared, stores = SharedRows(events, LIMIT), memory_user_stores()
    bells = [MemoryBell() for _ in range(count)]
    hearers: list[tuple[MemoryBell, ClusteredConversationManager, Follows]] = []
    nodes = []
    async with AsyncExitStack() as stack:
        for number, bell in enumerate(bells, 1):
            parts = parts_of(world, records, events, stores, **SETTINGS)
            claims, follows = MemoryClaims(shared, f"node {number}", number), Follows(bell)
            manager = ClusteredConversationManager(parts, claims, bell, follows)
            bell.hearers = hearers
            hearers.append((bell, manager, follows))
            nodes.append(Node(await stack.enter_async_context(manager), parts.connections, claims))
        yield Nodes(nodes, world, records, events)


@asynccontextmanager
async def _postgres(folder: Path, *, count: int) -> AsyncIterator[Nodes]:
    """Nodes with connections of their own to one database, which is their doorbell, too."""
    world, nodes = World(), []
    async with AsyncExitStack() as stack:
        given = await stack.enter_async_context(postgres_settings(folder))
        for number in range(1, count + 1):
            opened = await stack.enter_async_context(FACTORIES["postgres"](folder))
            kept = await stack.enter_async_context(open_user_stores("postgres", folder))
            config = ServerConfig.model_validate(
                {**given, "storage_kind": "postgres", "nodes": "many", "node_name": f"n{number}"}
                | {"lease_seconds": 5.0, "look_seconds": 0.2, **SETTINGS}
            )
            node = await stack.enter_async_context(open_node(config, opened.events))
            parts = parts_of(world, opened.conversations, opened.events, kept, **SETTINGS)
            manager = ClusteredConversationManager(parts, node.claims, node.bell, node.following)
            node.listen(manager)
            nodes.append(Node(await stack.enter_async_context(manager), parts.connections))
        yield Nodes(nodes, world, opened.conversations, opened.events)


MANAGERS: dict[str, OpenNodes] = {
    "standalone": _standalone,
    "clustered-1": partial(_clustered, count=1),
    "clustered-3": partial(_clustered, count=3),
    "postgres-3": partial(_postgres, count=3),
}
"""Openers of each kind of manager, in a folder of the test's."""
