"""Dependencies of the routes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from events.event import StoredEvent
from events.page_reader import PageReader
from events.search.finder import Finder
from events.stores.base import EventStore
from runtime_stub.agent import Example
from runtime_stub.turn import AgentSettings
from server.access.rate_limits import RateLimits
from server.config.settings import ServerConfig
from server.conversations.connections import ConnectionRegistry
from server.conversations.manager import ConversationManager
from server.conversations.users import Users
from server.errors import NotAvailable
from server.observability.metrics import Metrics
from server.observability.readiness import Readiness
from storage.conversations.base import ConversationStores
from storage.workspaces.base import WorkspaceStore


@dataclass(frozen=True, slots=True)
class Services:
    """Parts of a running server; opened and closed by their owner."""

    config: ServerConfig
    manager: ConversationManager
    conversation_stores: ConversationStores
    event_store: EventStore
    workspaces: WorkspaceStore | None
    """The store of workspaces at rest; None where none are kept."""
    finder: Finder | None
    """Full-text search; None where there is no index."""
    page_reader: PageReader
    connections: ConnectionRegistry
    users: Users
    agent_model: str | None
    """The model the agent declares, `provider/name`; None when it needs none."""
    agent_examples: Sequence[Example]
    try_settings: Callable[[AgentSettings], Awaitable[str]]
    """Tries a user's settings; see `Agent.try_settings`."""
    not_ready: Callable[[], list[str]]
    """Returns why the server takes nothing in; nothing when it does."""
    readiness: Readiness
    metrics: Metrics
    rates: RateLimits
    started: float
    """The time at which the server started, by `time.monotonic`: the wall clock may be set."""
    socket_document: Callable[[], dict[str, Any]]
    """The AsyncAPI document."""
    sent_body: Callable[[StoredEvent], bytes | None]
    """Returns an event's JSON as sent to sockets; None for an event that is not sent."""

    def check_intake(self) -> None:
        """Raise NotAvailable while the server takes nothing in."""
        reasons = self.not_ready()
        if reasons:
            raise NotAvailable(f"The server is {', '.join(reasons)}; try again in a moment")
