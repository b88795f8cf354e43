"""Users' records over a FileStore: one file per owner and kind."""

from storage.errors import Damaged, KeyExists, KeyNotFound
from storage.files.base import FileStore
from storage.keys import KEY_MARK, USERS
from storage.sealing.key import KeyMark
from storage.users.base import RecordName, UserRecords


class FileUserRecords(UserRecords):
    """The records of all users as files; `update` is the contract's, as one process writes."""

    def __init__(self, files: FileStore) -> None:
        super().__init__()
        self._files = files

    async def names(self, after: RecordName | None, limit: int) -> list[RecordName]:
        """See UserRecords. All keys are listed for it."""
        found = [key.removeprefix(USERS).split("/") for key in await self._files.keys(USERS)]
        names = sorted(
            RecordName(*parts) for parts in found if len(parts) == len(RecordName._fields)
        )
        return [name for name in names if after is None or name > after][:limit]

    async def read_named(self, name: RecordName) -> bytes | None:
        """See UserRecords."""
        try:
            return await self._files.read(_key(name))
        except KeyNotFound:
            return None

    async def write_named(self, name: RecordName, record: bytes) -> None:
        """See UserRecords."""
        await self._files.write(_key(name), record)

    async def delete_named(self, name: RecordName) -> None:
        """See UserRecords."""
        await self._files.delete(_key(name))


def _key(name: RecordName) -> str:
    return f"{USERS}{name.owner}/{name.kind}"


class FileKeyMark(KeyMark):
    """The mark of the sealing key as a file beside the records."""

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
