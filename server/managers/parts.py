"""What a conversation manager is made with."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from events.page_reader import PageReader
from events.stores.base import EventStore
from events.stream import StreamLimits
from server.agent.states import LoopSettings
from server.connections import ConnectionRegistry
from server.conversation import LoopParts
from server.user_records import UserRecords
from storage.conversations.base import ConversationStores


@dataclass(frozen=True, slots=True)
class ManagerParts:
    """What the manager works with; everything is opened and closed by its owner."""

    event_store: EventStore
    page_reader: PageReader
    conversation_stores: ConversationStores
    connections: ConnectionRegistry
    loop_parts: LoopParts
    default_settings: LoopSettings
    users: UserRecords
    stream_limits: StreamLimits = StreamLimits()  # noqa: RUF009 - immutable
    metadata_in_commit: bool = False
    max_concurrent_conversations: int = 3
    close_delay_seconds: float = 3600.0
    secrets: Mapping[str, str] | None = None
    before_deletion: Callable[[str, str | None], Awaitable[None]] | None = None
    """Told of a conversation and its owner just before its log is dropped. Raises nothing."""
