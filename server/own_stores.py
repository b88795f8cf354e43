"""Conversation records in a class of the embedder's own, found by its `get_instance`."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from storage.config import HasStorage
from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    MetadataChange,
)
from storage.conversations.paging import DEFAULT_LIMIT, ConversationFilter
from storage.errors import OutcomeUnknown, StorageError, Unavailable

T = TypeVar("T")

KEPT_STORES = 256
"""Stores that are kept for their owners; the one unused for longest is made again when needed."""


class OwnConversationStores(ConversationStores):
    """The records of all owners, as a custom class keeps them.

    Each call may take `seconds`; past that a read is Unavailable and a write OutcomeUnknown.
    """

    def __init__(
        self, store_class: type[ConversationStore], config: HasStorage, seconds: float
    ) -> None:
        self._store_class = store_class
        self._config = config
        self._seconds = seconds
        self._stores: OrderedDict[str | None, ConversationStore] = OrderedDict()

    def for_user(self, user_id: str | None) -> ConversationStore:
        """See ConversationStores; the class is asked at the first call."""
        return OwnConversationStore(self, user_id)

    async def find(self, user_id: str | None) -> ConversationStore:
        """The owner's store."""
        store = self._stores.get(user_id)
        if store is None:
            store = await self._store_class.get_instance(self._config, user_id)
            self._stores[user_id] = store
        self._stores.move_to_end(user_id)
        if len(self._stores) > KEPT_STORES:
            self._stores.popitem(last=False)
        return store

    async def within_time(self, call: Awaitable[T], late: type[StorageError] = Unavailable) -> T:
        """What a call gives. Raises `late` when it takes too long."""
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TimeoutError as error:
            raise late("the conversation store does not answer") from error


class OwnConversationStore(ConversationStore):
    """One owner's store, looked up when it is used."""

    def __init__(self, stores: OwnConversationStores, user_id: str | None) -> None:
        super().__init__(user_id)
        self._stores = stores

    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        """See ConversationStore."""
        store = await self._store()
        await self._stores.within_time(store.save_metadata(metadata), OutcomeUnknown)

    async def update_metadata(
        self, conversation_id: str, change: MetadataChange
    ) -> ConversationMetadata:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.within_time(
            store.update_metadata(conversation_id, change), OutcomeUnknown
        )

    async def give_title(self, conversation_id: str, title: str) -> bool:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.within_time(
            store.give_title(conversation_id, title), OutcomeUnknown
        )

    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.within_time(store.get_metadata(conversation_id))

    async def validate_metadata(self, conversation_id: str, user_id: str | None) -> bool:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.within_time(store.validate_metadata(conversation_id, user_id))

    async def delete_metadata(self, conversation_id: str) -> None:
        """See ConversationStore."""
        store = await self._store()
        await self._stores.within_time(store.delete_metadata(conversation_id), OutcomeUnknown)

    async def exists(self, conversation_id: str) -> bool:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.within_time(store.exists(conversation_id))

    async def search(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.within_time(store.search(page_id, limit, filters=filters))

    async def get_all_metadata(self, conversation_ids: Sequence[str]) -> list[ConversationMetadata]:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.within_time(store.get_all_metadata(conversation_ids))

    async def _store(self) -> ConversationStore:
        return await self._stores.within_time(self._stores.find(self.user_id))
