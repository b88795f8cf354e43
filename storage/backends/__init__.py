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
from storage.config import LocalStorage, MemoryStorage, SqliteStorage, StorageConfig

BACKENDS: Mapping[type[BaseModel], Callable[[Any], Backend]] = {
    SqliteStorage: SqliteBackend,
    LocalStorage: LocalBackend,
    MemoryStorage: MemoryBackend,
}


def backend_of(config: StorageConfig) -> Backend:
    """Return the back-end of the medium that a configuration names."""
    return BACKENDS[type(config)](config)
