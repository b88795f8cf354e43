"""Settings and secrets over the records of any medium, sealed with the storage's key."""

from collections.abc import Callable
from typing import Generic, NamedTuple

from storage.sealing.cipher import Cipher
from storage.sealing.key import Key
from storage.users.base import (
    FoundT,
    KeptT,
    OwnedStore,
    SecretsStore,
    SecretsStores,
    SettingsStore,
    SettingsStores,
    UserRecords,
)
from storage.users.codecs import (
    SECRETS_KIND,
    SETTINGS_KIND,
    decode_secrets,
    decode_settings,
    encode_secrets,
    encode_settings,
)
from storage.users.secrets import Secrets
from storage.users.settings import Settings


class Codec(NamedTuple, Generic[FoundT, KeptT]):
    """The stored form of a value: its kind, both directions, and the value where none is stored."""

    kind: str
    encode: Callable[[KeptT, str | None, Cipher], bytes]
    decode: Callable[[bytes, str | None, Cipher | None], FoundT]
    nothing: Callable[[], FoundT]


SETTINGS_CODEC: Codec[Settings | None, Settings] = Codec(
    SETTINGS_KIND, encode_settings, decode_settings, lambda: None
)
SECRETS_CODEC: Codec[Secrets, Secrets] = Codec(
    SECRETS_KIND, encode_secrets, decode_secrets, Secrets
)


class SealedStore(OwnedStore[FoundT, KeptT]):
    """One owner's value as a record."""

    def __init__(
        self, records: UserRecords, key: Key, codec: Codec[FoundT, KeptT], user_id: str | None
    ) -> None:
        super().__init__(user_id)
        self._records = records
        self._key = key
        self._codec = codec

    async def load(self) -> FoundT:
        """See OwnedStore."""
        record = await self._records.read(self.user_id, self._codec.kind)
        if record is None:
            return self._codec.nothing()
        # The key is asked for after the record: with a record there is a key.
        return self._codec.decode(record, self.user_id, await self._key.for_reading())

    async def store(self, kept: KeptT, /) -> None:
        """See OwnedStore."""
        cipher = await self._key.for_writing()
        record = self._codec.encode(kept, self.user_id, cipher)
        await self._records.write(self.user_id, self._codec.kind, record)

    async def update(self, change: Callable[[FoundT], KeptT]) -> KeptT:
        """See OwnedStore; serial and atomic as the medium's updates are."""
        cipher = await self._key.for_writing()
        made: list[KeptT] = []

        def renew(record: bytes | None) -> bytes:
            before = (
                self._codec.nothing()
                if record is None
                else self._codec.decode(record, self.user_id, cipher)
            )
            made.append(change(before))
            return self._codec.encode(made[-1], self.user_id, cipher)

        await self._records.update(self.user_id, self._codec.kind, renew)
        return made[-1]


class SealedSettingsStore(SealedStore[Settings | None, Settings], SettingsStore):
    """One owner's settings, the keys in them sealed."""


class SealedSecretsStore(SealedStore[Secrets, Secrets], SecretsStore):
    """One owner's secrets, every value sealed."""


class SealedSettings(SettingsStores):
    """The settings of all owners in one medium."""

    def __init__(self, records: UserRecords, key: Key) -> None:
        self._records = records
        self._key = key

    def for_user(self, user_id: str | None) -> SettingsStore:
        """See SettingsStores."""
        return SealedSettingsStore(self._records, self._key, SETTINGS_CODEC, user_id)


class SealedSecrets(SecretsStores):
    """The secrets of all owners in one medium."""

    def __init__(self, records: UserRecords, key: Key) -> None:
        self._records = records
        self._key = key

    def for_user(self, user_id: str | None) -> SecretsStore:
        """See SecretsStores."""
        return SealedSecretsStore(self._records, self._key, SECRETS_CODEC, user_id)
