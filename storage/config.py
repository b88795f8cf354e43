"""Storage configuration, one variant per medium; nothing here reads the environment."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from storage.errors import Unavailable


class _Medium(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Directory(_Medium):
    """A medium inside `data_dir`; one process at a time opens it.

    `secret_key` seals stored secrets; without it a key file is created when first needed.
    """

    data_dir: Path
    secret_key: SecretStr | None = None


class SqliteStorage(_Directory):
    """An embedded SQLite database."""

    kind: Literal["sqlite"] = "sqlite"


class LocalStorage(_Directory):
    """Plain files."""

    kind: Literal["local"] = "local"


class MemoryStorage(_Medium):
    """Nothing outlives the process."""

    kind: Literal["memory"] = "memory"


class PostgresStorage(_Medium):
    """One schema of a PostgreSQL database; nothing lies in a directory.

    `url` is as libpq takes it, and may hold a password. `secret_key` seals stored secrets. With
    `pooler` the address is that of a pooler in transaction mode; `direct_url` leads past that.
    """

    kind: Literal["postgres"] = "postgres"
    url: SecretStr
    direct_url: SecretStr | None = None
    secret_key: SecretStr
    schema_name: str = "parley"
    connections: int = Field(default=8, ge=4)
    pooler: bool = False
    shared: bool = False
    """Other servers that share it may use the schema at the same time."""
    deadline_seconds: float = 10.0
    """Seconds that a statement may take before its outcome counts as unknown."""


class CloudStorage(_Medium):
    """Files as objects of a bucket; one process at a time opens it.

    `url` names the bucket and the folder in it: `s3://bucket/folder`, `gs://`, `az://container/folder`.
    `options` is a JSON object with what else the service needs, credentials among it. A process
    that ends without closing the storage keeps others out for `lease_seconds`. `secret_key` seals
    stored secrets.
    """

    kind: Literal["cloud"] = "cloud"
    url: str
    options: SecretStr | None = None
    secret_key: SecretStr
    lease_seconds: float = 6.0


StorageConfig: TypeAlias = Annotated[
    SqliteStorage | LocalStorage | PostgresStorage | CloudStorage | MemoryStorage,
    Field(discriminator="kind"),
]


@runtime_checkable
class HasStorage(Protocol):
    """Any larger configuration with a `storage`."""

    @property
    def storage(self) -> StorageConfig:
        """The part that concerns storage."""


def storage_config_of(config: StorageConfig | HasStorage) -> StorageConfig:
    """Return the storage part of `config`, which may be that part itself."""
    return config.storage if isinstance(config, HasStorage) else config


StoreT = TypeVar("StoreT")

Opener: TypeAlias = Callable[[StorageConfig, str | None], Awaitable[StoreT]]


class StoreOpener(Generic[StoreT]):
    """Opens one owner's store with a function that another package registers."""

    def __init__(self) -> None:
        self._opener: Opener[StoreT] | None = None

    def register(self, opener: Opener[StoreT]) -> None:
        """Say how a medium is found; the last call counts."""
        self._opener = opener

    async def open(self, config: StorageConfig | HasStorage, user_id: str | None) -> StoreT:
        """Return the owner's store over the medium that `config` names. Raises Unavailable."""
        if self._opener is None:
            raise Unavailable("no back-end is known: storage.opening was not imported")
        return await self._opener(storage_config_of(config), user_id)
