"""Secrets over a Database: one sealed record per owner."""

from storage.database.base import Database, Row, Script, Statement
from storage.locations import owner_part
from storage.secrets.base import SecretsChange, SecretsStore, SecretsStores
from storage.secrets.cipher import Cipher
from storage.secrets.document import KIND, decode_secrets, encode_secrets
from storage.secrets.keys import KeyMark, SealingKey
from storage.secrets.model import Secrets


class DatabaseKeyMark(KeyMark):
    """The mark as a row beside the records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> str | None:
        """See KeyMark."""
        rows = await self._database.read(_ask(Statement("read_key_mark")))
        return rows[0][0] if rows else None

    async def claim(self, key_id: str) -> str:
        """See KeyMark."""
        return await self._database.write(_claim(key_id))


class DatabaseSecretsStores(SecretsStores):
    """The secrets of all owners in one database."""

    def __init__(self, database: Database, key: SealingKey) -> None:
        self._database = database
        self._key = key

    def for_user(self, user_id: str | None) -> "DatabaseSecretsStore":
        """See SecretsStores."""
        return DatabaseSecretsStore(self._database, self._key, user_id)


class DatabaseSecretsStore(SecretsStore):
    """One owner's secrets in a database."""

    def __init__(self, database: Database, key: SealingKey, user_id: str | None) -> None:
        super().__init__(user_id)
        self._database = database
        self._key = key
        self._lookup = Statement("read_user_record", (owner_part(user_id), KIND))

    async def load(self) -> Secrets:
        """See SecretsStore."""
        rows = await self._database.read(_ask(self._lookup))
        if not rows:
            return Secrets()
        # The key is asked for after the record: with a record there is a key.
        return decode_secrets(rows[0][0], self.user_id, await self._key.for_reading())

    async def store(self, secrets: Secrets) -> None:
        """See SecretsStore."""
        cipher = await self._key.for_writing()
        await self._database.write(self._write(secrets, cipher))

    async def update(self, change: SecretsChange) -> Secrets:
        """See SecretsStore. Reads and writes in one transaction."""
        return await self._database.write(self._change(change, await self._key.for_writing()))

    def _change(self, change: SecretsChange, cipher: Cipher) -> Script[Secrets]:
        rows = (yield self._lookup).rows
        before = decode_secrets(rows[0][0], self.user_id, cipher) if rows else Secrets()
        secrets = change(before)
        yield from self._write(secrets, cipher)
        return secrets

    def _write(self, secrets: Secrets, cipher: Cipher) -> Script[None]:
        raw = encode_secrets(secrets, self.user_id, cipher)
        yield Statement("write_user_record", (*self._lookup.parameters, raw))


def _ask(statement: Statement) -> Script[list[Row]]:
    return (yield statement).rows


def _claim(key_id: str) -> Script[str]:
    yield Statement("claim_key_mark", (key_id,))
    found: str = (yield Statement("read_key_mark")).rows[0][0]
    return found
