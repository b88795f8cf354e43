"""Processes that work on a storage and end themselves at a failpoint; what they were told is kept.

`python -m tests.support.crashing DATA_DIR STORAGE POINT HIT...`: for every HIT a process works on
DATA_DIR/HIT and writes to DATA_DIR/HIT.told. The HIT-th time POINT is reached it is gone at once, as
by SIGKILL; the first that does not reach POINT so often ends with 0 and is the last. Its exit codes
are printed, one a line. Each is forked from one that has imported everything: that takes a second,
the work a twentieth of it.
"""

import asyncio
import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import NoReturn

from events.page_reader import PageReader
from events.stores.base import EventStore
from events.stores.database.store import DatabaseEventStore
from events.stores.files.store import FileEventStore
from events.stream import EventStream
from storage import failpoints
from storage.backends.base import OpenedDatabase, OpenedFiles, OpenedStorage
from storage.config import LocalStorage, SqliteStorage, StorageConfig
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.opening import open_storage
from storage.users import Settings
from tests.support.streams import USER, message

CRASHED = 70
KEPT, DELETED = "kept", "deleted"
ROUNDS = 6
BATCH = 5
PAGE_EVENTS = 10
"""Small, so that pages are sealed on files."""


def config_of(kind: str, data_dir: Path) -> StorageConfig:
    """Return the storage of that kind."""
    return (SqliteStorage if kind == "sqlite" else LocalStorage)(data_dir=data_dir)


async def events_of(storage: OpenedStorage) -> EventStore:
    """Return the event store over an open storage, as a server has it after its start."""
    if isinstance(storage, OpenedDatabase):
        store = DatabaseEventStore(storage.database)
        await store.place_arrivals()
        await store.finish_deletions()
        return store
    assert isinstance(storage, OpenedFiles)
    files = FileEventStore(storage.files, storage.folded, page_events=PAGE_EVENTS)
    await files.repair()
    return files


async def stream_of(store: EventStore, conversation_id: str) -> EventStream:
    """Return a stream over a store."""
    reader = PageReader(store, page_size=PAGE_EVENTS, cache_bytes=100_000, read_seconds=10.0)
    return await EventStream.open(conversation_id, store, reader)


async def work(config: StorageConfig) -> None:
    """Write two logs, records and settings, then delete one log; print what was acknowledged."""
    async with open_storage(config) as storage:
        store = await events_of(storage)
        records = storage.conversations.for_user(None)
        for one in (KEPT, DELETED):
            await records.save_metadata(ConversationMetadata(conversation_id=one))
        streams = {one: await stream_of(store, one) for one in (KEPT, DELETED)}
        for number in range(ROUNDS):
            for name, stream in streams.items():
                await asyncio.gather(*(_say(name, stream, f"{number}-{n}") for n in range(BATCH)))
            await records.update_metadata(KEPT, MetadataChange(title=f"title {number}"))
            _tell("titled", number)
            await storage.settings.for_user(None).store(Settings(max_iterations=number + 1))
            _tell("set", number + 1)
        _tell("deleting", DELETED)
        await store.delete(DELETED)
        await records.delete_metadata(DELETED)
        _tell("deleted", DELETED)
        await asyncio.gather(_say(KEPT, streams[KEPT], "last"))
        for stream in streams.values():
            await stream.close()
        if isinstance(store, FileEventStore):
            await store.close()


async def _say(name: str, stream: EventStream, key: str) -> None:
    _tell("sent", name, key)
    appended = await stream.append(message(f"text {key}"), USER, client_id=key)
    _tell("ok", name, key, appended.id)


def _tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _crash_at(hit: int) -> None:
    _reached.append(None)
    if len(_reached) == hit:
        os._exit(CRASHED)


_reached: list[None] = []


def main() -> None:
    """Run the work once per hit with the failpoint of the command line enabled."""
    folder, kind, point, *hits = sys.argv[1:]
    for hit in hits:
        child = os.fork()  # before there is a loop or a thread
        if child == 0:
            _work_until(
                config_of(kind, Path(folder, hit)), Path(folder, f"{hit}.told"), point, int(hit)
            )
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)  # noqa: T201 - its answer
        if code == 0:
            break


def _work_until(config: StorageConfig, told: Path, point: str, hit: int) -> NoReturn:
    try:
        with told.open("w", encoding="utf-8") as sys.stdout:
            failpoints.enable(point, partial(_crash_at, hit))
            asyncio.run(work(config))
    except BaseException:  # noqa: BLE001 - a forked process ends here, whatever it was
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
