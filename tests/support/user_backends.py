"""The one table from a back-end's name to the stores of users' settings and secrets."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from storage.database.postgres_database import PostgresDatabase
from storage.database.sqlite import SqliteDatabase
from storage.files.base import FileStore
from storage.files.local import LocalFileStore
from storage.files.memory import MemoryFileStore
from storage.sealing.key import EphemeralKey, Key, SealingKey
from storage.users.base import SecretsStores, SettingsStores, UserRecords
from storage.users.database import DatabaseKeyMark, DatabaseUserRecords
from storage.users.file import FileKeyMark, FileUserRecords
from storage.users.memory import MemoryUserRecords
from storage.users.sealed import SealedSecrets, SealedSettings
from tests.support.backends import cloud_files
from tests.support.postgres import open_postgres


class UserStores(NamedTuple):
    """The records of one medium, the stores over them, and the key they are sealed with."""

    records: UserRecords
    settings: SettingsStores
    secrets: SecretsStores
    key: Key


def user_stores(records: UserRecords, key: Key) -> UserStores:
    """Return the stores over a medium's records."""
    return UserStores(records, SealedSettings(records, key), SealedSecrets(records, key), key)


def memory_user_stores() -> UserStores:
    """Return fresh stores in memory."""
    return user_stores(MemoryUserRecords(), EphemeralKey())


@asynccontextmanager
async def _memory(folder: Path, given: SecretStr | None) -> AsyncIterator[UserStores]:
    yield memory_user_stores()


@asynccontextmanager
async def _sqlite(folder: Path, given: SecretStr | None) -> AsyncIterator[UserStores]:
    database = await SqliteDatabase.open(folder / "parley.db")
    try:
        key = SealingKey(DatabaseKeyMark(database), folder, given)
        yield user_stores(DatabaseUserRecords(database), key)
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
async def _s3(folder: Path, given: SecretStr | None) -> AsyncIterator[UserStores]:
    async with _files(cloud_files(folder), folder, given) as opened:
        yield opened


@asynccontextmanager
async def _files(
    files: FileStore, folder: Path, given: SecretStr | None
) -> AsyncIterator[UserStores]:
    try:
        key = SealingKey(FileKeyMark(files), folder, given)
        yield user_stores(FileUserRecords(files), key)
    finally:
        await files.close()


@asynccontextmanager
async def _postgres(
    folder: Path, given: SecretStr | None, *, pooler: bool = False
) -> AsyncIterator[UserStores]:
    async with open_postgres(folder, pooler=pooler) as pool:
        database = PostgresDatabase(pool)
        key = SealingKey(DatabaseKeyMark(database), folder, given)
        yield user_stores(DatabaseUserRecords(database), key)


FACTORIES: dict[
    str, Callable[[Path, SecretStr | None], AbstractAsyncContextManager[UserStores]]
] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "local": _local,
    "files": _memory_files,
    "postgres": _postgres,
    "pgbouncer": partial(_postgres, pooler=True),
    "s3": _s3,
}

USER_STORES = tuple(FACTORIES)
DURABLE_USER_STORES = ("sqlite", "local", "postgres", "pgbouncer", "s3")
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


@asynccontextmanager
async def open_user_records(kind: str, folder: Path) -> AsyncIterator[UserRecords]:
    """Open the records of that kind in `folder`, and close them."""
    async with open_user_stores(kind, folder) as opened:
        yield opened.records
