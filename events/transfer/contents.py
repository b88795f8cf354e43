"""The stores of one storage together, and streams of what is in them."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from events.damage import with_markers
from events.event import StoredEvent
from events.stores.base import EventStore
from events.stores.opening import open_event_store, open_workspaces
from storage.backends import backend_of
from storage.backends.base import OpenedStorage
from storage.config import StorageConfig
from storage.conversations.metadata import ConversationMetadata, ConversationMetadataResultSet
from storage.opening import open_storage
from storage.workspaces.base import WorkspaceStore
from storage.workspaces.snapshot import WorkspaceLimits

PAGE_RECORDS = 100
PAGE_EVENTS = 500
PART_BYTES = 4 * 1024 * 1024
"""Bytes of events at which a part of a log ends."""
NO_LIMITS = WorkspaceLimits(max_bytes=sys.maxsize, max_entries=sys.maxsize)
"""The limits for files that are kept already: they were within those of their time."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything that one storage keeps."""

    storage: OpenedStorage
    events: EventStore
    workspaces: WorkspaceStore

    async def records(self) -> AsyncIterator[ConversationMetadata]:
        """Yield the records of all owners, the newest first; those that are damaged are left out.

        Raises StorageError.
        """
        async for record in _paged(self.storage.conversations.search_all):
            yield record

    async def records_of(self, user_id: str | None) -> AsyncIterator[ConversationMetadata]:
        """Yield the records of one owner as `records` does."""
        async for record in _paged(self.storage.conversations.for_user(user_id).search):
            yield record

    async def parts(
        self, conversation_id: str, end_id: int, start_id: int = 0
    ) -> AsyncIterator["Part"]:
        """Yield the events of a log from `start_id` and below `end_id` in order, some at a time.

        Markers stand for damaged ones. Raises StoreUnavailable, DamagedHead.
        """
        at = start_id
        while at < end_id:
            end = min(at + PAGE_EVENTS, end_id)
            read = self.events.read_part(conversation_id, at, end, PART_BYTES)
            events, damage = await with_markers(read, at, end)
            if not events:
                return  # deleted meanwhile
            yield Part(events, None if damage is None else str(damage))
            at = events[-1].id + 1


async def _paged(
    search: Callable[[str | None, int], Awaitable[ConversationMetadataResultSet]],
) -> AsyncIterator[ConversationMetadata]:
    page_id: str | None = None
    while True:
        page = await search(page_id, PAGE_RECORDS)
        for record in page.results:
            yield record
        page_id = page.next_page_id
        if page_id is None:
            return


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive events of a log, and what is damaged among them, if anything is."""

    events: Sequence[StoredEvent]
    damage: str | None = None


@asynccontextmanager
async def open_stores(config: StorageConfig) -> AsyncIterator[Stores]:
    """Open all stores of a storage, and close them. Raises what `open_storage` raises."""
    async with open_storage(config) as storage, AsyncExitStack() as stack:
        yield await _stores_of(storage, stack)


@asynccontextmanager
async def open_to_read(config: StorageConfig) -> AsyncIterator[Stores]:
    """Open all stores of a storage to read them, and close them.

    Where the medium lets others read, that is done beside the process that works on it. Raises what
    `open_storage` raises, StorageLocked where only that process can.
    """
    async with AsyncExitStack() as stack:
        storage = await backend_of(config).open_to_read(stack)
        if storage is None:
            storage = await stack.enter_async_context(open_storage(config))
        yield await _stores_of(storage, stack)


async def _stores_of(storage: OpenedStorage, stack: AsyncExitStack) -> Stores:
    events = await open_event_store(storage, stack)
    return Stores(storage, events, open_workspaces(storage, events, NO_LIMITS))
