"""Opens a storage once per data directory and process, and locks the directory while it is open."""

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from storage.backends import backend_of
from storage.backends.base import Backend, OpenedStorage
from storage.config import StorageConfig
from storage.conversations import base as conversations_base
from storage.conversations.base import ConversationStore
from storage.errors import Unavailable, WrongKey
from storage.lock import data_directory_lock
from storage.users import base as users_base
from storage.users.base import SecretsStore, SettingsStore

logger = logging.getLogger(__name__)


class StorageLease(AbstractAsyncContextManager[OpenedStorage]):
    """One use of a storage of this process; entered and left once.

    It is a class instead of a generator, since an ending event loop closes all open generators at
    once, and a storage must outlive its users.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._shared: _Shared | None = None

    async def __aenter__(self) -> OpenedStorage:
        """Return the storage, opened if necessary. Raises what `open_storage` raises."""
        loop = asyncio.get_running_loop()
        shared = _open.setdefault(self._backend.identity, _Shared(loop, self._backend))
        if shared.loop is not loop:
            raise Unavailable("the storage is already open in another event loop of this process")
        if shared.backend.secret_key != self._backend.secret_key:
            raise WrongKey(
                "the storage is already open in this process with another PARLEY_SECRET_KEY"
            )
        shared.users += 1
        self._shared = shared
        try:
            async with shared.serial:
                if shared.storage is None:
                    shared.storage = await _opened(self._backend, shared.stack)
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
            try:
                await shared.stack.aclose()
            finally:
                # Whoever came meanwhile waits for the lock and opens it anew.
                if shared.users == 0:
                    _open.pop(self._backend.identity, None)


class _Shared:
    """A storage that is open, being opened or being closed, and how many use it."""

    def __init__(self, loop: AbstractEventLoop, backend: Backend) -> None:
        self.loop = loop
        self.backend = backend
        self.users = 0
        self.serial = asyncio.Lock()
        self.stack = AsyncExitStack()
        self.storage: OpenedStorage | None = None


_open: dict[StorageConfig, _Shared] = {}


def open_storage(config: StorageConfig) -> StorageLease:
    """Open a storage and lock its data directory, or share it within this process.

    The last user closes it. Raises DataDirectoryLocked, ForeignData, Unavailable, MigrationError,
    and WrongKey when its secrets were sealed, or it is open, with another key.
    """
    return StorageLease(backend_of(config))


async def _opened(backend: Backend, stack: AsyncExitStack) -> OpenedStorage:
    if backend.data_dir is not None:
        try:
            # Before the lock is taken, which says anew who works here.
            await asyncio.to_thread(_examine, backend)
            stack.enter_context(data_directory_lock(backend.data_dir))
        except OSError as error:
            raise Unavailable(f"cannot use {backend.data_dir}: {error.strerror}") from error
    return await backend.open(stack)


def _examine(backend: Backend) -> None:
    backend.check_directory()
    loss = backend.loss()
    if loss is not None:
        logger.error(loss)


def identity_of(config: StorageConfig) -> StorageConfig:
    """Return the configuration without its key, equal for all uses of one storage."""
    return backend_of(config).identity


async def _kept_open(config: StorageConfig) -> AsyncGenerator[OpenedStorage]:
    # The end of the event loop ends the generators it has begun, and this one then lets go.
    async with open_storage(config) as storage:
        yield storage


async def _storage_of(config: StorageConfig) -> OpenedStorage:
    key = identity_of(config)
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
    """Keeps a storage open until the event loop ends, for programs that never close it."""

    def __init__(self, config: StorageConfig) -> None:
        self.loop = asyncio.get_running_loop()
        self._config = config
        self._serial = asyncio.Lock()
        self._life: AsyncGenerator[OpenedStorage] | None = None
        self._storage: OpenedStorage | None = None

    async def storage(self) -> OpenedStorage:
        """Return the storage, opened at the first call; a failed opening is retried."""
        async with self._serial:
            if self._storage is None:
                self._life = _kept_open(self._config)
                self._storage = await anext(self._life)
            return self._storage


_keepers: dict[StorageConfig, _Keeper] = {}

conversations_base.SEAM.register(_conversations)
users_base.SETTINGS.register(_settings)
users_base.SECRETS.register(_secrets)
