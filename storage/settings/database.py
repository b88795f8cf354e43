"""Settings over a Database: one record per owner, its secret fields sealed."""

from storage.database.base import Database, Row, Script, Statement
from storage.locations import owner_part
from storage.secrets.cipher import Cipher
from storage.secrets.keys import SealingKey
from storage.settings.base import SettingsChange, SettingsStore, SettingsStores
from storage.settings.document import KIND, decode_settings, encode_settings
from storage.settings.model import Settings


class DatabaseSettingsStores(SettingsStores):
    """The settings of all owners in one database."""

    def __init__(self, database: Database, key: SealingKey) -> None:
        self._database = database
        self._key = key

    def for_user(self, user_id: str | None) -> "DatabaseSettingsStore":
        """See SettingsStores."""
        return DatabaseSettingsStore(self._database, self._key, user_id)


class DatabaseSettingsStore(SettingsStore):
    """One owner's settings in a database."""

    def __init__(self, database: Database, key: SealingKey, user_id: str | None) -> None:
        super().__init__(user_id)
        self._database = database
        self._key = key
        self._lookup = Statement("read_user_record", (owner_part(user_id), KIND))

    async def load(self) -> Settings | None:
        """See SettingsStore."""
        rows = await self._database.read(_ask(self._lookup))
        if not rows:
            return None
        # The key is asked for after the record: with a record there is a key.
        return decode_settings(rows[0][0], self.user_id, await self._key.for_reading())

    async def store(self, settings: Settings) -> None:
        """See SettingsStore."""
        cipher = await self._key.for_writing()
        await self._database.write(self._write(settings, cipher))

    async def update(self, change: SettingsChange) -> Settings:
        """See SettingsStore. Reads and writes in one transaction."""
        return await self._database.write(self._change(change, await self._key.for_writing()))

    def _change(self, change: SettingsChange, cipher: Cipher) -> Script[Settings]:
        rows = (yield self._lookup).rows
        settings = change(decode_settings(rows[0][0], self.user_id, cipher) if rows else None)
        yield from self._write(settings, cipher)
        return settings

    def _write(self, settings: Settings, cipher: Cipher) -> Script[None]:
        raw = encode_settings(settings, self.user_id, cipher)
        yield Statement("write_user_record", (*self._lookup.parameters, raw))


def _ask(statement: Statement) -> Script[list[Row]]:
    return (yield statement).rows
