"""Secrets over a FileStore: one sealed file per owner."""

from storage.errors import Damaged, KeyExists, KeyNotFound
from storage.files.base import FileStore
from storage.locations import KEY_MARK, user_record_key
from storage.secrets.base import SecretsStore, SecretsStores
from storage.secrets.document import KIND, decode_secrets, encode_secrets
from storage.secrets.keys import KeyMark, SealingKey
from storage.secrets.model import Secrets


class FileKeyMark(KeyMark):
    """The mark as a file beside the records."""

    def __init__(self, files: FileStore) -> None:
        self._files = files

    async def read(self) -> str | None:
        """See KeyMark."""
        try:
            raw = await self._files.read(KEY_MARK)
        except KeyNotFound:
            return None
        try:
            return raw.decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise Damaged("the mark of the sealing key cannot be read") from error

    async def claim(self, key_id: str) -> str:
        """See KeyMark."""
        try:
            await self._files.create(KEY_MARK, f"{key_id}\n".encode())
        except KeyExists:
            return await self.read() or ""
        return key_id


class FileSecretsStores(SecretsStores):
    """The secrets of all owners in one file store."""

    def __init__(self, files: FileStore, key: SealingKey) -> None:
        self._files = files
        self._key = key

    def for_user(self, user_id: str | None) -> "FileSecretsStore":
        """See SecretsStores."""
        return FileSecretsStore(self._files, self._key, user_id)


class FileSecretsStore(SecretsStore):
    """One owner's secrets in a file; `update` is the contract's, as one process writes."""

    def __init__(self, files: FileStore, key: SealingKey, user_id: str | None) -> None:
        super().__init__(user_id)
        self._files = files
        self._key = key
        self._place = user_record_key(user_id, KIND)

    async def load(self) -> Secrets:
        """See SecretsStore."""
        try:
            raw = await self._files.read(self._place)
        except KeyNotFound:
            return Secrets()
        return decode_secrets(raw, self.user_id, await self._key.for_reading())

    async def store(self, secrets: Secrets) -> None:
        """See SecretsStore."""
        cipher = await self._key.for_writing()
        await self._files.write(self._place, encode_secrets(secrets, self.user_id, cipher))
