"""Users' settings and secrets in classes of the embedder's own."""

from server.stores_by_owner import StoresByOwner
from storage.config import HasStorage
from storage.users.base import (
    SecretsChange,
    SecretsStore,
    SecretsStores,
    SettingsChange,
    SettingsStore,
    SettingsStores,
)
from storage.users.secrets import Secrets
from storage.users.settings import Settings


class OwnSettingsStores(SettingsStores):
    """The settings of all owners, as a custom class keeps them; each call may take `seconds`."""

    def __init__(
        self, store_class: type[SettingsStore], config: HasStorage, seconds: float
    ) -> None:
        self._stores: StoresByOwner[SettingsStore] = StoresByOwner(
            store_class, config, seconds, "settings store"
        )

    def for_user(self, user_id: str | None) -> SettingsStore:
        """See SettingsStores; the class is asked at the first call."""
        return OwnSettingsStore(self._stores, user_id)


class OwnSettingsStore(SettingsStore):
    """One owner's settings, whose store is looked up when it is used."""

    def __init__(self, stores: StoresByOwner[SettingsStore], user_id: str | None) -> None:
        super().__init__(user_id)
        self._stores = stores

    async def load(self) -> Settings | None:
        """See SettingsStore."""
        store = await self._stores.of(self.user_id)
        return await self._stores.reading(store.load)

    async def store(self, settings: Settings) -> None:
        """See SettingsStore."""
        store = await self._stores.of(self.user_id)
        await self._stores.writing(lambda: store.store(settings))

    async def update(self, change: SettingsChange) -> Settings:
        """See SettingsStore."""
        store = await self._stores.of(self.user_id)
        return await self._stores.writing(lambda: store.update(change))


class OwnSecretsStores(SecretsStores):
    """The secrets of all owners, as a custom class keeps them; each call may take `seconds`."""

    def __init__(self, store_class: type[SecretsStore], config: HasStorage, seconds: float) -> None:
        self._stores: StoresByOwner[SecretsStore] = StoresByOwner(
            store_class, config, seconds, "secrets store"
        )

    def for_user(self, user_id: str | None) -> SecretsStore:
        """See SecretsStores; the class is asked at the first call."""
        return OwnSecretsStore(self._stores, user_id)


class OwnSecretsStore(SecretsStore):
    """One owner's secrets, whose store is looked up when it is used."""

    def __init__(self, stores: StoresByOwner[SecretsStore], user_id: str | None) -> None:
        super().__init__(user_id)
        self._stores = stores

    async def load(self) -> Secrets:
        """See SecretsStore."""
        store = await self._stores.of(self.user_id)
        return await self._stores.reading(store.load)

    async def store(self, secrets: Secrets) -> None:
        """See SecretsStore."""
        store = await self._stores.of(self.user_id)
        await self._stores.writing(lambda: store.store(secrets))

    async def update(self, change: SecretsChange) -> Secrets:
        """See SecretsStore."""
        store = await self._stores.of(self.user_id)
        return await self._stores.writing(lambda: store.update(change))
