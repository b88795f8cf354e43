"""The event store over an opened PostgreSQL storage."""

import logging
from contextlib import AsyncExitStack

from events.stores.postgres.store import PostgresEventStore
from storage.backends.base import OpenedShared
from storage.backends.postgres import OpenedPostgres
from storage.errors import Unavailable

logger = logging.getLogger(__name__)


async def open_postgres_events(storage: OpenedShared, stack: AsyncExitStack) -> PostgresEventStore:
    """Open the event store, finish deletions that a crash cut short, and let `stack` close it."""
    if not isinstance(storage, OpenedPostgres):
        raise Unavailable(f"no event store is known for {type(storage).__name__}")
    store = PostgresEventStore(storage.pool)
    stack.push_async_callback(store.close)
    finished = await store.finish_deletions()
    if finished:
        logger.info("finished %d interrupted deletion(s)", finished)
    return store
