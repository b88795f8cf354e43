import asyncio

import pytest

from storage.conversations.base import ConversationStore
from storage.conversations.memory import MemoryConversations
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    MetadataChange,
)
from storage.conversations.paging import ConversationFilter
from storage.errors import ConversationNotFound


class PlainConversationStore(ConversationStore):
    """A custom class as an embedder writes it: abstract methods only, each of which awaits."""

    def __init__(self, medium: MemoryConversations, user_id: str | None) -> None:
        super().__init__(user_id)
        self._inner = medium.for_user(user_id)

    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        await asyncio.sleep(0)
        await self._inner.save_metadata(metadata)

    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        await asyncio.sleep(0)
        return await self._inner.get_metadata(conversation_id)

    async def delete_metadata(self, conversation_id: str) -> None:
        await self._inner.delete_metadata(conversation_id)

    async def exists(self, conversation_id: str) -> bool:
        return await self._inner.exists(conversation_id)

    async def search(
        self,
        page_id: str | None = None,
        limit: int = 20,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        return await self._inner.search(page_id, limit, filters=filters)


@pytest.fixture
def medium() -> MemoryConversations:
    return MemoryConversations()


async def test_updates_through_two_custom_stores_keep_each_others_fields(medium):
    first, second = (PlainConversationStore(medium, "ann") for _ in range(2))
    await first.save_metadata(ConversationMetadata(conversation_id="c"))

    await asyncio.gather(
        first.update_metadata("c", MetadataChange(title="t")),
        second.update_metadata("c", MetadataChange(selected_branch="b")),
        second.give_title("c", "too late"),
        first.update_metadata("c", MetadataChange(custom={"k": 1})),
    )

    found = await second.get_metadata("c")
    assert (found.title, found.selected_branch, found.custom) == ("t", "b", {"k": 1})


async def test_a_custom_store_inherits_what_follows_from_reading(medium):
    store = PlainConversationStore(medium, "ann")
    await store.save_metadata(ConversationMetadata(conversation_id="a"))
    await store.save_metadata(ConversationMetadata(conversation_id="b"))

    found = await store.get_all_metadata(["b", "a"])

    assert [metadata.conversation_id for metadata in found] == ["b", "a"]
    assert await store.validate_metadata("a", "ann")
    assert not await store.validate_metadata("unknown", "ann")
    with pytest.raises(ConversationNotFound):
        await store.get_all_metadata(["a", "unknown"])
    assert isinstance(await store.search(), ConversationMetadataResultSet)


async def test_a_failed_update_lets_the_next_one_pass(medium):
    store = PlainConversationStore(medium, "ann")
    with pytest.raises(ConversationNotFound):
        await store.update_metadata("c", MetadataChange(title="early"))
    await store.save_metadata(ConversationMetadata(conversation_id="c"))

    await store.update_metadata("c", MetadataChange(title="late"))

    assert (await store.get_metadata("c")).title == "late"
