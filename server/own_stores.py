"""Conversation records in a class of the embedder's own."""

from collections.abc import Sequence

from server.errors import NotSupported
from server.stores_by_owner import StoresByOwner
from storage.config import HasStorage
from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    MetadataChange,
)
from storage.conversations.paging import DEFAULT_LIMIT, ConversationFilter


class OwnConversationStores(ConversationStores):
    """The records of all owners, as a custom class keeps them; each call may take `seconds`."""

    def __init__(
        self, store_class: type[ConversationStore], config: HasStorage, seconds: float
    ) -> None:
        self._stores: StoresByOwner[ConversationStore] = StoresByOwner(
            store_class, config, seconds, "conversation store"
        )

    def for_user(self, user_id: str | None) -> ConversationStore:
        """See ConversationStores; the class is asked at the first call."""
        return OwnConversationStore(self._stores, user_id)

    async def search_all(
        self,
        page_id: str | None = None,  # noqa: ARG002 - the contract's, as those that follow
        limit: int = DEFAULT_LIMIT,  # noqa: ARG002
        *,
        filters: ConversationFilter | None = None,  # noqa: ARG002
    ) -> ConversationMetadataResultSet:
        """Raise NotSupported: a class of its own is asked for one owner at a time."""
        raise NotSupported("Records kept by a class of its own are listed by owner only")


class OwnConversationStore(ConversationStore):
    """One owner's store, looked up when it is used."""

    def __init__(self, stores: StoresByOwner[ConversationStore], user_id: str | None) -> None:
        super().__init__(user_id)
        self._stores = stores

    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        """See ConversationStore."""
        store = await self._store()
        await self._stores.writing(lambda: store.save_metadata(metadata))

    async def update_metadata(
        self, conversation_id: str, change: MetadataChange
    ) -> ConversationMetadata:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.writing(lambda: store.update_metadata(conversation_id, change))

    async def give_title(self, conversation_id: str, title: str) -> bool:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.writing(lambda: store.give_title(conversation_id, title))

    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.get_metadata(conversation_id))

    async def validate_metadata(self, conversation_id: str, user_id: str | None) -> bool:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.validate_metadata(conversation_id, user_id))

    async def delete_metadata(self, conversation_id: str) -> None:
        """See ConversationStore."""
        store = await self._store()
        await self._stores.writing(lambda: store.delete_metadata(conversation_id))

    async def exists(self, conversation_id: str) -> bool:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.exists(conversation_id))

    async def search(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.search(page_id, limit, filters=filters))

    async def get_all_metadata(self, conversation_ids: Sequence[str]) -> list[ConversationMetadata]:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.get_all_metadata(conversation_ids))

    async def _store(self) -> ConversationStore:
        return await self._stores.of(self.user_id)
