"""Opens a storage once per data directory and process; names the back-ends, as `checking` does."""

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from storage.audit.base import AuditLog
from storage.audit.database import DatabaseAudit
from storage.audit.file import FileAudit
from storage.audit.memory import MemoryAudit
from storage.config import LocalStorage, MemoryStorage, SqliteStorage, StorageConfig
from storage.conversations import base as conversations_base
from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.files.store import FileConversationStores
from storage.conversations.folded import FoldedRecords
from storage.conversations.memory import Fold, MemoryConversations
from storage.database.base import Database, Script, Statement
from storage.database.sqlite import SqliteDatabase
from storage.directory import check_directory, lost_wal
from storage.errors import Unavailable, WrongKey
from storage.files.base import FileStore
from storage.files.format import check_format
from storage.files.local import LocalFileStore
from storage.inventory import FileInventory, Inventory, MemoryInventory, SqliteInventory
from storage.keys import DATABASE_NAME, FILES_NAME, PROOF, RESERVE_NAME
from storage.lock import data_directory_lock, mark_open
from storage.medium import Medium, reserving, watching
from storage.usage.base import UsageStore
from storage.usage.database import DatabaseUsage
from storage.usage.file import FileUsage
from storage.usage.memory import MemoryUsage
from storage.users import base as users_base
from storage.users.base import SecretsStore, SecretsStores, SettingsStore, SettingsStores
from storage.users.database import DatabaseKeyMark, DatabaseUserRecords
from storage.users.file import FileKeyMark, FileUserRecords
from storage.users.memory import MemoryUserRecords
from storage.users.sealed import SealedSecrets, SealedSettings
from storage.users.sealing_key import EphemeralKey, SealingKey

logger = logging.getLogger(__name__)


async def prove_database(database: Database) -> None:
    """Commit a change that changes nothing. Raises Unavailable, OutcomeUnknown."""
    await database.write(_touch())


async def prove_files(files: FileStore) -> None:
    """Write a file and remove it. Raises StorageError."""
    await files.write(PROOF, b"")
    await files.delete(PROOF)


def _touch() -> Script[None]:
    yield Statement("touch")


@dataclass(frozen=True, slots=True)
class OpenedStorage:
    """The stores of one medium, which has a `database`, `files`, or neither (memory).

    Records over files are `folded`: an event store must keep them level with its logs. In memory
    `fold` brings a record up to date with its log at once.
    """

    conversations: ConversationStores
    settings: SettingsStores
    secrets: SecretsStores
    usage: UsageStore
    audit: AuditLog
    inventory: Inventory
    database: Database | None = None
    files: FileStore | None = None
    folded: FoldedRecords | None = None
    fold: Callable[[str, Fold], None] | None = None
    prove: Callable[[], Awaitable[None]] | None = None
    """Makes a small durable write. Raises StorageError."""

    @property
    def medium(self) -> Medium | None:
        """Return what the stores are kept on; None in memory."""
        return self.database or self.files


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
        shared = _open.setdefault(key, _Shared(asyncio.get_running_loop(), self._config))
        if shared.loop is not asyncio.get_running_loop():
            raise Unavailable("the storage is already open in another event loop of this process")
        if _key_of(shared.config) != _key_of(self._config):
            raise WrongKey(
                "the storage is already open in this process with another PARLEY_SECRET_KEY"
            )
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

    def __init__(self, loop: AbstractEventLoop, config: StorageConfig) -> None:
        self.loop = loop
        self.config = config
        self.users = 0
        self.serial = asyncio.Lock()
        self.stack = AsyncExitStack()
        self.storage: OpenedStorage | None = None


_open: dict[StorageConfig, _Shared] = {}


def open_storage(config: StorageConfig) -> Holding:
    """Open a storage and lock its data directory, or join those who use it in this process.

    The last one to leave closes it. Raises DataDirectoryLocked, ForeignData, Unavailable,
    MigrationError, and WrongKey when its secrets were sealed, or it is open, with another key.
    """
    return Holding(config)


async def _opened(config: StorageConfig, stack: AsyncExitStack) -> OpenedStorage:
    if isinstance(config, MemoryStorage):
        records = MemoryConversations()
        users, ephemeral = MemoryUserRecords(), EphemeralKey()
        return OpenedStorage(
            *(records, SealedSettings(users, ephemeral), SealedSecrets(users, ephemeral)),
            *(MemoryUsage(records.everybodys), MemoryAudit(), MemoryInventory(records)),
            fold=records.fold,
        )
    try:
        await asyncio.to_thread(_look_at, config)
    except OSError as error:
        raise Unavailable(f"cannot use {config.data_dir}: {error.strerror}") from error
    _lock(config.data_dir, stack)
    if isinstance(config, SqliteStorage):
        return await _opened_database(config, stack)
    return await _opened_files(config, stack)


def _look_at(config: SqliteStorage | LocalStorage) -> None:
    # Before the lock is taken, which says anew who works here.
    check_directory(config)
    lost = lost_wal(config.data_dir / DATABASE_NAME)
    if lost is not None:
        logger.error(lost)


def _lock(data_dir: Path, stack: AsyncExitStack) -> None:
    try:
        stack.enter_context(data_directory_lock(data_dir))
    except OSError as error:
        raise Unavailable(f"cannot use {data_dir}: {error.strerror}") from error


async def _opened_database(config: SqliteStorage, stack: AsyncExitStack) -> OpenedStorage:
    database = await SqliteDatabase.open(config.data_dir / DATABASE_NAME)
    await asyncio.to_thread(mark_open, config.data_dir)
    stack.push_async_callback(database.close)
    stack.enter_context(watching(database))
    stack.enter_context(reserving(database, config.data_dir / RESERVE_NAME))
    key = SealingKey(DatabaseKeyMark(database), config.data_dir, config.secret_key)
    await key.for_reading()
    users = DatabaseUserRecords(database)
    return OpenedStorage(
        DatabaseConversationStores(database),
        SealedSettings(users, key),
        SealedSecrets(users, key),
        DatabaseUsage(database),
        DatabaseAudit(database),
        SqliteInventory(database, config.data_dir / DATABASE_NAME),
        database=database,
        prove=partial(prove_database, database),
    )


async def _opened_files(config: LocalStorage, stack: AsyncExitStack) -> OpenedStorage:
    files = await LocalFileStore.open(config.data_dir / FILES_NAME)
    stack.push_async_callback(files.close)
    await check_format(files)
    stack.enter_context(watching(files))
    stack.enter_context(reserving(files, config.data_dir / RESERVE_NAME))
    key = SealingKey(FileKeyMark(files), config.data_dir, config.secret_key)
    await key.for_reading()
    records = await FileConversationStores.open(files)
    stack.push_async_callback(records.close)
    users = FileUserRecords(files)
    return OpenedStorage(
        records,
        SealedSettings(users, key),
        SealedSecrets(users, key),
        FileUsage(files, records.listing),
        FileAudit(files),
        FileInventory(config.data_dir / FILES_NAME, records.listing),
        files=files,
        folded=records,
        prove=partial(prove_files, files),
    )


def place_of(config: StorageConfig) -> StorageConfig:
    """Return the identity of a storage, equal for two configurations of it; the key is not part of it."""
    if isinstance(config, MemoryStorage):
        return config
    return config.model_copy(update={"data_dir": config.data_dir.absolute(), "secret_key": None})


def _key_of(config: StorageConfig) -> SecretStr | None:
    return None if isinstance(config, MemoryStorage) else config.secret_key


async def _kept_open(config: StorageConfig) -> AsyncGenerator[OpenedStorage]:
    # The end of the event loop ends the generators it has begun, and this one then lets go.
    async with open_storage(config) as storage:
        yield storage


async def _storage_of(config: StorageConfig) -> OpenedStorage:
    key = place_of(config)
    keeper = _keepers.get(key)
    if keeper is None or keeper.loop is not asyncio.get_running_loop():
        keeper = _keepers[key] = _Keeper(config)
    return await keeper.storage()


async def _conversations(config: StorageConfig, user_id: str | None) -> ConversationStore:
    return (await _storage_of(config)).conversations.for_user(user_id)


async def _settings(config: StorageConfig, user_id: str | None) -> SettingsStore:
    return (await _storage_of(config)).settings.for_user(user_id)


async def _secrets(config: StorageConfig, user_id: str | None) -> SecretsStore:
    return (await _storage_of(config)).secrets.for_user(user_id)


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

conversations_base.SEAM.register(_conversations)
users_base.SETTINGS.register(_settings)
users_base.SECRETS.register(_secrets)
