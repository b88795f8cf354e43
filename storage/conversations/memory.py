"""Conversation records in memory: the reference back-end; nothing outlives the process."""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from storage.conversations.base import DELETED_PAGE, ConversationStore, ConversationStores
from storage.conversations.listing import Listing
from storage.conversations.metadata import (
    COUNTED_FIELDS,
    FOLDED_FIELDS,
    ConversationMetadata,
    ConversationMetadataResultSet,
    MetadataChange,
)
from storage.conversations.paging import (
    DEFAULT_LIMIT,
    EVERYTHING,
    ConversationFilter,
    ListOrder,
    ListPosition,
    check_limit,
)
from storage.errors import ConversationDeleted, ConversationNotFound, OwnerConflict
from storage.keys import check_conversation_id


class Fold(Protocol):
    """The change a run of events makes to a record; None leaves a field as it is."""

    @property
    def last_updated_at(self) -> str | None:
        """ISO 8601 in UTC."""

    @property
    def last_message_at(self) -> str | None:
        """ISO 8601 in UTC."""


class MemoryConversations(ConversationStores):
    """The medium: records of all owners, their lists in order, and the ids that are spent.

    No method awaits, so each is atomic for every store on the same event loop.
    """

    def __init__(self) -> None:
        self._records: dict[str, ConversationMetadata] = {}
        self._deleted: set[str] = set()
        self._folded: set[str] = set()
        """Conversations whose logs own the folded fields."""
        self.listing = Listing()

    def for_user(self, user_id: str | None) -> "MemoryConversationStore":
        """See ConversationStores."""
        return MemoryConversationStore(self, user_id)

    async def search_all(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStores."""
        everybody = MemoryConversationStore(self, None, everybody=True)
        return await everybody.search(page_id, limit, filters=filters)

    async def deleted(self, after: str = "", limit: int = DELETED_PAGE) -> list[str]:
        """See ConversationStores."""
        return sorted(one for one in self._deleted if one > after)[:limit]

    def all_owners(self) -> Iterable[ConversationMetadata]:
        """Return the records themselves, unordered."""
        return self._records.values()

    def __len__(self) -> int:
        return len(self._records)

    def find(self, conversation_id: str, user_id: str | None) -> ConversationMetadata | None:
        """Return the record itself if that owner may see it."""
        record = self._records.get(conversation_id)
        return record if record is not None and record.user_id == user_id else None

    def any_owners(self, conversation_id: str) -> ConversationMetadata | None:
        """Return the record itself, whose ever it is."""
        return self._records.get(conversation_id)

    def put(self, record: ConversationMetadata) -> None:
        """Store `record`, without changing fields owned by its log.

        Raises ConversationDeleted, OwnerConflict.
        """
        key = record.conversation_id
        if key in self._deleted:
            raise ConversationDeleted(key)
        previous = self._records.get(key)
        if previous is not None and previous.user_id != record.user_id:
            raise OwnerConflict(key)
        if previous is not None and key in self._folded:
            known = {name: getattr(previous, name) for name in FOLDED_FIELDS}
            record = record.copy_with(known)
        self._records[key] = record
        self.listing.put(record)

    def fold(self, conversation_id: str, fold: Fold) -> None:
        """Update a record from its log; an unknown one is ignored."""
        record = self._records.get(conversation_id)
        if record is None:
            return
        self._folded.add(conversation_id)
        values = record.__dict__  # nothing here needs validation, which costs more than the append
        for name in COUNTED_FIELDS:
            value = getattr(fold, name)
            if value is not None:
                values[name] = value
        moment = message = None
        if fold.last_updated_at is not None:
            moment = values["last_updated_at"] = datetime.fromisoformat(fold.last_updated_at)
        if fold.last_message_at is not None:
            same = moment is not None and fold.last_message_at == fold.last_updated_at
            message = moment if same else datetime.fromisoformat(fold.last_message_at)
            values["last_message_at"] = message
        self.listing.touch(conversation_id, moment, message)

    def remove(self, record: ConversationMetadata) -> None:
        """Drop the record and spend its id."""
        key = record.conversation_id
        self._deleted.add(key)
        self._folded.discard(key)
        del self._records[key]
        self.listing.remove(key)


class MemoryConversationStore(ConversationStore):
    """One owner's view of a MemoryConversations."""

    def __init__(
        self, conversations: MemoryConversations, user_id: str | None, *, everybody: bool = False
    ) -> None:
        super().__init__(user_id)
        self._everybody = everybody
        self._conversations = conversations

    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        """See ConversationStore."""
        check_conversation_id(metadata.conversation_id)
        self._conversations.put(self._owned(metadata))

    async def update_metadata(
        self, conversation_id: str, change: MetadataChange
    ) -> ConversationMetadata:
        """See ConversationStore."""
        changed = change.apply_to(self._visible(conversation_id))
        self._conversations.put(changed)
        return self._visible(conversation_id).copy_with({})

    async def give_title(self, conversation_id: str, title: str) -> bool:
        """See ConversationStore."""
        if self._visible(conversation_id).title is not None:
            return False
        await self.update_metadata(conversation_id, MetadataChange(title=title))
        return True

    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        """See ConversationStore."""
        return self._visible(conversation_id).checked_copy()

    async def delete_metadata(self, conversation_id: str) -> None:
        """See ConversationStore."""
        check_conversation_id(conversation_id)
        record = self._conversations.find(conversation_id, self.user_id)
        if record is not None:
            self._conversations.remove(record)

    async def exists(self, conversation_id: str) -> bool:
        """See ConversationStore."""
        check_conversation_id(conversation_id)
        return self._conversations.find(conversation_id, self.user_id) is not None

    async def search(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStore."""
        check_limit(limit)
        wanted, listing = filters or EVERYTHING, self._conversations.listing
        order = ListOrder.CREATED if self._everybody else wanted.order
        after = ListPosition.from_page_id(page_id, order)
        for _ in listing.preparing(self.user_id, wanted):
            await asyncio.sleep(0)
        found: list[ConversationMetadata] = []
        ends: list[ListPosition] = []
        more = True
        while more and len(found) <= limit:
            positions, after = listing.scan(
                *(self.user_id, wanted, after, limit + 1 - len(found)), everybody=self._everybody
            )
            more = after is not None
            ends += positions
            found += [self._visible(one.conversation_id).checked_copy() for one in positions]
            if not positions:
                await asyncio.sleep(0)  # a long search lets others run
        page = found[:limit]
        return ConversationMetadataResultSet(
            results=page,
            next_page_id=ends[limit - 1].to_page_id(order) if len(found) > limit else None,
        )

    def _visible(self, conversation_id: str) -> ConversationMetadata:
        check_conversation_id(conversation_id)
        if self._everybody:
            record = self._conversations.any_owners(conversation_id)
        else:
            record = self._conversations.find(conversation_id, self.user_id)
        if record is None:
            raise ConversationNotFound(conversation_id)
        return record
