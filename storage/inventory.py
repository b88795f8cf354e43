"""The contents of a storage and the room they take."""

import asyncio
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sized
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import AwareDatetime, BaseModel

from storage.conversations.listing import Listing
from storage.database.base import Database, Row, Script, Statement
from storage.database.wal import wal_of
from storage.progress import T, Track

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


Check = Callable[[Track], list[str]]
"""Reads a whole storage and returns what is wrong with it. Blocks."""

BREATH = 20
"""Records that are checked before the event loop may have the interpreter, if it wants it."""


class Inventory(ABC):
    """Takes stock of one opened storage."""

    def __init__(self) -> None:
        self.check: Check | None = None
        """The check of the whole storage, set by whoever knows all that is kept there."""
        self.mark: IntegrityMark | None = None

    @abstractmethod
    async def take(self, *, check: bool = False) -> StorageReport:
        """Look; with `check`, read the whole storage for damage first.

        Raises Unavailable, TimeoutError.
        """

    async def run_check(self) -> None:
        """Check in a thread, and note what was found. Raises TimeoutError; the thread then ends."""
        if self.check is None:
            return
        ended = threading.Event()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                problems = await asyncio.to_thread(self.check, partial(_until, ended))
        finally:
            ended.set()
        text = "; ".join(problems) or "ok"
        self.mark = IntegrityMark(checked_at=datetime.now(UTC), sound=not problems, text=text)


def _until(
    ended: threading.Event, items: Iterable[T], _subject: str, _total: int, /
) -> Iterable[T]:
    """Hand items on until nobody waits for the check any more."""
    for number, item in enumerate(items):
        if number % BREATH == 0:
            if ended.is_set():
                return
            time.sleep(0)
        yield item


class MemoryInventory(Inventory):
    """Of records in memory."""

    def __init__(self, records: Sized) -> None:
        super().__init__()
        self._records = records

    async def take(self, *, check: bool = False) -> StorageReport:  # noqa: ARG002 - nothing to check
        """See Inventory."""
        return StorageReport(medium="memory", conversations=len(self._records))


class FileInventory(Inventory):
    """Of a folder of files."""

    def __init__(self, folder: Path, listing: Listing) -> None:
        super().__init__()
        self._folder = folder
        self._listing = listing

    async def take(self, *, check: bool = False) -> StorageReport:
        """See Inventory."""
        if check:
            await self.run_check()
        async with asyncio.timeout(WALK_SECONDS):
            files, size = await asyncio.to_thread(_walk, self._folder)
        return StorageReport(
            medium="local",
            place=str(self._folder),
            bytes_used=size,
            files=files,
            conversations=len(self._listing),
            integrity=self.mark,
        )


class SqliteInventory(Inventory):
    """Of a SQLite database."""

    def __init__(self, database: Database, path: Path) -> None:
        super().__init__()
        self._database = database
        self._path = path

    async def take(self, *, check: bool = False) -> StorageReport:
        """See Inventory."""
        if check:
            await self.run_check()
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
            integrity=self.mark,
        )


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
