"""Opens a storage once per data directory and process; the only module that names back-ends."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from storage.config import MemoryStorage, SqliteStorage, StorageConfig
from storage.conversations.base import ConversationStore, ConversationStores, register_opener
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.memory import Fold, MemoryConversations
from storage.database.base import Database
from storage.database.sqlite import SqliteDatabase, read_only_uri
from storage.errors import Unavailable
from storage.lock import data_directory_lock

DATABASE_NAME = "parley.sqlite3"


@dataclass(frozen=True, slots=True)
class OpenedStorage:
    """The stores of one medium.

    `database` is None where there is none (memory); there `fold` brings a record up to date with
    its log at once.
    """

    conversations: ConversationStores
    database: Database | None
    fold: Callable[[str, Fold], None] | None = None


_opened: dict[StorageConfig, OpenedStorage] = {}
_kept = AsyncExitStack()


@asynccontextmanager
async def open_storage(config: StorageConfig) -> AsyncIterator[OpenedStorage]:
    """Open a storage, lock its data directory, close both in the end.

    Raises DataDirectoryLocked, Unavailable, MigrationError.
    """
    async with AsyncExitStack() as stack:
        if isinstance(config, SqliteStorage):
            try:
                stack.enter_context(data_directory_lock(config.data_dir))
            except OSError as error:
                raise Unavailable(f"cannot use {config.data_dir}: {error.strerror}") from error
            database = await SqliteDatabase.open(config.data_dir / DATABASE_NAME)
            stack.push_async_callback(database.close)
            opened = OpenedStorage(DatabaseConversationStores(database), database)
        else:
            records = MemoryConversations()
            opened = OpenedStorage(records, None, records.fold)
        _opened[config] = opened
        try:
            yield opened
        finally:
            del _opened[config]


def check_storage(config: StorageConfig) -> list[str]:
    """What is wrong with a storage, read without changing it; nothing when it is new."""
    if isinstance(config, MemoryStorage):
        return []
    path = config.data_dir / DATABASE_NAME
    if not path.exists():
        return []
    try:
        connection = sqlite3.connect(read_only_uri(path), uri=True)
        try:
            rows = connection.execute("PRAGMA quick_check(10)").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [f"{path.name} cannot be read: {error}"]
    return [] if rows == [("ok",)] else [f"{path.name} is damaged: {row[0]}" for row in rows]


async def _instance(config: StorageConfig, user_id: str | None) -> ConversationStore:
    opened = _opened.get(config)
    if opened is None:
        opened = await _kept.enter_async_context(open_storage(config))
    return opened.conversations.for_user(user_id)


register_opener(_instance)
