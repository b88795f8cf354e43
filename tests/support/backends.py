"""The one table from a back-end's name to the thing itself."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from events.conformance.records import append, records
from events.stores.base import EventStore
from events.stores.database.store import DatabaseEventStore
from events.stores.files.store import FileEventStore
from events.stores.memory import MemoryEventStore
from events.stores.postgres.store import PostgresEventStore
from storage.conformance import OpenedWorkspaces
from storage.conversations.base import ConversationStores
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.files.store import FileConversationStores
from storage.conversations.memory import MemoryConversations
from storage.database.postgres_database import PostgresDatabase
from storage.database.sqlite import SqliteDatabase
from storage.files.base import FileStore
from storage.files.cloud import CloudFileStore
from storage.files.local import LocalFileStore
from storage.files.memory import MemoryFileStore
from storage.sealing.key import SealingKey
from storage.users.database import DatabaseKeyMark
from storage.users.file import FileKeyMark
from storage.workspaces.base import WorkspaceStore
from storage.workspaces.database import DatabaseWorkspaces
from storage.workspaces.files import FileWorkspaces
from storage.workspaces.memory import MemoryWorkspaces
from storage.workspaces.snapshot import WorkspaceLimits
from tests.support.postgres import open_postgres
from tests.support.s3 import objects_of

PAGE_EVENTS = 7
"""Small, so that many a log in the tests has sealed pages, a tail, and batches that reach over."""


class Opened(NamedTuple):
    """The stores of one medium."""

    conversations: ConversationStores
    events: EventStore
    workspaces: Callable[[WorkspaceLimits], WorkspaceStore]
    """Makes the store of workspaces with these limits."""


@asynccontextmanager
async def _memory(folder: Path) -> AsyncIterator[Opened]:
    conversations = MemoryConversations()
    events = MemoryEventStore(conversations.fold)
    yield Opened(conversations, events, partial(MemoryWorkspaces, events.beside))


@asynccontextmanager
async def _sqlite(folder: Path) -> AsyncIterator[Opened]:
    database = await SqliteDatabase.open(folder / "parley.db")
    try:
        events = DatabaseEventStore(database)
        await events.finish_deletions()
        records = DatabaseConversationStores(database)
        key = SealingKey(DatabaseKeyMark(database), folder)
        yield Opened(records, events, partial(DatabaseWorkspaces, database, key))
    finally:
        await database.close()


@asynccontextmanager
async def _files(folder: Path) -> AsyncIterator[Opened]:
    async with open_over(MemoryFileStore(), folder) as opened:
        yield opened


@asynccontextmanager
async def _local(folder: Path) -> AsyncIterator[Opened]:
    # Many a test's loop runs faster than the disk.
    files = await LocalFileStore.open(folder / "files", deadline_seconds=1_000)
    async with open_over(files, folder) as opened:
        yield opened


@asynccontextmanager
async def _s3(folder: Path) -> AsyncIterator[Opened]:
    async with open_over(cloud_files(folder), folder) as opened:
        yield opened


def cloud_files(folder: Path) -> CloudFileStore:
    """Return the files of the bucket's folder that belongs to a folder here."""
    return CloudFileStore(objects_of(folder, attempt_seconds=1_000), deadline_seconds=1_000)


@asynccontextmanager
async def open_over(files: FileStore, folder: Path) -> AsyncIterator[Opened]:
    """Open the stores over files, and close all; the key lies in a folder."""
    records = await FileConversationStores.open(files)
    events = FileEventStore(files, records, page_events=PAGE_EVENTS)
    await events.repair()
    try:
        key = SealingKey(FileKeyMark(files), folder)
        workspaces = partial(FileWorkspaces, files, events.beside, records.writing, key)
        yield Opened(records, events, workspaces)
    finally:
        await events.close()
        await records.close()
        await files.close()


@asynccontextmanager
async def _postgres(folder: Path, *, pooler: bool = False) -> AsyncIterator[Opened]:
    async with open_postgres(folder, pooler=pooler) as pool:
        database = PostgresDatabase(pool)
        events = PostgresEventStore(pool, page_events=PAGE_EVENTS)
        await events.finish_deletions()
        records = DatabaseConversationStores(database, indexed=False)
        key = SealingKey(DatabaseKeyMark(database), folder)
        try:
            yield Opened(records, events, partial(DatabaseWorkspaces, database, key))
        finally:
            await events.close()


FACTORIES: dict[str, Callable[[Path], AbstractAsyncContextManager[Opened]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "files": _files,
    "local": _local,
    "postgres": _postgres,
    "pgbouncer": partial(_postgres, pooler=True),
    "s3": _s3,
}
"""PostgreSQL directly, and through a pooler in transaction mode; files in a bucket."""

CONVERSATION_STORES = tuple(FACTORIES)
LARGE_CONVERSATION_STORES = tuple(kind for kind in FACTORIES if kind != "s3")
"""Kinds that are filled with a thousand records; in a bucket that takes long, and runs what files run."""
EVENT_STORES = tuple(FACTORIES)
WORKSPACE_STORES = tuple(FACTORIES)

FILE_STORES = ("memory", "local", "s3")

DURABLE = frozenset({"sqlite", "local", "postgres", "pgbouncer", "s3"})
"""Kinds that hold after closing what they held before."""
SHARED_LOGS = frozenset({"postgres", "pgbouncer"})
"""Kinds of logs to which several processes may append."""
HISTORIES = {"postgres": 50, "pgbouncer": 20, "s3": 50}
"""Histories of those kinds, whose steps take the time of a server; 200 of the others."""


@asynccontextmanager
async def open_postgres_events(
    folder: Path, *, pooler: bool = False, deadline_seconds: float = 1_000.0
) -> AsyncIterator[PostgresEventStore]:
    """The event store over the schema of a folder."""
    async with open_postgres(folder, pooler=pooler, deadline_seconds=deadline_seconds) as pool:
        store = PostgresEventStore(pool, page_events=PAGE_EVENTS)
        await store.finish_deletions()
        try:
            yield store
        finally:
            await store.close()


def open_stores(kind: str, folder: Path) -> AbstractAsyncContextManager[Opened]:
    """Open the stores of that kind in `folder`, and close them."""
    return FACTORIES[kind](folder)


@asynccontextmanager
async def open_conversation_stores(kind: str, folder: Path) -> AsyncIterator[ConversationStores]:
    """Open the conversation records of that kind in `folder`, and close them."""
    async with open_stores(kind, folder) as opened:
        yield opened.conversations


@asynccontextmanager
async def open_event_store(kind: str, folder: Path) -> AsyncIterator[EventStore]:
    """Open the event store of that kind in `folder`, and close it."""
    async with open_stores(kind, folder) as opened:
        yield opened.events


@asynccontextmanager
async def open_workspaces(
    kind: str, folder: Path, limits: WorkspaceLimits
) -> AsyncIterator[OpenedWorkspaces]:
    """Open the store of workspaces of that kind in `folder`, with logs beside it, and close both."""
    async with open_stores(kind, folder) as opened:
        store = opened.workspaces(limits)

        async def begin(conversation_id: str) -> None:
            await append(opened.events, conversation_id, records(0, 1))

        yield OpenedWorkspaces(store, begin, opened.events.delete)


@asynccontextmanager
async def open_file_store(kind: str, folder: Path) -> AsyncIterator[FileStore]:
    """Open the file store of that kind in `folder`, and close it."""
    store: FileStore
    match kind:
        case "memory":
            store = MemoryFileStore()
        case "s3":
            store = cloud_files(folder)
        case _:
            store = await LocalFileStore.open(folder / "files")
    try:
        yield store
    finally:
        await store.close()
