"""The ConversationStore contract: the records of conversations, as one owner sees them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from storage.config import HasStorage, StorageConfig, StoreOpener
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    MetadataChange,
)
from storage.conversations.paging import DEFAULT_LIMIT, ConversationFilter
from storage.errors import ConversationNotFound, OwnerConflict, Unavailable
from storage.keyed_locks import lock_of

DELETED_PAGE = 1_000
"""Ids of deleted conversations that are asked for at once."""


class ConversationStore(ABC):
    """Keeps the records of the conversations of one owner.

    `user_id` is that owner, an opaque text that is compared for equality and never taken apart;
    None means the records that have no owner, never all of them. Records of all owners share one
    medium and one space of ids: a foreign record is invisible, exactly as an unknown or a deleted
    one. What is given and returned is never shared with the store.

    Every call may raise Unavailable, writes OutcomeUnknown as well; calls that take an id raise
    BadKey when it is not acceptable.
    """

    folds_with_log: ClassVar[bool] = False
    """The record shares its commit with the conversation's log.

    Where it is False the folded fields (`metadata.FOLDED_FIELDS`) are written by
    `update_metadata`, and what was written last is returned. Where it is True the log owns them
    from its first event on: `save_metadata` and `update_metadata` then leave them as they are.
    """

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "ConversationStore":
        """Return a store bound to that owner, over the medium that `config` names.

        A medium is opened once per process and shared; a custom class overrides this.
        """
        return await SEAM.open(config, user_id)

    @abstractmethod
    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        """Create the record, or replace it whole; atomic, and durable when done.

        A record without a `user_id` gets the store's owner. Raises OwnerConflict when the record
        names another owner or its id belongs to one, ConversationDeleted when its id was deleted
        once, BadValue when a value does not fit its field: in all three nothing was written.
        """

    async def update_metadata(
        self, conversation_id: str, change: MetadataChange
    ) -> ConversationMetadata:
        """Set the fields given in `change`, leave the others, and return the record as it is now.

        Updates of one conversation are serial: none undoes another's fields. Raises
        ConversationNotFound. This default reads and writes under a lock of the process, enough
        where one process writes; a store that can should do better.
        """
        async with lock_of(type(self), conversation_id):
            changed = change.apply_to(await self.get_metadata(conversation_id))
            await self.save_metadata(changed)
            return changed

    async def give_title(self, conversation_id: str, title: str) -> bool:
        """Set the title of a record without one; return whether it was set.

        Serial with the updates of that conversation, so that a title set in the meantime stays.
        Raises ConversationNotFound. The default works as that of `update_metadata` does.
        """
        async with lock_of(type(self), conversation_id):
            found = await self.get_metadata(conversation_id)
            if found.title is None:
                await self.save_metadata(found.checked_copy(title=title))
            return found.title is None

    @abstractmethod
    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        """Return the record. Raises ConversationNotFound, Damaged."""

    async def validate_metadata(self, conversation_id: str, user_id: str | None) -> bool:
        """Return whether the record is visible and has the owner `user_id`."""
        try:
            metadata = await self.get_metadata(conversation_id)
        except ConversationNotFound:
            return False
        return metadata.user_id is not None and metadata.user_id == user_id

    @abstractmethod
    async def delete_metadata(self, conversation_id: str) -> None:
        """Delete the record; its id is never used again by any owner.

        If no such record is visible, this is a no-op. One that is damaged is removed where its
        owner is known. Raises Damaged where it is not, and NewerFormat.
        """

    @abstractmethod
    async def exists(self, conversation_id: str) -> bool:
        """Tell whether the record is visible."""

    @abstractmethod
    async def search(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """Return a page of at most `limit` (1..100) records, the newest first.

        `filters.order` defines the order: by `created_at`, or by the last message. A record with a
        message between two pages moves to the first page: it may be missing from later pages, and
        is on none twice.

        `page_id` is an earlier page's `next_page_id`; None or "" is the first page. Filters apply
        before paging: every page but the last is full, and the last one's `next_page_id` is None.
        Records saved or deleted between two pages shift nothing: all that were there throughout
        are listed once. Raises BadCursor, BadValue.
        """

    async def get_all_metadata(self, conversation_ids: Sequence[str]) -> list[ConversationMetadata]:
        """Return the records in the order of the ids, repeated for repeated ids.

        Raises ConversationNotFound for the first missing one, Damaged.
        """
        return [await self.get_metadata(conversation_id) for conversation_id in conversation_ids]

    def _owned(self, metadata: ConversationMetadata) -> ConversationMetadata:
        """Return a validated copy that names this store's owner, as `save_metadata` promises."""
        if metadata.user_id not in (None, self.user_id):
            raise OwnerConflict(metadata.conversation_id)
        return metadata.checked_copy(user_id=self.user_id)


class ConversationStores(ABC):
    """One medium's records of all owners."""

    @abstractmethod
    def for_user(self, user_id: str | None) -> ConversationStore:
        """Return a store bound to that owner; cheap, no I/O."""

    async def search_all(
        self,
        page_id: str | None = None,  # noqa: ARG002 - the contract's, as those that follow
        limit: int = DEFAULT_LIMIT,  # noqa: ARG002
        *,
        filters: ConversationFilter | None = None,  # noqa: ARG002
    ) -> ConversationMetadataResultSet:
        """Search as `ConversationStore.search`, over the records of all owners; for administration only.

        This default, for a medium that knows records by their owner only, raises Unavailable.
        """
        raise Unavailable("these records can be listed by owner only")

    async def deleted(self, after: str = "", limit: int = DELETED_PAGE) -> list[str]:  # noqa: ARG002
        """Return the ids of deleted conversations behind `after`, ascending, at most so many.

        No owner may use them again. Raises Unavailable. This default, for records of which nobody
        asks for that, knows none.
        """
        return []

    async def relist(self) -> bool:
        """Make the lists and the index of titles anew from the records; whether there are any.

        Raises Unavailable, OutcomeUnknown. This default is for media whose lists are the records.
        """
        return False


SEAM: StoreOpener[ConversationStore] = StoreOpener()
