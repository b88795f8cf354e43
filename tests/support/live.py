"""A server in the test's own loop, over stores the test holds, reached through real sockets."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from uuid import uuid4

from events.event import Event, EventSource, StoredEvent
from events.stores.base import EventStore
from events.stores.memory import MemoryEventStore
from events.stream import EventStream
from server.app import Application, compose
from server.components import load_components
from server.config.settings import ServerConfig
from server.conversations.loop_entries import LoopState
from server.conversations.manager import ConversationManager
from server.conversations.users import Users
from server.sockets.transport.stall_watch import Traffic
from storage.conversations.base import ConversationStores
from storage.conversations.memory import MemoryConversations
from storage.conversations.metadata import ConversationMetadata
from tests.support.clients import RecordingClient, joined
from tests.support.kept import kept_in_memory
from tests.support.raw_client import RawClient, raw_client
from tests.support.servers import LoopServer, serving
from tests.support.user_backends import memory_user_stores
from tests.support.waiting import until

EVERYTHING = 2**31


async def until_running(
    manager: ConversationManager, wanted: set[str], user_id: str | None = None
) -> None:
    """Wait until just these conversations of a user have a loop."""

    async def holds() -> bool:
        return await manager.get_running_agent_loops(user_id) == wanted

    await until(holds)


async def rests(
    manager: ConversationManager, conversation_id: str, user_id: str | None = None
) -> bool:
    """Return whether the conversation's loop has come up and is not at work."""
    infos = await manager.get_agent_loop_info(user_id, {conversation_id})
    return any(info.loop.state is LoopState.RUNNING and not info.working for info in infos)


async def until_resting(
    manager: ConversationManager, conversation_id: str, user_id: str | None = None
) -> None:
    """Wait until the conversation's loop has come up and is not at work."""
    await until(partial(rests, manager, conversation_id, user_id))


@dataclass(frozen=True, slots=True)
class Live:
    """A running server and what it keeps."""

    server: LoopServer
    conversations: ConversationStores
    events: EventStore
    users: Users

    @property
    def url(self) -> str:
        """The server's address."""
        return self.server.url

    @property
    def application(self) -> Application:
        """The application that is served."""
        return self.server.application

    @property
    def traffic(self) -> Traffic:
        """The frames its connections share, with the counters."""
        return self.application.traffic

    async def new(self, user_id: str | None = None, conversation_id: str | None = None) -> str:
        """A new conversation's id; no loop is started, and no title will be made for it."""
        key = conversation_id or uuid4().hex
        record = ConversationMetadata(conversation_id=key, title="A title")
        await self.conversations.for_user(user_id).save_metadata(record)
        return key

    async def append(self, conversation_id: str, *events: tuple[Event, EventSource]) -> list[int]:
        """Append as the server would by itself, and return the ids."""
        async with self.application.manager.attach(conversation_id, None) as conversation:
            return [
                (await conversation.stream.append(event, source)).id for event, source in events
            ]

    async def stream(self, conversation_id: str) -> EventStream:
        """Return the stream of a conversation somebody is connected to."""
        async with self.application.manager.attach(conversation_id, None) as conversation:
            return conversation.stream

    async def log(self, conversation_id: str) -> list[StoredEvent]:
        """The log as it is stored."""
        return await self.events.read(conversation_id, 0, EVERYTHING)

    def joined(
        self, conversation_id: str, **options: Any
    ) -> AbstractAsyncContextManager[RecordingClient]:
        """A connected V0 client."""
        return joined(self.url, conversation_id, **options)

    def raw(self, conversation_id: str, **options: Any) -> AbstractAsyncContextManager[RawClient]:
        """A websocket on which nothing was sent yet."""
        return raw_client(self.url, conversation_id, **options)


class Delivery:
    """The way the servers of the test under way serve websockets; set by a fixture."""

    chosen: Literal["direct", "engine"] = "direct"


@asynccontextmanager
async def live_server(
    *,
    events: EventStore | None = None,
    conversations: ConversationStores | None = None,
    **settings: Any,
) -> AsyncIterator[Live]:
    """A server with these settings, over memory stores unless others are given."""
    config = ServerConfig(storage_kind="memory", delivery=Delivery.chosen, **settings)
    # An empty store is false.
    records = MemoryConversations() if conversations is None else conversations
    log = MemoryEventStore() if events is None else events
    kept = memory_user_stores()
    users = load_components(config).users(config, kept.settings, kept.secrets)
    async with (
        compose(config, records, log, users, kept_in_memory(records)) as application,
        serving(config, application) as server,
    ):
        yield Live(server, records, log, users)
