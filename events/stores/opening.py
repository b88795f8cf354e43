"""Opens the event store over an opened storage, and reads all that is stored for damage."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from events.stores.base import EventStore
from events.stores.database.check import check_database_logs
from events.stores.database.store import DatabaseEventStore
from events.stores.files.check import check_logs
from events.stores.files.reading import FileEventReader
from events.stores.files.store import FileEventStore
from events.stores.memory import MemoryEventStore
from storage.backends import backend_of
from storage.backends.base import (
    OpenedDatabase,
    OpenedFiles,
    OpenedMemory,
    OpenedShared,
    OpenedStorage,
)
from storage.config import PostgresStorage, StorageConfig
from storage.errors import StorageError, Unavailable
from storage.inventory import Track, untracked
from storage.workspaces.base import WorkspaceStore
from storage.workspaces.database import DatabaseWorkspaces
from storage.workspaces.files import FileWorkspaces
from storage.workspaces.memory import MemoryWorkspaces
from storage.workspaces.snapshot import WorkspaceLimits

logger = logging.getLogger(__name__)

LOG_CHECKS: Mapping[str, Callable[[Path, Track], list[str]]] = {
    "sqlite": check_database_logs,
    "local": check_logs,
}
"""The check of the logs on each kind of medium that lies in a data directory."""


async def open_event_store(storage: OpenedStorage, stack: AsyncExitStack) -> EventStore:
    """Open the event store of a storage, finish what a crash left, and let `stack` close it."""
    match storage:
        case OpenedDatabase():
            return await _over_database(storage)
        case OpenedShared():
            # Its driver is loaded where it is chosen only.
            from events.stores.postgres.opening import open_postgres_events  # noqa: PLC0415

            return await open_postgres_events(storage, stack)
        case OpenedFiles():
            return await _over_files(storage, stack)
        case OpenedMemory():
            return MemoryEventStore(storage.fold)
        case _:
            raise Unavailable(f"no event store is known for {type(storage).__name__}")


def open_workspaces(
    storage: OpenedStorage, events: EventStore, limits: WorkspaceLimits
) -> WorkspaceStore:
    """Return the store of workspaces over a storage and its event store, which close it."""
    match storage, events:
        case ((OpenedDatabase() | OpenedShared()), _):
            return DatabaseWorkspaces(storage.database, storage.key, limits)
        case OpenedFiles(), FileEventStore():
            return FileWorkspaces(
                storage.files, events.beside, storage.folded.writing, storage.key, limits
            )
        case OpenedMemory(), MemoryEventStore():
            return MemoryWorkspaces(events.beside, limits)
        case _:
            raise Unavailable(f"no store of workspaces is known for {type(storage).__name__}")


async def _over_database(storage: OpenedDatabase) -> EventStore:
    store = DatabaseEventStore(storage.database)
    await store.place_arrivals()
    finished = await store.finish_deletions()
    if finished:
        logger.info("finished %d interrupted deletion(s)", finished)
    return store


async def _over_files(storage: OpenedFiles, stack: AsyncExitStack) -> EventStore:
    if storage.is_read_only:
        return FileEventReader(storage.files, storage.folded)
    store = FileEventStore(storage.files, storage.folded)
    stack.push_async_callback(store.close)
    repaired = await store.repair()
    if repaired:
        logger.info("checked %d conversation(s) against their logs after a crash", repaired)
    return store


def storage_problems(config: StorageConfig, track: Track = untracked) -> list[str]:
    """Return the problems of records and logs, without changing anything. Block."""
    try:
        with backend_of(config).at_hand(track) as backend:
            problems = backend.check(track)
            if isinstance(config, PostgresStorage):
                from events.stores.postgres.check import check_postgres_logs  # noqa: PLC0415

                problems += check_postgres_logs(config, track)
            elif backend.path is not None:
                problems += LOG_CHECKS[backend.kind](backend.path, track)
            return problems
    except StorageError as error:
        return [str(error)]
