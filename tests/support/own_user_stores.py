"""Settings and secrets in classes of an embedder's own, as settings name them."""

import asyncio
from typing import ClassVar, NoReturn

from storage.config import HasStorage, StorageConfig
from storage.users.base import SecretsStore, SettingsStore
from storage.users.secrets import Secrets
from storage.users.settings import Settings


class BookOfSettings(SettingsStore):
    """All in one dict of the class."""

    kept: ClassVar[dict[str | None, Settings]] = {}

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "BookOfSettings":
        """See SettingsStore."""
        return cls(user_id)

    async def load(self) -> Settings | None:
        return self.kept.get(self.user_id)

    async def store(self, settings: Settings) -> None:
        self.kept[self.user_id] = settings


class BookOfSecrets(SecretsStore):
    """All in one dict of the class."""

    kept: ClassVar[dict[str | None, Secrets]] = {}

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "BookOfSecrets":
        """See SecretsStore."""
        return cls(user_id)

    async def load(self) -> Secrets:
        return self.kept.get(self.user_id, Secrets())

    async def store(self, secrets: Secrets) -> None:
        self.kept[self.user_id] = secrets


class CountedSettings(BookOfSettings):
    """Takes a moment to be opened, and counts how often it was."""

    opened: ClassVar[list[str | None]] = []

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "CountedSettings":
        """See SettingsStore."""
        cls.opened.append(user_id)
        await asyncio.sleep(0)
        return cls(user_id)


class SilentSettings(BookOfSettings):
    """Never answers."""

    async def load(self) -> NoReturn:
        await asyncio.Future()
        raise AssertionError


class SilentSecrets(BookOfSecrets):
    """Never answers."""

    async def load(self) -> NoReturn:
        await asyncio.Future()
        raise AssertionError


class LosingSecrets(BookOfSecrets):
    """Stores, and then loses the connection over which it would hear of that."""

    async def store(self, secrets: Secrets) -> None:
        await super().store(secrets)
        raise ConnectionResetError("planned")


class LosingSettings(BookOfSettings):
    """Stores, and then loses the connection over which it would hear of that."""

    async def store(self, settings: Settings) -> None:
        await super().store(settings)
        raise ConnectionResetError("planned")
