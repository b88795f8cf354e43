"""Opens the index of full-text search, in a directory or in the storage itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from events.search.indexer import Indexer, OpenIndex
from events.search.throttle import REST
from events.stores.base import EventStore
from storage.conversations.base import ConversationStores
from storage.errors import Unavailable
from storage.lock import data_directory_lock, is_held_by_this_process
from storage.search.base import SearchIndex
from storage.search.sqlite import INDEX_NAME, SqliteSearchIndex, remove_index


async def open_indexer(
    folder: Path,
    events: EventStore,
    records: ConversationStores,
    stack: AsyncExitStack,
    rest: float = REST,
) -> Indexer:
    """Return the indexer of the index in `folder`, which opens the file itself when it begins.

    It rests after each write, `rest` times as long as the write took.
    A folder that this process has not locked as its data directory is locked until `stack` is left.
    Raises DataDirectoryLocked, and Unavailable for a folder that cannot be used.
    """
    return Indexer(await index_in(folder, stack), events, records, rest=rest)


async def index_in(folder: Path, stack: AsyncExitStack) -> OpenIndex:
    """Return the function that opens the index in `folder`, which is locked as by `open_indexer`."""
    await _lock(folder, stack)
    return partial(SqliteSearchIndex.open, folder / INDEX_NAME)


async def drop_index(folder: Path, stack: AsyncExitStack) -> None:
    """Remove the index in `folder`, and so every word in it; a server makes it anew when it starts.

    The folder is locked as by `open_indexer`, which is also what this raises.
    """
    await _lock(folder, stack)
    try:
        await asyncio.to_thread(remove_index, folder / INDEX_NAME)
    except OSError as error:
        raise Unavailable(f"cannot remove {INDEX_NAME} in {folder}: {error.strerror}") from error


async def _lock(folder: Path, stack: AsyncExitStack) -> None:
    try:
        if not await asyncio.to_thread(is_held_by_this_process, folder):
            await asyncio.to_thread(stack.enter_context, data_directory_lock(folder))
    except OSError as error:
        raise Unavailable(f"cannot use {folder} for the search index: {error.strerror}") from error


async def make_anew(
    index: SearchIndex, events: EventStore, records: ConversationStores
) -> AsyncIterator[str]:
    """Clear an index and index every conversation, which is yielded when it is done.

    Raises StorageError.
    """

    async def opened() -> SearchIndex:
        return index

    await index.clear()
    async for conversation_id in Indexer(opened, events, records, rest=0.0).compare(index):
        yield conversation_id
