"""Stores that call a hook before and after everything they are asked."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from events.event import StoredEvent
from events.fence import Fence
from events.stores.base import NO_KEYS, EventStore, Form, Head
from events.summary import SummaryChange
from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    MetadataChange,
)
from storage.conversations.paging import DEFAULT_LIMIT, ConversationFilter

Hook = Callable[[str, str], Awaitable[None]]
"""Takes the point (`read.before`) and the conversation's id."""

POINTS = tuple(
    f"{name}.{side}"
    for name in ("append", "head", "read", "get_metadata", "update_metadata")
    for side in ("before", "after")
)


class HookedEventStore(EventStore):
    """An event store around another."""

    def __init__(self, inner: EventStore, hook: Hook) -> None:
        self.inner = inner
        self._hook = hook

    async def append(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,
        keys: Mapping[int, bytes] = NO_KEYS,
        fence: Fence | None = None,
        masks: int | None = None,
    ) -> None:
        """See EventStore."""
        await self._hook("append.before", conversation_id)
        await self.inner.append(
            *(conversation_id, expected_next_id, events),
            summary=summary,
            keys=keys,
            fence=fence,
            masks=masks,
        )
        await self._hook("append.after", conversation_id)

    async def append_next(self, conversation_id: str, form: Form) -> Head:
        """See EventStore."""
        await self._hook("append.before", conversation_id)
        head = await self.inner.append_next(conversation_id, form)
        await self._hook("append.after", conversation_id)
        return head

    async def head(self, conversation_id: str) -> Head:
        """See EventStore."""
        await self._hook("head.before", conversation_id)
        found = await self.inner.head(conversation_id)
        await self._hook("head.after", conversation_id)
        return found

    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """See EventStore."""
        await self._hook("read.before", conversation_id)
        found = await self.inner.read(conversation_id, start_id, end_id)
        await self._hook("read.after", conversation_id)
        return found

    async def find(self, conversation_id: str, key: bytes) -> int | None:
        """See EventStore."""
        return await self.inner.find(conversation_id, key)

    async def delete(self, conversation_id: str) -> None:
        """See EventStore."""
        await self.inner.delete(conversation_id)


class HookedConversationStores(ConversationStores):
    """The records of all owners, around another medium."""

    def __init__(self, inner: ConversationStores, hook: Hook) -> None:
        self._inner = inner
        self._hook = hook

    def for_user(self, user_id: str | None) -> ConversationStore:
        """See ConversationStores."""
        return HookedConversationStore(self._inner.for_user(user_id), self._hook)


class HookedConversationStore(ConversationStore):
    """One owner's view."""

    def __init__(self, inner: ConversationStore, hook: Hook) -> None:
        super().__init__(inner.user_id)
        self._inner = inner
        self._hook = hook

    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        """See ConversationStore."""
        await self._inner.save_metadata(metadata)

    async def update_metadata(
        self, conversation_id: str, change: MetadataChange
    ) -> ConversationMetadata:
        """See ConversationStore."""
        await self._hook("update_metadata.before", conversation_id)
        changed = await self._inner.update_metadata(conversation_id, change)
        await self._hook("update_metadata.after", conversation_id)
        return changed

    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        """See ConversationStore."""
        await self._hook("get_metadata.before", conversation_id)
        found = await self._inner.get_metadata(conversation_id)
        await self._hook("get_metadata.after", conversation_id)
        return found

    async def delete_metadata(self, conversation_id: str) -> None:
        """See ConversationStore."""
        await self._inner.delete_metadata(conversation_id)

    async def exists(self, conversation_id: str) -> bool:
        """See ConversationStore."""
        return await self._inner.exists(conversation_id)

    async def search(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStore."""
        return await self._inner.search(page_id, limit, filters=filters)
