"""Contracts for a user's records: the bytes a medium keeps, and the settings and secrets in them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from storage.config import HasStorage, StorageConfig, StoreOpener
from storage.keyed_locks import KeyedLocks, lock_of
from storage.keys import owner_part
from storage.users.secrets import Secrets
from storage.users.settings import Settings

KINDS = 10
"""Kinds of records of one owner that are named at a time."""

FoundT = TypeVar("FoundT")
KeptT = TypeVar("KeptT")

RecordChange: TypeAlias = Callable[[bytes | None], bytes]
"""Returns the new record for the old one, None when there is none; pure and quick.

It may run in another thread.
"""

SettingsChange: TypeAlias = Callable[[Settings | None], Settings]
"""Returns the new settings for the old ones, None when there are none; pure and quick.

It may run in another thread.
"""

SecretsChange: TypeAlias = Callable[[Secrets], Secrets]
"""Returns the new secrets for the old ones; pure and quick. It may run in another thread."""


class RecordName(NamedTuple):
    """The name of a record on every medium: `owner_part` of its owner, and its kind."""

    owner: str
    kind: str


class UserRecords(ABC):
    """One medium's records of all users: one value of bytes per owner and kind, replaced whole.

    `user_id` is the owner, an opaque text that is compared for equality and never taken apart; None
    is the anonymous user, never everybody. `kind` is a short name of lower-case letters. Every call
    may raise Unavailable and Damaged; writes OutcomeUnknown as well.
    """

    def __init__(self) -> None:
        self._locks: KeyedLocks[tuple[str | None, str]] = KeyedLocks()

    async def read(self, user_id: str | None, kind: str) -> bytes | None:
        """Return the record; None when none was written."""
        return await self.read_named(RecordName(owner_part(user_id), kind))

    async def write(self, user_id: str | None, kind: str, record: bytes) -> None:
        """Replace the record; atomic, and durable when done."""
        await self.write_named(RecordName(owner_part(user_id), kind), record)

    @abstractmethod
    async def names(self, after: RecordName | None, limit: int) -> list[RecordName]:
        """Return the names of at most `limit` records, those behind `after`, in one order."""

    @abstractmethod
    async def read_named(self, name: RecordName) -> bytes | None:
        """Return the record; None when none was written."""

    @abstractmethod
    async def write_named(self, name: RecordName, record: bytes) -> None:
        """Replace the record; atomic, and durable when done."""

    @abstractmethod
    async def delete_named(self, name: RecordName) -> None:
        """Remove the record; durable when done. None there is fine."""

    async def names_of(self, user_id: str | None) -> list[RecordName]:
        """Return the names of all records of an owner."""
        owner, found = owner_part(user_id), list[RecordName]()
        while page := await self.names(found[-1] if found else RecordName(owner, ""), KINDS):
            own = [name for name in page if name.owner == owner]
            found += own
            if len(own) < len(page):
                break
        return found

    async def update(self, user_id: str | None, kind: str, change: RecordChange) -> None:
        """Replace the record by the result of `change`; atomic, and durable when done.

        Updates of one record are serial: none undoes another. An error of `change` is passed on,
        and nothing was written. This default reads and writes under a lock of the process, enough
        where one process writes; a medium that can should do better.
        """
        async with self._locks.of((user_id, kind)):
            await self.write(user_id, kind, change(await self.read(user_id, kind)))


class OwnedStore(ABC, Generic[FoundT, KeptT]):
    """Stores one value of one owner, read and replaced as a whole."""

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id

    @abstractmethod
    async def load(self) -> FoundT:
        """Return the stored value."""

    @abstractmethod
    async def store(self, kept: KeptT, /) -> None:
        """Replace the stored value; atomic, and durable when done."""

    async def update(self, change: Callable[[FoundT], KeptT]) -> KeptT:
        """Replace the stored value by the result of `change`, and return it.

        Atomic, and durable when done. Updates of one owner are serial: none undoes another. An
        error of `change` is passed on, and nothing was written. This default reads and writes
        under a lock of the process, enough where one process writes.
        """
        async with lock_of(type(self), self.user_id):
            changed = change(await self.load())
            await self.store(changed)
            return changed


class SettingsStore(OwnedStore[Settings | None, Settings]):
    """Stores the settings of one owner.

    `user_id` is that owner; None is the anonymous user, never everybody. Nothing of another owner
    can be seen or changed. On media that outlast the process the keys in them are encrypted.

    Every call may raise Unavailable, Damaged, and WrongKey when the stored value was sealed with
    a key that is not at hand; writes OutcomeUnknown as well. Then nothing was overwritten.
    """

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "SettingsStore":
        """Return a store bound to that owner, over the medium that `config` names.

        A medium is opened once per process and shared; a custom class overrides this.
        """
        return await SETTINGS.open(config, user_id)

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


class SecretsStore(OwnedStore[Secrets, Secrets]):
    """Stores the secrets of one owner.

    `user_id` is that owner; None is the anonymous user, never everybody. Nothing of another owner
    can be seen or changed. On media that outlast the process the values are encrypted.

    Every call may raise Unavailable, Damaged, and WrongKey when the stored value was sealed with
    a key that is not at hand; writes OutcomeUnknown as well. Then nothing was overwritten.
    """

    @classmethod
    async def get_instance(
        cls, config: StorageConfig | HasStorage, user_id: str | None
    ) -> "SecretsStore":
        """Return a store bound to that owner, over the medium that `config` names.

        A medium is opened once per process and shared; a custom class overrides this.
        """
        return await SECRETS.open(config, user_id)

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


SETTINGS: StoreOpener[SettingsStore] = StoreOpener()
SECRETS: StoreOpener[SecretsStore] = StoreOpener()
