"""Conversation records in memory: the reference back-end; nothing outlives the process."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.metadata import (
    FOLDED_FIELDS,
    ConversationMetadata,
    ConversationMetadataResultSet,
    MetadataChange,
)
from storage.conversations.paging import (
    DEFAULT_LIMIT,
    EVERYTHING,
    ConversationFilter,
    ListPosition,
    check_limit,
)
from storage.errors import ConversationDeleted, ConversationNotFound, OwnerConflict
from storage.locations import check_conversation_id


class Fold(Protocol):
    """What a run of events changes in a record; None leaves a field as it is."""

    @property
    def last_updated_at(self) -> str | None:
        """ISO 8601 in UTC."""


class MemoryConversations(ConversationStores):
    """The medium: records of all owners, their lists in order, and the ids that are spent.

    No method awaits, so each is atomic for every store on the same event loop.
    """

    def __init__(self) -> None:
        self._records: dict[str, ConversationMetadata] = {}
        self._deleted: set[str] = set()
        self._lists: defaultdict[str | None, list[ListPosition]] = defaultdict(list)
        self._everybody: list[ListPosition] = []

    def for_user(self, user_id: str | None) -> "MemoryConversationStore":
        """See ConversationStores."""
        return MemoryConversationStore(self, user_id)

    def find(self, conversation_id: str, user_id: str | None) -> ConversationMetadata | None:
        """Return the record itself if that owner may see it."""
        record = self._records.get(conversation_id)
        return record if record is not None and record.user_id == user_id else None

    def put(self, record: ConversationMetadata) -> None:
        """Keep `record` itself. Raises ConversationDeleted, OwnerConflict."""
        key = record.conversation_id
        if key in self._deleted:
            raise ConversationDeleted(key)
        previous = self._records.get(key)
        if previous is not None:
            if previous.user_id != record.user_id:
                raise OwnerConflict(key)
            self._unlist(previous)
        self._records[key] = record
        insort(self._lists[record.user_id], ListPosition.of(record))
        insort(self._everybody, ListPosition.of(record))

    def fold(self, conversation_id: str, fold: Fold) -> None:
        """Bring a record up to date with its log; one that is unknown is passed over."""
        record = self._records.get(conversation_id)
        if record is None:
            return
        values = record.__dict__  # nothing here needs validation, which costs more than the append
        for name in FOLDED_FIELDS:
            value = getattr(fold, name)
            if value is not None:
                values[name] = value
        if fold.last_updated_at is not None:
            values["last_updated_at"] = datetime.fromisoformat(fold.last_updated_at)

    def remove(self, record: ConversationMetadata) -> None:
        """Drop the record and spend its id."""
        self._deleted.add(record.conversation_id)
        self._unlist(self._records.pop(record.conversation_id))

    def newest_first(
        self, user_id: str | None, after: ListPosition | None
    ) -> Iterator[ConversationMetadata]:
        """Give the owner's records themselves, from behind `after` on."""
        return self._from(self._lists.get(user_id, []), after)

    def everybodys(self, after: ListPosition | None = None) -> Iterator[ConversationMetadata]:
        """`newest_first` of all owners together."""
        return self._from(self._everybody, after)

    async def search_all(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStores."""
        check_limit(limit)
        return _page_of(self.everybodys(ListPosition.from_page_id(page_id)), limit, filters)

    def __len__(self) -> int:
        return len(self._records)

    def _from(
        self, positions: list[ListPosition], after: ListPosition | None
    ) -> Iterator[ConversationMetadata]:
        end = len(positions) if after is None else bisect_left(positions, after)
        for place in range(end - 1, -1, -1):
            yield self._records[positions[place].conversation_id]

    def _unlist(self, record: ConversationMetadata) -> None:
        positions = self._lists[record.user_id]
        del positions[bisect_left(positions, ListPosition.of(record))]
        del self._everybody[bisect_left(self._everybody, ListPosition.of(record))]


class MemoryConversationStore(ConversationStore):
    """One owner's view of a MemoryConversations."""

    def __init__(self, conversations: MemoryConversations, user_id: str | None) -> None:
        super().__init__(user_id)
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
        return changed.copy_with({})

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
        after = ListPosition.from_page_id(page_id)
        found = self._conversations.newest_first(self.user_id, after)
        return _page_of(found, limit, filters)

    def _visible(self, conversation_id: str) -> ConversationMetadata:
        check_conversation_id(conversation_id)
        record = self._conversations.find(conversation_id, self.user_id)
        if record is None:
            raise ConversationNotFound(conversation_id)
        return record


def _page_of(
    records: Iterator[ConversationMetadata], limit: int, filters: ConversationFilter | None
) -> ConversationMetadataResultSet:
    accepts = (filters or EVERYTHING).accepts
    page: list[ConversationMetadata] = []
    for record in records:
        if not accepts(record):
            continue
        if len(page) == limit:
            next_page_id = ListPosition.of(page[-1]).to_page_id()
            return ConversationMetadataResultSet(results=page, next_page_id=next_page_id)
        page.append(record.checked_copy())
    return ConversationMetadataResultSet(results=page)
