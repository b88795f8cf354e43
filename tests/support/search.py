"""The one table from the name of a search index's back-end to the thing itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from storage.search.base import SearchIndex
from storage.search.memory import MemorySearchIndex
from storage.search.sqlite import INDEX_NAME, SqliteSearchIndex

INDEXES = ("memory", "sqlite")
DURABLE_INDEXES = ("sqlite",)


@asynccontextmanager
async def open_search_index(kind: str, folder: Path) -> AsyncIterator[SearchIndex]:
    """Open the index of that kind in `folder`, and close it."""
    index: SearchIndex
    if kind == "memory":
        index = MemorySearchIndex()
    else:
        index = await SqliteSearchIndex.open(folder / INDEX_NAME)
    try:
        yield index
    finally:
        await index.close()
