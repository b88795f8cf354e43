"""The SecretsStore contract: what one user keeps secret."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from storage.config import HasStorage, StorageConfig
from storage.owned import OwnedStore
from storage.seam import Seam
from storage.secrets.model import Secrets

SecretsChange: TypeAlias = Callable[[Secrets], Secrets]
"""Gives the new secrets for the old ones; pure and quick. It may run in another thread."""


class SecretsStore(OwnedStore[Secrets, Secrets]):
    """Keeps the secrets of one owner.

    `user_id` is that owner; None is whoever has no name, never everybody. Nothing of another owner
    can be seen or changed. On media that outlast the process the values are encrypted.

    Every call may raise Unavailable, Damaged, and WrongKey when what is stored was sealed with a
    key that is not at hand; writes OutcomeUnknown as well. Then nothing was overwritten.
    """

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "SecretsStore":
        """Return a store bound to that owner, over the medium that `config` names.

        A medium is opened once per process and shared; a custom class overrides this.
        """
        return await SEAM.open(config, user_id)

    @abstractmethod
    async def load(self) -> Secrets:
        """Return the secrets; empty when none were stored."""

    @abstractmethod
    async def store(self, secrets: Secrets) -> None:
        """Replace all secrets; atomic, and durable when done."""


class SecretsStores(ABC):
    """One medium's secrets of all owners."""

    @abstractmethod
    def for_user(self, user_id: str | None) -> SecretsStore:
        """Return a store bound to that owner; cheap, no I/O."""


SEAM: Seam[SecretsStore] = Seam()
