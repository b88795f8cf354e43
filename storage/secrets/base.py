"""The SecretsStore contract: what one user keeps secret."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeAlias

from storage.config import HasStorage, StorageConfig, storage_config_of
from storage.errors import Unavailable
from storage.secrets.model import Secrets
from storage.serial import lock_of

SecretsChange: TypeAlias = Callable[[Secrets], Secrets]
"""Gives the new secrets for the old ones; pure and quick. It may run in another thread."""


class SecretsStore(ABC):
    """Keeps the secrets of one owner.

    `user_id` is that owner; None is whoever has no name, never everybody. Nothing of another owner
    can be seen or changed. On media that outlast the process the values are encrypted.

    Every call may raise Unavailable, Damaged, and WrongKey when what is stored was sealed with a
    key that is not at hand; writes OutcomeUnknown as well. Then nothing was overwritten.
    """

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "SecretsStore":
        """Return a store bound to that owner, over the medium that `config` names.

        A medium is opened once per process and shared; a custom class overrides this.
        """
        if _Seam.opener is None:
            raise Unavailable("no back-end is known: storage.opening was not imported")
        return await _Seam.opener(storage_config_of(config), user_id)

    @abstractmethod
    async def load(self) -> Secrets:
        """Return the secrets; empty when none were stored."""

    @abstractmethod
    async def store(self, secrets: Secrets) -> None:
        """Replace all secrets; atomic, and durable when done."""

    async def update(self, change: SecretsChange) -> Secrets:
        """Replace the secrets by what `change` makes of them, and return that; atomic and durable.

        Updates of one owner are serial: none undoes another. What `change` raises is passed on,
        and nothing was written. This default reads and writes under a lock of the process, enough
        where one process writes; a store that can should do better.
        """
        async with lock_of(type(self), self.user_id):
            changed = change(await self.load())
            await self.store(changed)
            return changed


class SecretsStores(ABC):
    """One medium's secrets of all owners."""

    @abstractmethod
    def for_user(self, user_id: str | None) -> SecretsStore:
        """Return a store bound to that owner; cheap, no I/O."""


Opener: TypeAlias = Callable[[StorageConfig, str | None], Awaitable[SecretsStore]]


def register_opener(opener: Opener) -> None:
    """Say how `SecretsStore.get_instance` finds a medium; the last call counts."""
    _Seam.opener = opener


class _Seam:
    opener: ClassVar[Opener | None] = None
