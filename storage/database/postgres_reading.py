"""Blocking, read-only access to a PostgreSQL schema, for checks in a thread without an event loop."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from storage.config import PostgresStorage
from storage.database.base import Row
from storage.database.postgres import PostgresPool, Role, Sizes

PAGE_ROWS = 500
DEADLINE_SECONDS = 60.0
"""Seconds one statement of a check may take; some read a whole table."""


class Reader:
    """Connections that a check reads with, beside a server that may be writing."""

    def __init__(self, runner: asyncio.Runner, pool: PostgresPool) -> None:
        self._runner = runner
        self._pool = pool

    @property
    def has_schema(self) -> bool:
        """Whether a server was ever started over the schema. Raises StorageError."""
        ((there,),) = self.ask("has_schema", f"{self._pool.schema}.migrations")
        return bool(there)

    def ask(self, query: str, *arguments: object) -> list[Row]:
        """Return the rows of a query. Raises StorageError."""
        return self._runner.run(self._fetch(query, arguments))

    def pages(self, query: str, before: Sequence[object], *fixed: object) -> Iterator[Row]:
        """Yield the rows of a query a page at a time. Raises StorageError.

        Its parameters are `fixed` ones, the position of the row before the page, and the number of
        rows. A row begins with its position; `before` is the one before all rows.
        """
        while rows := self.ask(query, *fixed, *before, PAGE_ROWS):
            yield from rows
            before = tuple(rows[-1])[: len(before)]

    async def _fetch(self, query: str, arguments: Sequence[object]) -> list[Row]:
        return await self._pool.fetch(Role.READ, query, *arguments)


@contextmanager
def reading(config: PostgresStorage) -> Iterator[Reader]:
    """Yield a reader, and close its connections. Block."""

    async def connect() -> PostgresPool:
        return PostgresPool(
            config.url.get_secret_value(),
            schema=config.schema_name,
            sizes=Sizes(0, 1, 0),
            pooler=config.pooler,
            deadline_seconds=DEADLINE_SECONDS,
        )

    with asyncio.Runner() as runner:
        pool = runner.run(connect())
        try:
            yield Reader(runner, pool)
        finally:
            runner.run(pool.close())
