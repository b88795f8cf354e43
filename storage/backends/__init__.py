"""One back-end for each medium, and the table from a configuration to its back-end.

Imported where storages are opened and checked; nothing else asks which medium it works on.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from storage.backends.base import Backend
from storage.backends.local import LocalBackend
from storage.backends.memory import MemoryBackend
from storage.backends.sqlite import SqliteBackend
from storage.config import (
    CloudStorage,
    LocalStorage,
    MemoryStorage,
    PostgresStorage,
    SqliteStorage,
    StorageConfig,
)
from storage.errors import Unavailable


def _postgres(config: PostgresStorage) -> Backend:
    """Return the back-end of PostgreSQL, whose driver is loaded where it is chosen only."""
    try:
        from storage.backends.postgres import PostgresBackend  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise Unavailable(
            "--storage postgres needs the extra `postgres`: run scripts/setup-venv postgres, or"
            " pip install 'parley-server[postgres]'"
        ) from error
    return PostgresBackend(config)


def _cloud(config: CloudStorage) -> Backend:
    """Return the back-end of a bucket, whose driver is loaded where it is chosen only."""
    try:
        from storage.backends.cloud import CloudBackend  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise Unavailable(
            "--storage cloud needs the extra `cloud`: run scripts/setup-venv cloud, or"
            " pip install 'parley-server[cloud]'"
        ) from error
    return CloudBackend(config)


BACKENDS: Mapping[type[BaseModel], Callable[[Any], Backend]] = {
    SqliteStorage: SqliteBackend,
    LocalStorage: LocalBackend,
    PostgresStorage: _postgres,
    CloudStorage: _cloud,
    MemoryStorage: MemoryBackend,
}


def backend_of(config: StorageConfig) -> Backend:
    """Return the back-end of the medium that a configuration names."""
    return BACKENDS[type(config)](config)
