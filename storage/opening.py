"""Opens a storage once per data directory and process; the only module that names back-ends."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.config import LocalStorage, MemoryStorage, SqliteStorage, StorageConfig
from storage.conversations.base import ConversationStore, ConversationStores, register_opener
from storage.conversations.check import check_records
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.file import FileConversationStores
from storage.conversations.folded import FoldedRecords
from storage.conversations.memory import MemoryConversations
from storage.database.base import Database, load_queries
from storage.database.sqlite import SqliteDatabase, read_only_uri
from storage.errors import StorageError, Unavailable
from storage.files.base import FileStore
from storage.files.local import LocalFileStore
from storage.locations import KEY_MARK
from storage.lock import data_directory_lock
from storage.secrets.base import SecretsStores
from storage.secrets.database import DatabaseKeyMark, DatabaseSecretsStores
from storage.secrets.file import FileKeyMark, FileSecretsStores
from storage.secrets.keys import SealingKey, find_cipher
from storage.secrets.memory import MemorySecrets
from storage.settings.base import SettingsStores
from storage.settings.database import DatabaseSettingsStores
from storage.settings.file import FileSettingsStores
from storage.settings.memory import MemorySettings

DATABASE_NAME = "parley.sqlite3"
FILES_NAME = "files"


@dataclass(frozen=True, slots=True)
class OpenedStorage:
    """The stores of one medium, which has a `database`, `files`, or neither (memory).

    Records over files are `folded`: an event store must keep them level with its logs.
    """

    conversations: ConversationStores
    settings: SettingsStores
    secrets: SecretsStores
    database: Database | None = None
    files: FileStore | None = None
    folded: FoldedRecords | None = None


_opened: dict[StorageConfig, OpenedStorage] = {}
_kept = AsyncExitStack()


@asynccontextmanager
async def open_storage(config: StorageConfig) -> AsyncIterator[OpenedStorage]:
    """Open a storage, lock its data directory, close both in the end.

    Raises DataDirectoryLocked, Unavailable, MigrationError, WrongKey.
    """
    async with AsyncExitStack() as stack:
        if not isinstance(config, MemoryStorage):
            try:
                stack.enter_context(data_directory_lock(config.data_dir))
            except OSError as error:
                raise Unavailable(f"cannot use {config.data_dir}: {error.strerror}") from error
        opened = await _open(config, stack)
        _opened[config] = opened
        try:
            yield opened
        finally:
            del _opened[config]


async def _open(config: StorageConfig, stack: AsyncExitStack) -> OpenedStorage:
    match config:
        case SqliteStorage():
            database = await SqliteDatabase.open(config.data_dir / DATABASE_NAME)
            stack.push_async_callback(database.close)
            key = SealingKey(DatabaseKeyMark(database), config.data_dir, config.secret_key)
            await key.for_reading()
            return OpenedStorage(
                DatabaseConversationStores(database),
                DatabaseSettingsStores(database, key),
                DatabaseSecretsStores(database, key),
                database,
            )
        case LocalStorage():
            files = await LocalFileStore.open(config.data_dir / FILES_NAME)
            stack.push_async_callback(files.close)
            key = SealingKey(FileKeyMark(files), config.data_dir, config.secret_key)
            await key.for_reading()
            records = await FileConversationStores.open(files)
            stack.push_async_callback(records.close)
            return OpenedStorage(
                records,
                FileSettingsStores(files, key),
                FileSecretsStores(files, key),
                files=files,
                folded=records,
            )
        case MemoryStorage():
            return OpenedStorage(MemoryConversations(), MemorySettings(), MemorySecrets())


def check_storage(config: StorageConfig) -> list[str]:
    """What is wrong with a storage, read without changing it; nothing when it is new."""
    if isinstance(config, MemoryStorage):
        return []
    if isinstance(config, LocalStorage):
        problems = check_records(config.data_dir / FILES_NAME)
        path = config.data_dir / FILES_NAME / KEY_MARK
        marks = [path.read_text("utf-8", "replace").strip()] if path.exists() else []
    else:
        problems, marks = _check_database(config.data_dir / DATABASE_NAME)
    try:
        for marked in marks:
            find_cipher(marked, config.data_dir, config.secret_key)
    except StorageError as error:
        problems = [*problems, str(error)]
    return problems


def _check_database(path: Path) -> tuple[list[str], list[str]]:
    """What is wrong with a database, and which key seals its secrets, if any does."""
    if not path.exists():
        return [], []
    try:
        connection = sqlite3.connect(read_only_uri(path), uri=True)
        try:
            rows = connection.execute("PRAGMA quick_check(10)").fetchall()
            # An older database has no place for the mark.
            tables = "SELECT name FROM sqlite_master WHERE name = 'key_mark'"
            query = load_queries()["read_key_mark"]
            has_place = connection.execute(tables).fetchone() is not None
            marks = [row[0] for row in connection.execute(query)] if has_place else []
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [f"{path.name} cannot be read: {error}"], []
    damaged = [] if rows == [("ok",)] else [f"{path.name} is damaged: {row[0]}" for row in rows]
    return damaged, marks


async def _instance(config: StorageConfig, user_id: str | None) -> ConversationStore:
    opened = _opened.get(config)
    if opened is None:
        opened = await _kept.enter_async_context(open_storage(config))
    return opened.conversations.for_user(user_id)


register_opener(_instance)
