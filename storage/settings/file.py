"""Settings over a FileStore: one file per owner, its secret fields sealed."""

from storage.errors import KeyNotFound
from storage.files.base import FileStore
from storage.locations import user_record_key
from storage.secrets.keys import SealingKey
from storage.settings.base import SettingsStore, SettingsStores
from storage.settings.document import KIND, decode_settings, encode_settings
from storage.settings.model import Settings


class FileSettingsStores(SettingsStores):
    """The settings of all owners in one file store."""

    def __init__(self, files: FileStore, key: SealingKey) -> None:
        self._files = files
        self._key = key

    def for_user(self, user_id: str | None) -> "FileSettingsStore":
        """See SettingsStores."""
        return FileSettingsStore(self._files, self._key, user_id)


class FileSettingsStore(SettingsStore):
    """One owner's settings in a file; `update` is the contract's, as one process writes."""

    def __init__(self, files: FileStore, key: SealingKey, user_id: str | None) -> None:
        super().__init__(user_id)
        self._files = files
        self._key = key
        self._place = user_record_key(user_id, KIND)

    async def load(self) -> Settings | None:
        """See SettingsStore."""
        try:
            raw = await self._files.read(self._place)
        except KeyNotFound:
            return None
        return decode_settings(raw, self.user_id, await self._key.for_reading())

    async def store(self, settings: Settings) -> None:
        """See SettingsStore."""
        cipher = await self._key.for_writing()
        await self._files.write(self._place, encode_settings(settings, self.user_id, cipher))
