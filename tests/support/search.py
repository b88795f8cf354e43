"""The one table from the name of a search index's back-end to the thing itself."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from storage.errors import Unavailable
from storage.search.base import LogChange, SearchIndex
from storage.search.memory import MemorySearchIndex
from storage.search.sqlite import INDEX_NAME, SqliteSearchIndex

INDEXES = ("memory", "sqlite")
DURABLE_INDEXES = ("sqlite",)


async def make_search_index(kind: str, folder: Path) -> SearchIndex:
    """Open the index of that kind in `folder`."""
    if kind == "memory":
        return MemorySearchIndex()
    return await SqliteSearchIndex.open(folder / INDEX_NAME)


@asynccontextmanager
async def open_search_index(kind: str, folder: Path) -> AsyncIterator[SearchIndex]:
    """Open the index of that kind in `folder`, and close it."""
    index = await make_search_index(kind, folder)
    try:
        yield index
    finally:
        await index.close()


class HeldIndex(MemorySearchIndex):
    """Stays open when it is closed, for the next indexer, and fails to write so many times."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures

    async def write(self, changes: Sequence[LogChange]) -> int:
        """See SearchIndex."""
        if self.failures:
            self.failures -= 1
            raise Unavailable("no disk")
        return await super().write(changes)

    async def close(self) -> None:
        """Stay open."""
