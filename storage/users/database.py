"""Users' records over a Database: one row per owner and kind."""

from storage.database.base import Database, Row, Statement, Steps, bytes_in, rerunnable
from storage.keys import owner_part
from storage.sealing.key import KeyMark
from storage.users.base import RecordChange, RecordName, UserRecords

BEFORE_ALL = ("", "")


class DatabaseUserRecords(UserRecords):
    """The records of all users in one database; `update` is one transaction."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    async def names(self, after: RecordName | None, limit: int) -> list[RecordName]:
        """See UserRecords."""
        asked = Statement("user_record_names", (*(after or BEFORE_ALL), limit))
        return [RecordName(*row) for row in await self._database.read(_rows(asked))]

    async def read_named(self, name: RecordName) -> bytes | None:
        """See UserRecords."""
        rows = await self._database.read(_rows(_lookup(name)))
        return bytes_in(rows[0][0]) if rows else None

    async def write_named(self, name: RecordName, record: bytes) -> None:
        """See UserRecords."""
        await self._database.write(_write(name, record))

    async def delete_named(self, name: RecordName) -> None:
        """See UserRecords."""
        await self._database.write(_delete(name))

    async def update(self, user_id: str | None, kind: str, change: RecordChange) -> None:
        """See UserRecords."""
        await self._database.write(_update(RecordName(owner_part(user_id), kind), change))


class DatabaseKeyMark(KeyMark):
    """The mark of the sealing key as a row beside the records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> str | None:
        """See KeyMark."""
        rows = await self._database.read(_rows(Statement("read_key_mark")))
        return rows[0][0] if rows else None

    async def claim(self, key_id: str) -> str:
        """See KeyMark."""
        return await self._database.write(_claim(key_id))


def _lookup(name: RecordName) -> Statement:
    return Statement("read_user_record", name)


@rerunnable
def _rows(statement: Statement) -> Steps[list[Row]]:
    return (yield statement).rows


@rerunnable
def _write(name: RecordName, record: bytes) -> Steps[None]:
    yield Statement("write_user_record", (*name, record))


@rerunnable
def _delete(name: RecordName) -> Steps[None]:
    yield Statement("delete_user_record", name)


@rerunnable
def _update(name: RecordName, change: RecordChange) -> Steps[None]:
    rows = (yield _lookup(name)).rows
    yield from _write(name, change(bytes_in(rows[0][0]) if rows else None))()


@rerunnable
def _claim(key_id: str) -> Steps[str]:
    yield Statement("claim_key_mark", (key_id,))
    found: str = (yield Statement("read_key_mark")).rows[0][0]
    return found
