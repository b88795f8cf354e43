"""The SettingsStore contract: what one user has chosen."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeAlias

from storage.config import HasStorage, StorageConfig, storage_config_of
from storage.errors import Unavailable
from storage.serial import lock_of
from storage.settings.model import Settings

SettingsChange: TypeAlias = Callable[[Settings | None], Settings]
"""Gives the new settings for the old ones, None when there are none; pure and quick.

It may run in another thread.
"""


class SettingsStore(ABC):
    """Keeps the settings of one owner.

    `user_id` is that owner; None is whoever has no name, never everybody. Nothing of another owner
    can be seen or changed. On media that outlast the process the keys in them are
    encrypted.

    Every call may raise Unavailable, Damaged, and WrongKey when what is stored was sealed with a
    key that is not at hand; writes OutcomeUnknown as well. Then nothing was overwritten.
    """

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "SettingsStore":
        """Return a store bound to that owner, over the medium that `config` names.

        A medium is opened once per process and shared; a custom class overrides this.
        """
        if _Seam.opener is None:
            raise Unavailable("no back-end is known: storage.opening was not imported")
        return await _Seam.opener(storage_config_of(config), user_id)

    @abstractmethod
    async def load(self) -> Settings | None:
        """Return the settings; None when none were stored."""

    @abstractmethod
    async def store(self, settings: Settings) -> None:
        """Replace all settings; atomic, and durable when done."""

    async def update(self, change: SettingsChange) -> Settings:
        """Replace the settings by what `change` makes of them, and return that; atomic and durable.

        Updates of one owner are serial: none undoes another. What `change` raises is passed on,
        and nothing was written. This default reads and writes under a lock of the process, enough
        where one process writes; a store that can should do better.
        """
        async with lock_of(type(self), self.user_id):
            changed = change(await self.load())
            await self.store(changed)
            return changed


class SettingsStores(ABC):
    """One medium's settings of all owners."""

    @abstractmethod
    def for_user(self, user_id: str | None) -> SettingsStore:
        """Return a store bound to that owner; cheap, no I/O."""


Opener: TypeAlias = Callable[[StorageConfig, str | None], Awaitable[SettingsStore]]


def register_opener(opener: Opener) -> None:
    """Say how `SettingsStore.get_instance` finds a medium; the last call counts."""
    _Seam.opener = opener


class _Seam:
    opener: ClassVar[Opener | None] = None
