"""A ConversationStore of one's own: every record in one JSON file, for small installations.

Name it with conversation_store_class = "json_store:JsonConversationStore".
"""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from storage.config import HasStorage, MemoryStorage, StorageConfig, storage_config_of
from storage.conversations import (
    ConversationFilter,
    ConversationMetadata,
    ConversationMetadataResultSet,
    ConversationStore,
    ConversationStores,
)
from storage.conversations.paging import (
    DEFAULT_LIMIT,
    EVERYTHING,
    ListOrder,
    ListPosition,
    check_limit,
)
from storage.errors import (
    ConversationDeleted,
    ConversationNotFound,
    OutcomeUnknown,
    OwnerConflict,
    Unavailable,
)
from storage.keys import check_conversation_id


class JsonBook(ConversationStores):
    """The file, and its content in memory. An event loop has one book per file."""

    _books: ClassVar[dict[tuple[Path, asyncio.AbstractEventLoop], "JsonBook"]] = {}

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, ConversationMetadata] = {}
        self.spent: set[str] = set()
        self.serial = asyncio.Lock()
        self._loaded = False

    @classmethod
    def at(cls, path: Path) -> "JsonBook":
        return cls._books.setdefault((path, asyncio.get_running_loop()), cls(path))

    def for_user(self, user_id: str | None) -> "JsonConversationStore":
        return JsonConversationStore(self, user_id)

    async def load(self) -> None:
        async with self.serial:
            if self._loaded:
                return
            try:
                text = await asyncio.to_thread(self.path.read_text, "utf-8")
            except FileNotFoundError:
                text = '{"records": [], "spent": []}'
            except OSError as error:
                raise Unavailable(f"cannot read {self.path.name}") from error
            content = json.loads(text)
            for values in content["records"]:
                record = ConversationMetadata.model_validate(values)
                self.records[record.conversation_id] = record
            self.spent = set(content["spent"])
            self._loaded = True

    async def write(self, records: dict[str, ConversationMetadata], spent: set[str]) -> None:
        """Replace the file, then what is in memory; called with `serial` held."""
        dumped = [record.model_dump(mode="json") for record in records.values()]
        text = json.dumps({"records": dumped, "spent": sorted(spent)}, ensure_ascii=False)
        # A caller that goes away must not leave the file half way and the memory behind it.
        await asyncio.shield(self._replace(text, records, spent))

    async def _replace(
        self, text: str, records: dict[str, ConversationMetadata], spent: set[str]
    ) -> None:
        try:
            await asyncio.to_thread(replace_durably, self.path, text)
        except OSError as error:
            raise OutcomeUnknown(f"cannot write {self.path.name}") from error
        self.records, self.spent = records, spent


class JsonConversationStore(ConversationStore):
    """One owner's view of the book. `update_metadata` and the rest are inherited."""

    def __init__(self, book: JsonBook, user_id: str | None) -> None:
        super().__init__(user_id)
        self._book = book

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> ConversationStore:
        medium = storage_config_of(config)
        if isinstance(medium, MemoryStorage):
            raise Unavailable("a JSON file needs a data directory")
        return JsonBook.at(medium.data_dir / "records.json").for_user(user_id)

    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        key = check_conversation_id(metadata.conversation_id)
        record = self._owned(metadata)
        await self._book.load()
        async with self._book.serial:
            if key in self._book.spent:
                raise ConversationDeleted(key)
            known = self._book.records.get(key)
            if known is not None and known.user_id != self.user_id:
                raise OwnerConflict(key)
            await self._book.write(self._book.records | {key: record}, self._book.spent)

    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        record = await self._visible(conversation_id)
        if record is None:
            raise ConversationNotFound(conversation_id)
        return record.checked_copy()

    async def exists(self, conversation_id: str) -> bool:
        return await self._visible(conversation_id) is not None

    async def delete_metadata(self, conversation_id: str) -> None:
        if await self._visible(conversation_id) is None:
            return
        async with self._book.serial:
            records = dict(self._book.records)
            records.pop(conversation_id, None)
            await self._book.write(records, self._book.spent | {conversation_id})

    async def search(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        check_limit(limit)
        wanted = filters or EVERYTHING
        after = ListPosition.from_page_id(page_id, wanted.order)
        await self._book.load()
        found = [
            record
            for record in self._newest_first(wanted.order)
            if (after is None or ListPosition.of(record, wanted.order) < after)
            and wanted.accepts(record)
        ]
        page = [record.checked_copy() for record in found[:limit]]
        more = len(found) > limit
        last = ListPosition.of(page[-1], wanted.order) if more else None
        next_page_id = None if last is None else last.to_page_id(wanted.order)
        return ConversationMetadataResultSet(results=page, next_page_id=next_page_id)

    async def _visible(self, conversation_id: str) -> ConversationMetadata | None:
        check_conversation_id(conversation_id)
        await self._book.load()
        record = self._book.records.get(conversation_id)
        return record if record is not None and record.user_id == self.user_id else None

    def _newest_first(self, order: ListOrder) -> Iterator[ConversationMetadata]:
        own = [one for one in self._book.records.values() if one.user_id == self.user_id]
        return iter(sorted(own, key=lambda one: ListPosition.of(one, order), reverse=True))


def replace_durably(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
