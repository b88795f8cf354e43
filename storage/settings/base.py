"""The SettingsStore contract: what one user has chosen."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from storage.config import HasStorage, StorageConfig
from storage.owned import OwnedStore
from storage.seam import Seam
from storage.settings.model import Settings

SettingsChange: TypeAlias = Callable[[Settings | None], Settings]
"""Gives the new settings for the old ones, None when there are none; pure and quick.

It may run in another thread.
"""


class SettingsStore(OwnedStore[Settings | None, Settings]):
    """Keeps the settings of one owner.

    `user_id` is that owner; None is whoever has no name, never everybody. Nothing of another owner
    can be seen or changed. On media that outlast the process the keys in them are
    encrypted.

    Every call may raise Unavailable, Damaged, and WrongKey when what is stored was sealed with a
    key that is not at hand; writes OutcomeUnknown as well. Then nothing was overwritten.
    """

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "SettingsStore":
        """Return a store bound to that owner, over the medium that `config` names.

        A medium is opened once per process and shared; a custom class overrides this.
        """
        return await SEAM.open(config, user_id)

    @abstractmethod
    async def load(self) -> Settings | None:
        """Return the settings; None when none were stored."""

    @abstractmethod
    async def store(self, settings: Settings) -> None:
        """Replace all settings; atomic, and durable when done."""


class SettingsStores(ABC):
    """One medium's settings of all owners."""

    @abstractmethod
    def for_user(self, user_id: str | None) -> SettingsStore:
        """Return a store bound to that owner; cheap, no I/O."""


SEAM: Seam[SettingsStore] = Seam()
