"""How a contract finds its medium without knowing the module that names the back-ends."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeAlias, TypeVar

from storage.config import HasStorage, StorageConfig, storage_config_of
from storage.errors import Unavailable

StoreT = TypeVar("StoreT")

Opener: TypeAlias = Callable[[StorageConfig, str | None], Awaitable[StoreT]]


class Seam(Generic[StoreT]):
    """Opens one owner's store once somebody has said how."""

    def __init__(self) -> None:
        self._opener: Opener[StoreT] | None = None

    def register(self, opener: Opener[StoreT]) -> None:
        """Say how a medium is found; the last call counts."""
        self._opener = opener

    async def open(self, config: StorageConfig | HasStorage, user_id: str | None) -> StoreT:
        """The owner's store over the medium that `config` names. Raises Unavailable."""
        if self._opener is None:
            raise Unavailable("no back-end is known: storage.opening was not imported")
        return await self._opener(storage_config_of(config), user_id)
