"""Where records are kept: one variant per medium; nothing here reads the environment."""

from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field


class _Medium(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SqliteStorage(_Medium):
    """An embedded SQLite database inside `data_dir`; one process at a time opens it."""

    kind: Literal["sqlite"] = "sqlite"
    data_dir: Path


class LocalStorage(_Medium):
    """Plain files inside `data_dir`; one process at a time opens them."""

    kind: Literal["local"] = "local"
    data_dir: Path


class MemoryStorage(_Medium):
    """Nothing outlives the process."""

    kind: Literal["memory"] = "memory"


StorageConfig: TypeAlias = Annotated[
    SqliteStorage | LocalStorage | MemoryStorage, Field(discriminator="kind")
]


@runtime_checkable
class HasStorage(Protocol):
    """Any larger configuration that says where its records are kept."""

    @property
    def storage(self) -> StorageConfig:
        """The part that concerns storage."""


def storage_config_of(config: StorageConfig | HasStorage) -> StorageConfig:
    """Return the storage part of `config`, which may be that part itself."""
    return config.storage if isinstance(config, HasStorage) else config
