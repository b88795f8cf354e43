"""The one table from a back-end's name to what is kept for administration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from events.stores.base import EventStore
from events.stores.database.store import DatabaseEventStore
from events.stores.files.store import FileEventStore
from events.stores.memory import MemoryEventStore
from events.stores.postgres.store import PostgresEventStore
from storage.audit.base import AuditLog
from storage.audit.database import DatabaseAudit
from storage.audit.file import FileAudit
from storage.audit.memory import MemoryAudit
from storage.conformance.audit_log import KEPT
from storage.conversations.base import ConversationStores
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.files.store import FileConversationStores
from storage.conversations.memory import MemoryConversations
from storage.database.postgres_database import PostgresDatabase
from storage.database.sqlite import SqliteDatabase
from storage.files.base import FileStore
from storage.files.local import LocalFileStore
from storage.files.memory import MemoryFileStore
from storage.usage.base import UsageStore
from storage.usage.database import DatabaseUsage
from storage.usage.file import FileUsage
from storage.usage.memory import MemoryUsage
from tests.support.backends import SHARED_LOGS, cloud_files
from tests.support.postgres import open_postgres

KINDS = ("memory", "sqlite", "files", "local", "postgres", "pgbouncer", "s3")
DURABLE_KINDS = ("sqlite", "local", "postgres", "pgbouncer", "s3")


class AdminStores(NamedTuple):
    """The stores of one medium; the audit keeps little."""

    conversations: ConversationStores
    events: EventStore
    usage: UsageStore
    audit: AuditLog


@asynccontextmanager
async def open_admin_stores(kind: str, folder: Path) -> AsyncIterator[AdminStores]:
    """Open the stores of that kind in `folder`, and close them."""
    if kind == "memory":
        held = MemoryConversations()
        usage = MemoryUsage(held.all_owners)
        yield AdminStores(held, MemoryEventStore(held.fold), usage, MemoryAudit(KEPT))
        return
    if kind == "sqlite":
        database = await SqliteDatabase.open(folder / "parley.db")
        try:
            yield AdminStores(
                DatabaseConversationStores(database),
                DatabaseEventStore(database),
                DatabaseUsage(database),
                DatabaseAudit(database, KEPT),
            )
        finally:
            await database.close()
        return
    if kind in SHARED_LOGS:
        async with open_postgres(folder, pooler=kind == "pgbouncer") as pool:
            shared = PostgresDatabase(pool)
            yield AdminStores(
                DatabaseConversationStores(shared, indexed=False),
                PostgresEventStore(pool),
                DatabaseUsage(shared),
                DatabaseAudit(shared, KEPT),
            )
        return
    files: FileStore
    match kind:
        case "local":
            files = await LocalFileStore.open(folder / "files")
        case "s3":
            files = cloud_files(folder)
        case _:
            files = MemoryFileStore()
    records = await FileConversationStores.open(files)
    events = FileEventStore(files, records, page_events=7)
    await events.repair()
    try:
        usage_files = FileUsage(files, records.listing)
        yield AdminStores(records, events, usage_files, FileAudit(files, KEPT))
    finally:
        await events.close()
        await records.close()
        await files.close()
