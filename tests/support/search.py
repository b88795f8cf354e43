"""The one table from the name of a search index's back-end to the thing itself."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from storage.errors import Unavailable
from storage.search.base import LogChange, SearchIndex
from storage.search.memory import MemorySearchIndex
from storage.search.postgres import PostgresSearchIndex
from storage.search.sqlite import INDEX_NAME, SqliteSearchIndex
from tests.support.postgres import open_postgres

INDEXES = ("memory", "sqlite", "postgres", "pgbouncer")
DURABLE_INDEXES = INDEXES[1:]


async def make_search_index(kind: str, folder: Path) -> SearchIndex:
    """Open the index of that kind in `folder`."""
    if kind == "memory":
        return MemorySearchIndex()
    return await SqliteSearchIndex.open(folder / INDEX_NAME)


@asynccontextmanager
async def open_search_index(kind: str, folder: Path) -> AsyncIterator[SearchIndex]:
    """Open the index of that kind in `folder`, or in the schema of that folder, and close it."""
    async with AsyncExitStack() as stack:
        if kind in ("postgres", "pgbouncer"):
            pooler = kind == "pgbouncer"
            pool = await stack.enter_async_context(open_postgres(folder, pooler=pooler))
            index: SearchIndex = await PostgresSearchIndex.open(pool)
        else:
            index = await make_search_index(kind, folder)
        stack.push_async_callback(index.close)
        yield index


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
