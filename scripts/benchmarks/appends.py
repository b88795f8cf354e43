"""Appends inside one process: producers that each wait until their event is durable."""

import argparse
import asyncio
import gc
import json
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop
from pydantic import SecretStr

from benchmarks.payload import text
from events.actions import MessageAction
from events.event import EventSource
from events.page_reader import PageReader
from events.stores.opening import open_event_store
from events.stream import EventStream
from server.process.runner import GC_THRESHOLDS
from storage.config import PostgresStorage, SqliteStorage, StorageConfig
from storage.opening import open_storage


async def measure(config: StorageConfig, producers: int, seconds: float) -> dict[str, Any]:
    """Events a second and processor time per event; each producer has its conversation."""
    async with open_storage(config) as storage, AsyncExitStack() as stack:
        store = await open_event_store(storage, stack)
        reader = PageReader(store, page_size=100, cache_bytes=1)
        streams = [
            await EventStream.open(uuid.uuid4().hex, store, reader) for _ in range(producers)
        ]
        for stream in streams:
            await stream.append(MessageAction(content=text()), EventSource.AGENT)
        gc.set_threshold(*GC_THRESHOLDS)
        gc.freeze()
        delays: list[float] = []
        began, cpu = time.perf_counter(), time.process_time()
        deadline = began + seconds

        async def produce(stream: EventStream) -> int:
            count = 0
            while (now := time.perf_counter()) < deadline:
                appended = await stream.append(MessageAction(content=text()), EventSource.AGENT)
                delays.append(time.perf_counter() - now)
                count += 1
                if appended.id != count:
                    raise ValueError(f"id {appended.id} given where {count} was due")
            return count

        counts = await asyncio.gather(*(produce(stream) for stream in streams))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        for stream, count in zip(streams, counts, strict=True):
            head = await store.head(stream.conversation_id)
            if head.next_id != count + 1:
                raise ValueError(f"{head.next_id - 1} stored, {count} acknowledged")
            await stream.close()
    events = sum(counts)
    delays.sort()
    return {
        "per_s": events / wall,
        "cpu_us": cpu / events * 1e6,
        "p50_ms": delays[len(delays) // 2] * 1e3,
        "p99_ms": delays[len(delays) * 99 // 100] * 1e3,
    }


def main() -> None:
    """Read the command line, print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--producers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--database-url", help="measure a schema of this database instead")
    options = parser.parse_args()
    config: StorageConfig = SqliteStorage(data_dir=options.data_dir)
    if options.database_url is not None:
        config = PostgresStorage(
            url=SecretStr(options.database_url),
            secret_key=SecretStr("of a measurement"),
            schema_name=f"bench_{uuid.uuid4().hex}",
        )
    print(json.dumps(uvloop.run(measure(config, options.producers, options.seconds))))


if __name__ == "__main__":
    main()
