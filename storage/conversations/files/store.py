"""Conversation records over a FileStore: one file each, and lists in memory, stored in blocks."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Self, TypeAlias

from storage.conversations.base import DELETED_PAGE, ConversationStore, ConversationStores
from storage.conversations.files.blocks import StoredListing
from storage.conversations.files.documents import Document
from storage.conversations.files.settling import Active, RecordSettling
from storage.conversations.folded import Fold, FoldedRecords
from storage.conversations.metadata import (
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
from storage.errors import (
    ConversationDeleted,
    ConversationNotFound,
    Damaged,
    NewerFormat,
    OutcomeUnknown,
    OwnerConflict,
    StorageError,
    Unavailable,
)
from storage.files.base import FileStore
from storage.keys import LISTS, RECORDS, UNSETTLED, check_conversation_id
from storage.reserve import Reserve, making_room

_LOG = logging.getLogger(__name__)

READ_AT_ONCE = 50
"""Blocks of lists, or records, that are read in one call."""

_Row: TypeAlias = tuple[ListPosition, ConversationMetadata | None]


class FileConversationStores(ConversationStores, FoldedRecords):
    """The records of all owners over one FileStore, which one process uses at a time."""

    def __init__(self, files: FileStore, listing: StoredListing, unsettled: RecordSettling) -> None:
        self.listing = listing
        self.in_use = unsettled
        self._files = files

    @property
    def reserve(self) -> Reserve | None:
        """Return the room that the file store keeps for deletions."""
        return self._files.reserve

    @classmethod
    async def open(cls, files: FileStore) -> Self:
        """Read the lists, and examine the records that a crash left marked.

        Raises Unavailable, and NewerFormat for lists written by a newer version.
        """
        listing = StoredListing()
        # Before the lists: where another process works on the files, what has lost its mark since
        # then is in a list by now.
        left = [key.removeprefix(UNSETTLED) for key in await files.keys(UNSETTLED)]
        keys = await files.keys(LISTS)
        damaged: list[str] = []
        for begin in range(0, len(keys), READ_AT_ONCE):
            some = keys[begin : begin + READ_AT_ONCE]
            contents = await _contents_of(files, some)
            damaged += listing.load(
                (key, content or b"") for key, content in zip(some, contents, strict=True)
            )
        listing.sort()
        stores = cls(files, listing, RecordSettling(files, listing))
        if damaged:
            _LOG.error("damaged and made anew from the records: %s", ", ".join(damaged))
            found = [key.removeprefix(RECORDS) for key in await files.keys(RECORDS)]
            await stores._enter([key for key in found if listing.get(key) is None])
        await stores._enter(left)
        stores.in_use.left.update(left)
        return stores

    def for_user(self, user_id: str | None) -> "FileConversationStore":
        """See ConversationStores."""
        return FileConversationStore(self, user_id)

    async def search_all(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStores."""
        everybody = FileConversationStore(self, None, everybody=True)
        return await everybody.search(page_id, limit, filters=filters)

    async def deleted(self, after: str = "", limit: int = DELETED_PAGE) -> list[str]:
        """See ConversationStores. Every record that no list has is read for it.

        Of a damaged one nobody knows whether it is a deleted conversation's: it is left out and logged.
        """
        keys = await self._files.keys(RECORDS, after=RECORDS + after)
        unlisted = [key for key in keys if self.listing.get(key.removeprefix(RECORDS)) is None]
        found: list[str] = []
        for begin in range(0, len(unlisted), READ_AT_ONCE):
            some = [key.removeprefix(RECORDS) for key in unlisted[begin : begin + READ_AT_ONCE]]
            readable = await self._readable(some, Damaged)
            found += [one for one, document in readable if document.deleted]
            if len(found) >= limit:
                break
        return found[:limit]

    async def relist(self) -> bool:
        """See ConversationStores. Records that cannot be read are left out and logged."""
        keys = [key.removeprefix(RECORDS) for key in await self._files.keys(RECORDS)]
        there = set(keys)
        for entry in [*self.listing.all_owners()]:
            if entry.position.conversation_id not in there:
                self.listing.remove(entry.position.conversation_id)
        await self._enter(keys)
        return bool(keys)

    async def close(self) -> None:
        """Write the lists and remove the marks; the FileStore stays open. Raises StorageError."""
        await self.in_use.close()

    @asynccontextmanager
    async def writing(self, conversation_id: str) -> AsyncIterator[Fold]:
        """See FoldedRecords. Raises ConversationDeleted for one whose record was deleted."""
        active = self.in_use.get(conversation_id)
        if active is None:
            async with self.in_use.lock(conversation_id):
                active = await self.in_use.use(conversation_id)
        if active.document.deleted:
            raise ConversationDeleted(conversation_id)
        active.pins += 1
        try:
            yield lambda values: self._fold(conversation_id, active, values)
        finally:
            active.pins -= 1
        self.in_use.settle_older()

    async def folded_until(self, conversation_id: str) -> datetime | None:
        """See FoldedRecords."""
        try:
            return (await self.in_use.read(conversation_id)).last_updated_at
        except Damaged:
            return None

    def unsettled(self) -> Sequence[str]:
        """See FoldedRecords."""
        return sorted(self.in_use.left)

    async def settle(
        self, conversation_id: str, fold: Mapping[str, Any] | None, *, deleted: bool
    ) -> None:
        """See FoldedRecords."""
        async with self.in_use.lock(conversation_id):
            active = await self.in_use.use(conversation_id)
            if deleted and not active.document.deleted:
                await self.in_use.write(conversation_id, active, Document(deleted=True))
            elif fold is not None:
                self._fold(conversation_id, active, fold)
            self.in_use.compared(conversation_id)

    def _fold(self, conversation_id: str, active: Active, values: Mapping[str, Any]) -> None:
        if active.document.deleted:
            return
        active.document.add(values)
        active.version += 1
        active.kept = False
        document = active.document
        self.listing.touch(conversation_id, document.last_updated_at, document.last_message_at)

    async def _enter(self, conversation_ids: Sequence[str]) -> None:
        for begin in range(0, len(conversation_ids), READ_AT_ONCE):
            some = conversation_ids[begin : begin + READ_AT_ONCE]
            for conversation_id, document in await self._readable(some, Damaged, Unavailable):
                self.in_use.enter(conversation_id, document)

    async def _readable(
        self, conversation_ids: Sequence[str], *passed_over: type[StorageError]
    ) -> list[tuple[str, Document]]:
        """Return the documents, in that order, without those of such errors, which are logged."""
        try:
            documents = await self.in_use.read_all(conversation_ids)
        except passed_over as error:
            if len(conversation_ids) > 1:  # one by one, to find which
                return [
                    row
                    for one in conversation_ids
                    for row in await self._readable([one], *passed_over)
                ]
            _LOG.error("left out of the lists: %s", error)
            return []
        return [*zip(conversation_ids, documents, strict=True)]


async def _contents_of(files: FileStore, keys: Sequence[str]) -> list[bytes | None]:
    """Return the files in that order; None for one that is unreadable or absent."""
    try:
        return await files.read_all(keys)
    except (Damaged, Unavailable) as error:
        if len(keys) == 1:
            _LOG.error("%s cannot be read: %s", keys[0], error)
            return [None]
        return [content for key in keys for content in await _contents_of(files, [key])]


class FileConversationStore(ConversationStore):
    """One owner's view of the records."""

    folds_with_log: ClassVar[bool] = True

    def __init__(
        self, stores: FileConversationStores, user_id: str | None, *, everybody: bool = False
    ) -> None:
        super().__init__(user_id)
        self._everybody = everybody
        self._listing = stores.listing
        self._in_use = stores.in_use
        self._stores = stores

    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        """See ConversationStore."""
        key = check_conversation_id(metadata.conversation_id)
        record = self._owned(metadata)
        async with self._in_use.lock(key):
            known = await self._in_use.read(key)
            if known.deleted:
                raise ConversationDeleted(key)
            if known.record is not None and known.record.user_id != self.user_id:
                raise OwnerConflict(key)
            active = await self._in_use.use(key)
            await self._in_use.write(key, active, Document(record, active.document.fold))

    async def update_metadata(
        self, conversation_id: str, change: MetadataChange
    ) -> ConversationMetadata:
        """See ConversationStore."""
        key = check_conversation_id(conversation_id)
        async with self._in_use.lock(key):
            changed = change.apply_to(self._visible(key, await self._in_use.read(key)))
            active = await self._in_use.use(key)
            await self._in_use.write(key, active, Document(changed, active.document.fold))
            return self._visible(key, active.document)

    async def give_title(self, conversation_id: str, title: str) -> bool:
        """See ConversationStore."""
        key = check_conversation_id(conversation_id)
        async with self._in_use.lock(key):
            found = self._visible(key, await self._in_use.read(key))
            if found.title is not None:
                return False
            titled = MetadataChange(title=title).apply_to(found)
            active = await self._in_use.use(key)
            await self._in_use.write(key, active, Document(titled, active.document.fold))
            return True

    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        """See ConversationStore."""
        key = check_conversation_id(conversation_id)
        await self._clear_doubts()
        return self._visible(key, await self._in_use.read(key))

    async def delete_metadata(self, conversation_id: str) -> None:
        """See ConversationStore."""
        key = check_conversation_id(conversation_id)
        await making_room(
            self._stores.reserve, partial(self._delete, key), (Unavailable, OutcomeUnknown)
        )

    async def _delete(self, key: str) -> None:
        async with self._in_use.lock(key):
            try:
                known = await self._in_use.read(key)
            except NewerFormat:
                raise
            except Damaged:
                await self._delete_damaged(key)
                return
            if known.record is not None and known.record.user_id == self.user_id:
                active = await self._in_use.use(key)
                await self._in_use.write(key, active, Document(deleted=True))

    async def _delete_damaged(self, key: str) -> None:
        """Delete a record that cannot be read, if the lists know its owner. Raises Damaged."""
        entry = self._listing.get(key)
        if entry is None:
            raise Damaged(f"{RECORDS}{key} cannot be read, and its owner is not known")
        if entry.owner == self.user_id:
            await self._in_use.bury(key)

    async def exists(self, conversation_id: str) -> bool:
        """See ConversationStore. Answered from memory."""
        await self._clear_doubts()
        entry = self._listing.get(check_conversation_id(conversation_id))
        return entry is not None and entry.owner == self.user_id

    async def search(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStore. A record that cannot be read is left out and logged."""
        check_limit(limit)
        wanted = filters or EVERYTHING
        order = ListOrder.CREATED if self._everybody else wanted.order
        after = ListPosition.from_page_id(page_id, order)
        await self._clear_doubts()
        for _ in self._listing.preparing(self.user_id, wanted):
            await asyncio.sleep(0)
        rows: list[_Row] = []
        more = True
        while more and len(rows) <= limit:
            positions, after = self._listing.scan(
                *(self.user_id, wanted, after, limit + 1 - len(rows)), everybody=self._everybody
            )
            more = after is not None
            rows += await self._listed(positions)
            if not positions:
                await asyncio.sleep(0)  # a long search lets others run
        page = rows[:limit]
        return ConversationMetadataResultSet(
            results=[record for _, record in page if record is not None],
            next_page_id=page[-1][0].to_page_id(order) if len(rows) > limit else None,
        )

    async def _listed(self, positions: Sequence[ListPosition]) -> list[_Row]:
        """Return lines of a list, without deleted ones, and without the records that are damaged."""
        try:
            documents = await self._in_use.read_all([one.conversation_id for one in positions])
        except Damaged as damage:
            if len(positions) > 1:  # one by one, to find which
                return [row for one in positions for row in await self._listed([one])]
            _LOG.error("left out of a list: %s", damage)
            return [(positions[0], None)]
        records = (document.visible() for document in documents)
        return [(one, record) for one, record in zip(positions, records, strict=True) if record]

    async def get_all_metadata(self, conversation_ids: Sequence[str]) -> list[ConversationMetadata]:
        """See ConversationStore."""
        keys = [check_conversation_id(key) for key in conversation_ids]
        await self._clear_doubts()
        documents = await self._in_use.read_all(keys)
        return [self._visible(*pair) for pair in zip(keys, documents, strict=True)]

    def _visible(self, key: str, document: Document) -> ConversationMetadata:
        record = document.visible()
        if record is None or record.user_id != self.user_id:
            raise ConversationNotFound(key)
        return record

    async def _clear_doubts(self) -> None:
        """Read back the results of writes of unknown outcome, before they are used."""
        for key in [*self._in_use.doubtful]:
            async with self._in_use.lock(key):
                await self._in_use.use(key)
