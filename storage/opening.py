"""Opens a storage once per data directory and process; the only module that names back-ends."""

import asyncio
import sqlite3
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
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


class Holding(AbstractAsyncContextManager[OpenedStorage]):
    """One user's hold on a storage of this process; entered and left once.

    It is a class and no generator, since generators that an ending event loop finds open are all
    ended at once, and a storage must outlive those who work on it.
    """

    def __init__(self, config: StorageConfig) -> None:
        self._config = config
        self._shared: _Shared | None = None

    async def __aenter__(self) -> OpenedStorage:
        """The storage, opened if it was not. Raises what `open_storage` says."""
        key = place_of(self._config)
        shared = _open.setdefault(key, _Shared(asyncio.get_running_loop()))
        if shared.loop is not asyncio.get_running_loop():
            raise Unavailable("the storage is open in another event loop of this process")
        shared.users += 1
        self._shared = shared
        try:
            async with shared.serial:
                if shared.storage is None:
                    shared.storage = await _opened(self._config, shared.stack)
                return shared.storage
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *error: object) -> None:
        """Leave it; the last user closes it."""
        shared, self._shared = self._shared, None
        if shared is None:
            return
        async with shared.serial:
            shared.users -= 1
            if shared.users > 0:
                return
            shared.storage = None
            await shared.stack.aclose()
            # Whoever came meanwhile waits for the lock and opens it anew.
            if shared.users == 0:
                _open.pop(place_of(self._config), None)


class _Shared:
    """A storage that is open, being opened or being closed, and how many use it."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.users = 0
        self.serial = asyncio.Lock()
        self.stack = AsyncExitStack()
        self.storage: OpenedStorage | None = None


_open: dict[StorageConfig, _Shared] = {}


def open_storage(config: StorageConfig) -> Holding:
    """Open a storage and lock its data directory, or join those who use it in this process.

    The last one to leave closes it. Raises DataDirectoryLocked, Unavailable, MigrationError.
    """
    return Holding(config)


async def _opened(config: StorageConfig, stack: AsyncExitStack) -> OpenedStorage:
    if not isinstance(config, SqliteStorage):
        records = MemoryConversations()
        return OpenedStorage(records, None, records.fold)
    try:
        stack.enter_context(data_directory_lock(config.data_dir))
    except OSError as error:
        raise Unavailable(f"cannot use {config.data_dir}: {error.strerror}") from error
    database = await SqliteDatabase.open(config.data_dir / DATABASE_NAME)
    stack.push_async_callback(database.close)
    return OpenedStorage(DatabaseConversationStores(database), database)


def place_of(config: StorageConfig) -> StorageConfig:
    """What two configurations of one storage have in common."""
    if isinstance(config, MemoryStorage):
        return config
    return config.model_copy(update={"data_dir": config.data_dir.absolute()})


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


async def _kept_open(config: StorageConfig) -> AsyncGenerator[OpenedStorage]:
    # The end of the event loop ends the generators it has begun, and this one then lets go.
    async with open_storage(config) as storage:
        yield storage


async def _instance(config: StorageConfig, user_id: str | None) -> ConversationStore:
    key = place_of(config)
    keeper = _keepers.get(key)
    if keeper is None or keeper.loop is not asyncio.get_running_loop():
        keeper = _keepers[key] = _Keeper(config)
    return (await keeper.storage()).conversations.for_user(user_id)


class _Keeper:
    """Holds a storage for those who never leave it: until the event loop ends."""

    def __init__(self, config: StorageConfig) -> None:
        self.loop = asyncio.get_running_loop()
        self._config = config
        self._serial = asyncio.Lock()
        self._life: AsyncGenerator[OpenedStorage] | None = None
        self._storage: OpenedStorage | None = None

    async def storage(self) -> OpenedStorage:
        """The storage, opened at the first call; a failed opening is tried again."""
        async with self._serial:
            if self._storage is None:
                self._life = _kept_open(self._config)
                self._storage = await anext(self._life)
            return self._storage


_keepers: dict[StorageConfig, _Keeper] = {}

register_opener(_instance)
