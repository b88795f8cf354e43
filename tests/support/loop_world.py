"""Agents and runtimes whose every step waits until a test lets it go on; nothing in them is feigned."""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field, replace

from events.actions import Action, CmdRunAction, MessageAction
from events.event import Event, EventSource
from events.stores.base import EventStore
from events.stores.memory import MemoryEventStore
from runtime_stub.agent import Agent
from runtime_stub.base import Runtime, RuntimeBuilder
from runtime_stub.stub import StubRuntime
from server.app import manager_parts
from server.components import load_components
from server.config.settings import ServerConfig
from server.conversations.manager import ManagerDependencies
from server.conversations.standalone import StandaloneConversationManager
from storage.conversations.base import ConversationStores
from storage.conversations.memory import MemoryConversations
from tests.support.user_backends import UserStores, memory_user_stores

WORK = "work"
"""A message that begins with it is answered once the test has finished that work."""

RUN = "run "
"""A message that begins with it has the rest run as a command."""


class NoRuntime(Exception):
    """The runtime cannot be built."""


@dataclass(slots=True)
class World:
    """The decisions of a test about each conversation, and the number of open runtimes."""

    start: dict[str, str] = field(default_factory=dict)
    """The way runtimes are built: `fails`, `hangs`, `held`; at once for others.

    One that `fails late` is built, and cannot be connected to.
    """
    held_starts: dict[str, asyncio.Event] = field(default_factory=dict)
    held_closes: dict[str, asyncio.Event] = field(default_factory=dict)
    work: dict[str, asyncio.Event] = field(default_factory=dict)
    """The work to be finished, by the message."""
    runtimes: Counter[str] = field(default_factory=Counter)
    """Open runtimes by conversation."""
    most: Counter[str] = field(default_factory=Counter)
    together: Counter[str | None] = field(default_factory=Counter)
    """Open runtimes by user."""
    most_together: Counter[str | None] = field(default_factory=Counter)

    def finish(self, work: str) -> None:
        """Let a piece of work be done, begun or not."""
        self.work.setdefault(work, asyncio.Event()).set()

    def opened(self, conversation_id: str, user_id: str | None) -> None:
        """Count a runtime that was built."""
        self.runtimes[conversation_id] += 1
        self.together[user_id] += 1
        self.most[conversation_id] = max(self.most[conversation_id], self.runtimes[conversation_id])
        self.most_together[user_id] = max(self.most_together[user_id], self.together[user_id])

    def closed(self, conversation_id: str, user_id: str | None) -> None:
        """Count a runtime that was closed."""
        self.runtimes[conversation_id] -= 1
        self.together[user_id] -= 1


class GatedRuntime(StubRuntime):
    """Is closed when the test lets it."""

    def __init__(
        self, world: World, conversation_id: str, user_id: str | None, *, connects: bool
    ) -> None:
        super().__init__()
        self._world = world
        self._id = conversation_id
        self._user_id = user_id
        self._connects = connects

    async def connect(self) -> None:
        """See Runtime."""
        if not self._connects:
            raise NoRuntime("it does not answer")
        await super().connect()

    async def close(self) -> None:
        """See Runtime."""
        try:
            gate = self._world.held_closes.get(self._id)
            if gate is not None:
                await gate.wait()
        finally:
            self._world.closed(self._id, self._user_id)
        await super().close()


class GatedBuilder(RuntimeBuilder):
    """Builds runtimes as the test wants them to be built."""

    world: World

    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        """See RuntimeBuilder."""
        mode = self.world.start.get(conversation_id)
        if mode == "fails":
            raise NoRuntime("there is none")
        if mode == "hangs":
            await asyncio.Event().wait()
        if mode == "held":
            await self.world.held_starts.setdefault(conversation_id, asyncio.Event()).wait()
        self.world.opened(conversation_id, user_id)
        connects = mode != "fails late"
        return GatedRuntime(self.world, conversation_id, user_id, connects=connects)


class GatedAgent(Agent):
    """Answers every message, one after the other; a piece of work when it is finished."""

    world: World

    def __init__(self) -> None:
        self._messages: deque[str] = deque()

    @property
    def goes_on(self) -> bool:
        """See Agent."""
        return bool(self._messages)

    def observe(self, event: Event) -> None:
        """See Agent."""
        if isinstance(event, MessageAction) and event.source == EventSource.USER:
            self._messages.append(event.content)

    async def step(self) -> Action | None:
        """See Agent."""
        if not self._messages:
            return None
        text = self._messages[0]
        if text.startswith(WORK):
            await self.world.work.setdefault(text, asyncio.Event()).wait()
        self._messages.popleft()
        if text.startswith(RUN):
            return CmdRunAction(command=text.removeprefix(RUN))
        return MessageAction(content=f"done: {text}")


@dataclass(frozen=True, slots=True)
class LoopPlace:
    """A manager, what it drives, and its stores."""

    manager: StandaloneConversationManager
    world: World
    conversations: MemoryConversations
    events: MemoryEventStore


def parts_of(
    world: World,
    records: ConversationStores,
    events: EventStore,
    user_stores: UserStores,
    **settings: object,
) -> ManagerDependencies:
    """Return a manager's dependencies over open stores, with the agents and runtimes of a world."""
    config = ServerConfig.model_validate(
        {"storage_kind": "memory", "quiet_seconds": 1e6, "turn_seconds": 1e6, **settings}
    )
    components = replace(
        load_components(config),
        agent=type("WorldsAgent", (GatedAgent,), {"world": world}),
        runtime_builder=type("WorldsBuilder", (GatedBuilder,), {"world": world}),
    )
    users = components.users(config, user_stores.settings, user_stores.secrets)
    return manager_parts(config, components, records, events, users)


def loop_place(**settings: object) -> LoopPlace:
    """Return a manager over memory stores whose agents and runtimes belong to a world of their own."""
    world, records, events = World(), MemoryConversations(), MemoryEventStore()
    parts = parts_of(world, records, events, memory_user_stores(), **settings)
    return LoopPlace(StandaloneConversationManager(parts), world, records, events)
