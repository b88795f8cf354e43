"""What a storage holds and how much room it takes."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Sized
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel

from storage.conversations.listing import Listing
from storage.database.base import Database, Row, Script, Statement
from storage.database.wal import wal_of
from storage.errors import Unavailable

CHECK_SECONDS = 60.0
WALK_SECONDS = 60.0


class IntegrityMark(BaseModel):
    """The newest check of the whole medium since the storage was opened."""

    checked_at: AwareDatetime
    sound: bool
    text: str


class StorageReport(BaseModel):
    """Sizes in bytes. What a medium does not have, or does not tell cheaply, is None.

    `events` counts those of conversations that are not deleted.
    """

    medium: str
    place: str | None = None
    bytes_used: int | None = None
    wal_bytes: int | None = None
    files: int | None = None
    conversations: int
    deleted_conversations: int | None = None
    events: int | None = None
    schema_version: int | None = None
    integrity: IntegrityMark | None = None


class Inventory(ABC):
    """Takes stock of one opened storage."""

    @abstractmethod
    async def take(self, *, check: bool = False) -> StorageReport:
        """Look; with `check`, read the whole medium for damage first where it can be told.

        Raises Unavailable, TimeoutError.
        """


class MemoryInventory(Inventory):
    """Of records in memory."""

    def __init__(self, records: Sized) -> None:
        self._records = records

    async def take(self, *, check: bool = False) -> StorageReport:  # noqa: ARG002 - nothing to check
        """See Inventory."""
        return StorageReport(medium="memory", conversations=len(self._records))


class FileInventory(Inventory):
    """Of a folder of files."""

    def __init__(self, folder: Path, listing: Listing) -> None:
        self._folder = folder
        self._listing = listing

    async def take(self, *, check: bool = False) -> StorageReport:  # noqa: ARG002 - checked when read
        """See Inventory. Every record is checked when it is read, so there is no mark."""
        async with asyncio.timeout(WALK_SECONDS):
            files, size = await asyncio.to_thread(_walk, self._folder)
        return StorageReport(
            medium="local",
            place=str(self._folder),
            bytes_used=size,
            files=files,
            conversations=len(self._listing),
        )


class SqliteInventory(Inventory):
    """Of a SQLite database."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._path = path
        self._mark: IntegrityMark | None = None

    async def take(self, *, check: bool = False) -> StorageReport:
        """See Inventory."""
        if check:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._check()
        rows = await self._database.read(_ask(Statement("inventory")))
        size, conversations, deleted, events, version = rows[0]
        return StorageReport(
            medium="sqlite",
            place=str(self._path),
            bytes_used=size,
            wal_bytes=await asyncio.to_thread(_size, wal_of(self._path)),
            conversations=conversations,
            deleted_conversations=deleted,
            events=events,
            schema_version=version,
            integrity=self._mark,
        )

    async def _check(self) -> None:
        try:
            text = str((await self._database.read(_ask(Statement("quick_check"))))[0][0])
        except Unavailable as error:
            text = str(error)
        self._mark = IntegrityMark(checked_at=datetime.now(UTC), sound=text == "ok", text=text)


def _ask(statement: Statement) -> Script[list[Row]]:
    return (yield statement).rows


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _walk(folder: Path) -> tuple[int, int]:
    files = size = 0
    for parent, _, names in os.walk(folder):
        files += len(names)
        size += sum(_size(Path(parent, name)) for name in names)
    return files, size
