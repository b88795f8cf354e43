"""Users' records in memory: the reference back-end; nothing outlives the process."""

from storage.users.base import RecordChange, UserRecords


class MemoryUserRecords(UserRecords):
    """The records of all users. No method awaits, so each is atomic."""

    def __init__(self) -> None:
        super().__init__()
        self._records: dict[tuple[str | None, str], bytes] = {}

    async def read(self, user_id: str | None, kind: str) -> bytes | None:
        """See UserRecords."""
        return self._records.get((user_id, kind))

    async def write(self, user_id: str | None, kind: str, record: bytes) -> None:
        """See UserRecords."""
        self._records[user_id, kind] = record

    async def update(self, user_id: str | None, kind: str, change: RecordChange) -> None:
        """See UserRecords."""
        self._records[user_id, kind] = change(self._records.get((user_id, kind)))
