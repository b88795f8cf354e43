"""Conversation records in a class of the embedder's own."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

from server.errors import NotSupported
from server.user_code import UserCode, UserCodeLate
from storage.config import HasStorage
from storage.conversations.base import ConversationStore, ConversationStores
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationMetadataResultSet,
    MetadataChange,
)
from storage.conversations.paging import DEFAULT_LIMIT, ConversationFilter
from storage.errors import OutcomeUnknown, StorageError, Unavailable
from storage.keyed_locks import KeyedLocks
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

T = TypeVar("T")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

KEPT_STORES = 256
"""Stores that are kept for their owners; the one unused for longest is made again when needed."""


class StoreClass(Protocol[S_co]):
    """A class that finds one owner's store."""

    async def get_instance(self, config: HasStorage, user_id: str | None, /) -> S_co:
        """Return the store of that owner."""


class StoresByOwner(Generic[S]):
    """The stores of a custom class, made at their first use.

    Each call may take `seconds`; past that a read is Unavailable and a write OutcomeUnknown.
    """

    def __init__(
        self, store_class: StoreClass[S], config: HasStorage, seconds: float, what: str
    ) -> None:
        self._store_class = store_class
        self._config = config
        self._seconds = seconds
        self._what = what
        self._code = UserCode(f"the {what}")
        self._stores: OrderedDict[str | None, S] = OrderedDict()
        self._locks: KeyedLocks[str | None] = KeyedLocks()

    async def of(self, user_id: str | None) -> S:
        """Return the owner's store. Raises Unavailable when it takes too long."""
        return await self.reading(partial(self._find, user_id))

    async def reading(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call that changes nothing. Raise Unavailable when it takes too long."""
        return await self._within_time(call, Unavailable)

    async def writing(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call that may change something. Raise OutcomeUnknown when it takes too long."""
        return await self._within_time(call, OutcomeUnknown)

    async def _find(self, user_id: str | None) -> S:
        async with self._locks.of(user_id):
            store = self._stores.get(user_id)
            if store is None:
                store = await self._store_class.get_instance(self._config, user_id)
                self._stores[user_id] = store
        self._stores.move_to_end(user_id)
        if len(self._stores) > KEPT_STORES:
            self._stores.popitem(last=False)
        return store

    async def _within_time(self, call: Callable[[], Awaitable[T]], late: type[StorageError]) -> T:
        try:
            return await self._code.wait(call, self._seconds, f"a call of the {self._what}")
        except UserCodeLate as error:
            raise late(f"the {self._what} did not answer in time") from error


class CustomSettingsStores(SettingsStores):
    """The settings of all owners, as a custom class keeps them; each call may take `seconds`."""

    def __init__(
        self, store_class: type[SettingsStore], config: HasStorage, seconds: float
    ) -> None:
        self._stores: StoresByOwner[SettingsStore] = StoresByOwner(
            store_class, config, seconds, "settings store"
        )

    def for_user(self, user_id: str | None) -> SettingsStore:
        """See SettingsStores; the class is asked at the first call."""
        return CustomSettingsStore(self._stores, user_id)


class CustomSettingsStore(SettingsStore):
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


class CustomSecretsStores(SecretsStores):
    """The secrets of all owners, as a custom class keeps them; each call may take `seconds`."""

    def __init__(self, store_class: type[SecretsStore], config: HasStorage, seconds: float) -> None:
        self._stores: StoresByOwner[SecretsStore] = StoresByOwner(
            store_class, config, seconds, "secrets store"
        )

    def for_user(self, user_id: str | None) -> SecretsStore:
        """See SecretsStores; the class is asked at the first call."""
        return CustomSecretsStore(self._stores, user_id)


class CustomSecretsStore(SecretsStore):
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


class CustomConversationStores(ConversationStores):
    """The records of all owners, as a custom class keeps them; each call may take `seconds`."""

    def __init__(
        self, store_class: type[ConversationStore], config: HasStorage, seconds: float
    ) -> None:
        self._stores: StoresByOwner[ConversationStore] = StoresByOwner(
            store_class, config, seconds, "conversation store"
        )

    def for_user(self, user_id: str | None) -> ConversationStore:
        """See ConversationStores; the class is asked at the first call."""
        return CustomConversationStore(self._stores, user_id)

    async def search_all(
        self,
        page_id: str | None = None,  # noqa: ARG002 - the contract's, as those that follow
        limit: int = DEFAULT_LIMIT,  # noqa: ARG002
        *,
        filters: ConversationFilter | None = None,  # noqa: ARG002
    ) -> ConversationMetadataResultSet:
        """Raise NotSupported: a class of its own is asked for one owner at a time."""
        raise NotSupported("A custom conversation store can be listed by owner only")


class CustomConversationStore(ConversationStore):
    """One owner's store, looked up when it is used."""

    def __init__(self, stores: StoresByOwner[ConversationStore], user_id: str | None) -> None:
        super().__init__(user_id)
        self._stores = stores

    async def save_metadata(self, metadata: ConversationMetadata) -> None:
        """See ConversationStore."""
        store = await self._store()
        await self._stores.writing(lambda: store.save_metadata(metadata))

    async def update_metadata(
        self, conversation_id: str, change: MetadataChange
    ) -> ConversationMetadata:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.writing(lambda: store.update_metadata(conversation_id, change))

    async def give_title(self, conversation_id: str, title: str) -> bool:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.writing(lambda: store.give_title(conversation_id, title))

    async def get_metadata(self, conversation_id: str) -> ConversationMetadata:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.get_metadata(conversation_id))

    async def validate_metadata(self, conversation_id: str, user_id: str | None) -> bool:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.validate_metadata(conversation_id, user_id))

    async def delete_metadata(self, conversation_id: str) -> None:
        """See ConversationStore."""
        store = await self._store()
        await self._stores.writing(lambda: store.delete_metadata(conversation_id))

    async def exists(self, conversation_id: str) -> bool:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.exists(conversation_id))

    async def search(
        self,
        page_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        filters: ConversationFilter | None = None,
    ) -> ConversationMetadataResultSet:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.search(page_id, limit, filters=filters))

    async def get_all_metadata(self, conversation_ids: Sequence[str]) -> list[ConversationMetadata]:
        """See ConversationStore."""
        store = await self._store()
        return await self._stores.reading(lambda: store.get_all_metadata(conversation_ids))

    async def _store(self) -> ConversationStore:
        return await self._stores.of(self.user_id)
