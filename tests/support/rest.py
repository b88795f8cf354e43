"""A server over memory stores, asked in-process through ASGI."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx
from httpx import ASGITransport, AsyncClient, Response

from events.event import AgentState
from events.search.indexer import Indexer
from events.stores.memory import MemoryEventStore
from runtime_stub.scripted import ScriptedAgent
from server.app import Application, compose
from server.components import load_components
from server.config.settings import ServerConfig
from storage.audit.base import AuditLog
from storage.conversations.memory import MemoryConversations
from storage.conversations.metadata import ConversationMetadata
from storage.search.base import SearchIndex
from storage.search.memory import MemorySearchIndex
from storage.users.base import SecretsStores, SettingsStores
from storage.workspaces.base import Hold, WorkspaceStore
from storage.workspaces.memory import MemoryWorkspaces
from storage.workspaces.snapshot import WorkspaceLimits
from tests.support.kept import kept_in_memory
from tests.support.user_backends import memory_user_stores
from tests.support.waiting import WAIT_SECONDS

EVERY = "/api/conversations"


@dataclass(frozen=True, slots=True)
class Rest:
    """A client of a server, and what the server keeps."""

    client: AsyncClient
    application: Application
    conversations: MemoryConversations
    events: MemoryEventStore
    settings: SettingsStores
    secrets: SecretsStores
    workspaces: Any = None
    """The store of workspaces."""
    indexer: Indexer | None = None

    async def wait_until_searchable(self) -> None:
        """Wait until what was said and named so far is in the search index."""
        assert self.indexer is not None
        async with asyncio.timeout(WAIT_SECONDS):
            await self.indexer.level()

    async def ask(self, method: str, path: str, **arguments: Any) -> Response:
        """Send a request."""
        return await self.client.request(method, path, **arguments)

    async def create(self, **body: Any) -> str:
        """A new conversation's id."""
        answer = await self.client.post(EVERY, json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["conversation_id"])

    async def keep(self, conversation_id: str, user_id: str | None, **fields: Any) -> None:
        """Write a record past the server, as another process would have."""
        record = ConversationMetadata(conversation_id=conversation_id, **fields)
        await self.conversations.for_user(user_id).save_metadata(record)

    async def wait_for(
        self, conversation_id: str, told: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """The first event that fits, of those there are and those that come."""
        manager = self.application.manager
        async with asyncio.timeout(WAIT_SECONDS), manager.attach(conversation_id, None) as one:
            async for event in one.stream.follow(-1):
                payload: dict[str, Any] = httpx.Response(200, content=event.body).json()
                if told(payload):
                    return payload
        raise AssertionError("the stream was closed")

    async def wait_until_idle(self, conversation_id: str) -> None:
        """Wait until the agent waits for its user."""
        waiting = AgentState.AWAITING_USER_INPUT
        await self.wait_for(
            conversation_id,
            lambda event: event.get("extras", {}).get("agent_state") == waiting,
        )


@asynccontextmanager
async def rest_server(
    settings_stores: SettingsStores | None = None,
    audit: AuditLog | None = None,
    make_workspaces: Callable[[Hold, WorkspaceLimits], WorkspaceStore] = MemoryWorkspaces,
    /,
    **settings: Any,
) -> AsyncIterator[Rest]:
    """A server with these settings, and a client of it on this machine."""
    config = ServerConfig(storage_kind="memory", **settings)
    conversations = MemoryConversations()
    events = MemoryEventStore(conversations.fold)
    kept = memory_user_stores()
    users = load_components(config).users(config, settings_stores or kept.settings, kept.secrets)
    limits = WorkspaceLimits(config.workspace_max_bytes, config.workspace_max_files)
    workspaces = make_workspaces(events.beside, limits)

    async def open_index() -> SearchIndex:
        return MemorySearchIndex()

    indexer = Indexer(open_index, events, conversations, gather_seconds=0.0, rest=0.0)
    async with compose(
        config,
        *(conversations, events, users, kept_in_memory(conversations, audit)),
        workspaces=workspaces,
        indexer=indexer,
    ) as application:
        transport = ASGITransport(application.asgi)
        async with AsyncClient(transport=transport, base_url="http://localhost:3000") as client:
            yield Rest(
                *(client, application, conversations, events, kept.settings, kept.secrets),
                workspaces=workspaces,
                indexer=indexer,
            )


@asynccontextmanager
async def client_at(rest: Rest, address: str, **headers: str) -> AsyncIterator[AsyncClient]:
    """A client of that server at another address."""
    transport = ASGITransport(rest.application.asgi, client=(address, 1))
    base = "http://localhost:3000"
    async with AsyncClient(transport=transport, base_url=base, headers=headers) as client:
        yield client


class ModelAgent(ScriptedAgent):
    """An agent that declares a model and so needs a key."""

    model: ClassVar[str | None] = "acme/large"


class KeylessModelAgent(ScriptedAgent):
    """An agent whose model is reached without a key."""

    model: ClassVar[str | None] = "bedrock/large"


def assert_refused(answer: Response, status: int, code: str, text: str = "") -> None:
    """The answer is the one error body, and its text holds `text`."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["code"] == code
    assert body["error"] == body["message"]
    assert text in body["error"]
    assert set(body) <= {"error", "message", "code", "msg_id"}
