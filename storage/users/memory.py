"""Users' records in memory: the reference back-end; nothing outlives the process."""

from storage.keys import owner_part
from storage.users.base import RecordChange, RecordName, UserRecords


class MemoryUserRecords(UserRecords):
    """The records of all users. No method awaits, so each is atomic."""

    def __init__(self) -> None:
        super().__init__()
        self._records: dict[RecordName, bytes] = {}

    async def names(self, after: RecordName | None, limit: int) -> list[RecordName]:
        """See UserRecords."""
        return sorted(one for one in self._records if after is None or one > after)[:limit]

    async def read_named(self, name: RecordName) -> bytes | None:
        """See UserRecords."""
        return self._records.get(name)

    async def write_named(self, name: RecordName, record: bytes) -> None:
        """See UserRecords."""
        self._records[name] = record

    async def delete_named(self, name: RecordName) -> None:
        """See UserRecords."""
        self._records.pop(name, None)

    async def update(self, user_id: str | None, kind: str, change: RecordChange) -> None:
        """See UserRecords."""
        name = RecordName(owner_part(user_id), kind)
        self._records[name] = change(self._records.get(name))
