"""Opens a storage once per data directory and process; the only module that names back-ends."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from storage.config import MemoryStorage, SqliteStorage, StorageConfig
from storage.conversations.base import ConversationStore, ConversationStores, register_opener
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.memory import MemoryConversations
from storage.database.base import Database, load_queries
from storage.database.sqlite import SqliteDatabase, read_only_uri
from storage.errors import StorageError, Unavailable
from storage.lock import data_directory_lock
from storage.secrets.base import SecretsStores
from storage.secrets.database import DatabaseKeyMark, DatabaseSecretsStores
from storage.secrets.keys import SealingKey, find_cipher
from storage.secrets.memory import MemorySecrets
from storage.settings.base import SettingsStores
from storage.settings.database import DatabaseSettingsStores
from storage.settings.memory import MemorySettings

DATABASE_NAME = "parley.sqlite3"


@dataclass(frozen=True, slots=True)
class OpenedStorage:
    """The stores of one medium. `database` is None where there is none (memory)."""

    conversations: ConversationStores
    settings: SettingsStores
    secrets: SecretsStores
    database: Database | None


_opened: dict[StorageConfig, OpenedStorage] = {}
_kept = AsyncExitStack()


@asynccontextmanager
async def open_storage(config: StorageConfig) -> AsyncIterator[OpenedStorage]:
    """Open a storage, lock its data directory, close both in the end.

    Raises DataDirectoryLocked, Unavailable, MigrationError, WrongKey.
    """
    async with AsyncExitStack() as stack:
        if isinstance(config, SqliteStorage):
            try:
                stack.enter_context(data_directory_lock(config.data_dir))
            except OSError as error:
                raise Unavailable(f"cannot use {config.data_dir}: {error.strerror}") from error
            database = await SqliteDatabase.open(config.data_dir / DATABASE_NAME)
            stack.push_async_callback(database.close)
            key = SealingKey(DatabaseKeyMark(database), config.data_dir, config.secret_key)
            await key.for_reading()
            opened = OpenedStorage(
                DatabaseConversationStores(database),
                DatabaseSettingsStores(database, key),
                DatabaseSecretsStores(database, key),
                database,
            )
        else:
            opened = OpenedStorage(MemoryConversations(), MemorySettings(), MemorySecrets(), None)
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
            marks = _key_marks(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [f"{path.name} cannot be read: {error}"]
    if rows != [("ok",)]:
        return [f"{path.name} is damaged: {row[0]}" for row in rows]
    try:
        for marked in marks:
            find_cipher(marked, config.data_dir, config.secret_key)
    except StorageError as error:
        return [str(error)]
    return []


def _key_marks(connection: sqlite3.Connection) -> list[str]:
    """The key that seals secrets, if any does; an older database has no place for it."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'key_mark'")
    if tables.fetchone() is None:
        return []
    return [key_id for (key_id,) in connection.execute(load_queries()["read_key_mark"])]


async def _instance(config: StorageConfig, user_id: str | None) -> ConversationStore:
    opened = _opened.get(config)
    if opened is None:
        opened = await _kept.enter_async_context(open_storage(config))
    return opened.conversations.for_user(user_id)


register_opener(_instance)
