"""The one table from a back-end's name to the stores of users' settings and secrets."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from storage.database.sqlite import SqliteDatabase
from storage.files.base import FileStore
from storage.files.local import LocalFileStore
from storage.files.memory import MemoryFileStore
from storage.secrets.base import SecretsStores
from storage.secrets.database import DatabaseKeyMark, DatabaseSecretsStores
from storage.secrets.file import FileKeyMark, FileSecretsStores
from storage.secrets.keys import SealingKey
from storage.secrets.memory import MemorySecrets
from storage.settings.base import SettingsStores
from storage.settings.database import DatabaseSettingsStores
from storage.settings.file import FileSettingsStores
from storage.settings.memory import MemorySettings


class UserStores(NamedTuple):
    """The stores of one medium; `key` is None where nothing is sealed."""

    settings: SettingsStores
    secrets: SecretsStores
    key: SealingKey | None


@asynccontextmanager
async def _memory(folder: Path, given: SecretStr | None) -> AsyncIterator[UserStores]:
    yield UserStores(MemorySettings(), MemorySecrets(), None)


@asynccontextmanager
async def _sqlite(folder: Path, given: SecretStr | None) -> AsyncIterator[UserStores]:
    database = await SqliteDatabase.open(folder / "parley.db")
    try:
        key = SealingKey(DatabaseKeyMark(database), folder, given)
        yield UserStores(
            DatabaseSettingsStores(database, key), DatabaseSecretsStores(database, key), key
        )
    finally:
        await database.close()


@asynccontextmanager
async def _local(folder: Path, given: SecretStr | None) -> AsyncIterator[UserStores]:
    async with _files(await LocalFileStore.open(folder / "files"), folder, given) as opened:
        yield opened


@asynccontextmanager
async def _memory_files(folder: Path, given: SecretStr | None) -> AsyncIterator[UserStores]:
    async with _files(MemoryFileStore(), folder, given) as opened:
        yield opened


@asynccontextmanager
async def _files(
    files: FileStore, folder: Path, given: SecretStr | None
) -> AsyncIterator[UserStores]:
    try:
        key = SealingKey(FileKeyMark(files), folder, given)
        yield UserStores(FileSettingsStores(files, key), FileSecretsStores(files, key), key)
    finally:
        await files.close()


FACTORIES: dict[
    str, Callable[[Path, SecretStr | None], AbstractAsyncContextManager[UserStores]]
] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "local": _local,
    "files": _memory_files,
}

USER_STORES = tuple(FACTORIES)
DURABLE_USER_STORES = ("sqlite", "local")
"""Kinds that hold after closing what they held before, and seal it."""


def open_user_stores(
    kind: str, folder: Path, given: str | None = None
) -> AbstractAsyncContextManager[UserStores]:
    """Open the stores of that kind in `folder`, sealed with a given key or the folder's own."""
    return FACTORIES[kind](folder, None if given is None else SecretStr(given))


@asynccontextmanager
async def open_settings_stores(kind: str, folder: Path) -> AsyncIterator[SettingsStores]:
    """Open the settings of that kind in `folder`, and close them."""
    async with open_user_stores(kind, folder) as opened:
        yield opened.settings


@asynccontextmanager
async def open_secrets_stores(kind: str, folder: Path) -> AsyncIterator[SecretsStores]:
    """Open the secrets of that kind in `folder`, and close them."""
    async with open_user_stores(kind, folder) as opened:
        yield opened.secrets
