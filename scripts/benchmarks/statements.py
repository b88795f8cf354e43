"""Appends to PostgreSQL by one connection: what its processes spend on an event."""

import argparse
import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping

import asyncpg
import orjson
import uvloop

from benchmarks.machine import cpu_seconds
from benchmarks.payload import event_json
from events.event import EventFlag, StoredEvent
from events.stores.postgres.group import GROUP_LOGS
from events.stores.postgres.store import PostgresEventStore
from events.summary import NO_CHANGE, fold
from storage.database.migrate_postgres import migrate_postgres
from storage.database.postgres import PostgresPool, Sizes, in_schema

LOGS = GROUP_LOGS
"""Logs of one statement, an event for each: as many as the server puts into one."""
WARM_PIECES = 20
BACKENDS = """
    SELECT pid FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
"""
BARE = "CREATE TABLE parley.bare (LIKE parley.events INCLUDING INDEXES)"
INSERT = """
    INSERT INTO parley.bare (number, id, version, flag, crc, body)
    SELECT number, id, 1, 0, 0, body FROM unnest($1::bigint[], $2::integer[], $3::bytea[]) AS t(number, id, body)
"""

Piece = Callable[[int], Awaitable[None]]
"""Appends the events with that id."""


def appends_to(store: PostgresEventStore, logs: int) -> Piece:
    """An event to each of so many logs: in one statement, as they come in one turn of the loop."""
    names = [uuid.uuid4().hex for _ in range(logs)]

    async def piece(event_id: int) -> None:
        payload = event_json(event_id)
        event = StoredEvent(event_id, EventFlag.PLAIN, orjson.dumps(payload))
        summary = fold(NO_CHANGE, event_id, payload)
        await asyncio.gather(
            *(store.append(name, event_id, [event], summary=summary) for name in names)
        )

    return piece


def rows_to(connection: "asyncpg.Connection[asyncpg.Record]", schema: str) -> Piece:
    """As many rows in one statement that does nothing else."""
    insert, numbers = in_schema(INSERT, schema), [*range(LOGS)]

    async def piece(event_id: int) -> None:
        body = orjson.dumps(event_json(event_id))
        await connection.execute(insert, numbers, [event_id] * LOGS, [body] * LOGS)

    return piece


async def measure(
    url: str, way: str, seconds: float, pooler_url: str | None
) -> Mapping[str, float]:
    """Microseconds of PostgreSQL's processor time, and of time, for each event."""
    schema = f"bench_{uuid.uuid4().hex}"
    pool = PostgresPool(url, schema=schema)
    await migrate_postgres(pool)
    await pool.close()
    pool = PostgresPool(
        pooler_url or url, schema=schema, sizes=Sizes(1, 1, 1), pooler=pooler_url is not None
    )
    store, watcher = PostgresEventStore(pool), await asyncpg.connect(url)
    bare = await asyncpg.connect(url)
    try:
        await bare.execute(in_schema(BARE, schema))
        events = 1 if way == "one" else LOGS
        piece = rows_to(bare, schema) if way == "rows" else appends_to(store, events)
        for event_id in range(WARM_PIECES):
            await piece(event_id)
        backends = [pid for (pid,) in await watcher.fetch(BACKENDS)]
        began, spent, event_id = time.perf_counter(), spent_by(backends), WARM_PIECES
        while time.perf_counter() - began < seconds:
            await piece(event_id)
            event_id += 1
        wall, spent = time.perf_counter() - began, spent_by(backends) - spent
        appended = (event_id - WARM_PIECES) * events
        return {"cpu_us": spent / appended * 1e6, "wall_us": wall / appended * 1e6}
    finally:
        await store.close()
        await pool.close()
        await bare.close()
        await watcher.execute(f"DROP SCHEMA {schema} CASCADE")
        await watcher.close()


def spent_by(pids: Iterable[int]) -> float:
    """Seconds of processor time of these processes."""
    return sum(map(cpu_seconds, pids))


def main() -> None:
    """Read the command line, print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--pooler-url", help="append through this address of it")
    parser.add_argument("--way", choices=("one", "logs", "rows"), required=True)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    work = measure(options.url, options.way, options.seconds, options.pooler_url)
    print(json.dumps(uvloop.run(work)))


if __name__ == "__main__":
    main()
