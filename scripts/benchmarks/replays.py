"""Replays of a log from PostgreSQL inside one process: of sealed pages, or of the same events as rows."""

import argparse
import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
import uvloop

from benchmarks.machine import cpu_seconds
from benchmarks.payload import event_json
from events.event import EventFlag, StoredEvent
from events.page_reader import PART_BYTES
from events.stores.postgres.pages import PAGE_EVENTS
from events.stores.postgres.store import PostgresEventStore
from events.summary import NO_CHANGE
from storage.database.migrate_postgres import migrate_postgres
from storage.database.postgres import PostgresPool

LOGS, REPLAYED = 40, 4
EVENTS = 2_500
"""Events that are replayed of a log; two more pages of each stay rows."""
REPEATS = 5
SIZE = """
SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname LIKE $2
"""
READER = """
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND query LIKE '%read_log%'
"""


@asynccontextmanager
async def opened(url: str, schema: str) -> AsyncIterator[PostgresEventStore]:
    """The event store in a schema."""
    pool = PostgresPool(url, schema=schema)
    await migrate_postgres(pool)
    store = PostgresEventStore(pool)
    try:
        yield store
    finally:
        await store.close()
        await pool.close()


async def ask(url: str, query: str, *arguments: object) -> Sequence[Any]:
    """Return the rows of a query."""
    connection = await asyncpg.connect(url)
    try:
        rows: Sequence[Any] = await connection.fetch(query, *arguments)
        return rows
    finally:
        await connection.close()


async def fill(url: str, schema: str, *, sealed: bool) -> None:
    """Append to logs in turns, so that their rows lie between each other."""
    async with opened(url, schema) as store:
        if not sealed:
            await ask(url, f"DELETE FROM {schema}.sealing")  # noqa: S608 - ours
        for event_id in range(EVENTS + 2 * PAGE_EVENTS):
            body = orjson.dumps(event_json(event_id))
            event = [StoredEvent(event_id, EventFlag.PLAIN, body)]
            await asyncio.gather(
                *(store.append(one, event_id, event, summary=NO_CHANGE) for one in names(LOGS))
            )
        await store.finish_sealing()
    await ask(url, "VACUUM")  # as PostgreSQL does by itself after a while


async def measure(url: str, schema: str, *, sealed: bool) -> dict[str, float]:
    """Milliseconds of a replay, milliseconds of the server's processor, bytes of an event on disk."""
    async with opened(url, schema) as store:
        await replay(store)
        ((pid,),) = await ask(url, READER)
        cpu, began = cpu_seconds(pid), time.perf_counter()
        for _ in range(REPEATS):
            await replay(store)
        wall, cpu = time.perf_counter() - began, cpu_seconds(pid) - cpu
    ((size,),) = await ask(url, SIZE, schema, "pages__%" if sealed else "events__%")
    events = LOGS * (EVENTS + (PAGE_EVENTS if sealed else 2 * PAGE_EVENTS))
    return {
        "ms": wall / REPEATS * 1e3,
        "server_ms": cpu / REPEATS * 1e3,
        "bytes": float(size) / events,
    }


async def replay(store: PostgresEventStore) -> None:
    """Read some logs, 10,000 events together, page by page."""
    for name in names(REPLAYED):
        for first_id in range(0, EVENTS, PAGE_EVENTS):
            end_id = first_id + PAGE_EVENTS
            events = await store.read_part(name, first_id, end_id, PART_BYTES)
            if [one.id for one in events] != list(range(first_id, end_id)):
                raise ValueError(f"events are missing behind {first_id} of {name}")


def names(count: int) -> list[str]:
    """The first of the logs."""
    return [f"log{number}" for number in range(count)]


def main() -> None:
    """Fill a schema and print its name, or measure one and print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--sealed", action="store_true")
    parser.add_argument("--schema", help="one that was filled")
    options = parser.parse_args()
    if options.schema is None:
        schema = f"bench_{uuid.uuid4().hex}"
        uvloop.run(fill(options.database_url, schema, sealed=options.sealed))
        print(schema)
    else:
        measured = measure(options.database_url, options.schema, sealed=options.sealed)
        print(json.dumps(uvloop.run(measured)))


if __name__ == "__main__":
    main()
