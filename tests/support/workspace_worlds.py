"""Stores of workspaces over a medium whose process can die at a chosen write, and come up again."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from events.stores.base import EventStore
from events.stores.database.store import DatabaseEventStore
from events.stores.files.store import FileEventStore
from storage.conversations.files.store import FileConversationStores
from storage.database.sqlite import SqliteDatabase
from storage.errors import StorageError
from storage.files.base import FileStore
from storage.files.local import LocalFileStore
from storage.files.memory import MemoryFileStore
from storage.sealing.key import EphemeralKey, Key
from storage.workspaces.base import WorkspaceStore
from storage.workspaces.database import DatabaseWorkspaces
from storage.workspaces.files import FileWorkspaces
from tests.support.backends import PAGE_EVENTS
from tests.support.dying_database import DyingDatabase
from tests.support.dying_files import Death, DyingFileStore

NEVER = 10**9
KEY: Key = EphemeralKey()
"""Outlives the processes that die."""


class World:
    """The stores over one medium, of which the process can die and come up again."""

    events: EventStore
    store: WorkspaceStore
    dying: DyingFileStore | DyingDatabase

    async def open(self) -> None:
        """Come up."""
        raise NotImplementedError

    async def close(self) -> None:
        """End, in order unless it is dead."""
        raise NotImplementedError

    async def leftovers(self, key: str) -> int:
        """Count what the medium has of a conversation's workspace."""
        raise NotImplementedError


class FilesWorld(World):
    """Over files, in memory or in a folder."""

    def __init__(self, folder: Path, *, local: bool) -> None:
        self._folder = folder
        self._local = local
        self._files: FileStore = MemoryFileStore()

    async def open(self) -> None:
        """See World."""
        if self._local:
            self._files = await LocalFileStore.open(self._folder, deadline_seconds=1_000)
        self.dying = DyingFileStore(self._files, NEVER, Death.before)
        self._records = await FileConversationStores.open(self.dying)
        self._log = FileEventStore(self.dying, self._records, page_events=PAGE_EVENTS)
        await self._log.repair()
        self.events = self._log
        self.store = FileWorkspaces(self.dying, self._log.beside, self._records.writing, KEY)

    async def close(self) -> None:
        """See World."""
        await self._log.close()
        with suppress(StorageError):
            await self._records.close()
        if self._local:
            await self._files.close()

    async def leftovers(self, key: str) -> int:
        """See World."""
        return len(await self._files.keys(f"logs/{key}/workspace/"))


class SqliteWorld(World):
    """Over a database."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "parley.db"

    async def open(self) -> None:
        """See World."""
        self._database = await SqliteDatabase.open(self._path)
        self.dying = DyingDatabase(self._database)
        events = DatabaseEventStore(self.dying)
        await events.place_arrivals()
        await events.finish_deletions()
        self.events = events
        self.store = DatabaseWorkspaces(self.dying, KEY)

    async def close(self) -> None:
        """See World."""
        await self._database.close()

    async def leftovers(self, key: str) -> int:
        """See World."""
        query = (
            "SELECT count(*) FROM conversations JOIN (SELECT conversation FROM workspaces"
            " UNION ALL SELECT conversation FROM workspace_blobs) ON conversation = number"
            " WHERE conversation_id = ?"
        )
        with closing(sqlite3.connect(self._path)) as connection:
            return int(connection.execute(query, (key,)).fetchone()[0])


def world_of(kind: str, folder: Path) -> World:
    """Return such a world over a new medium."""
    return SqliteWorld(folder) if kind == "sqlite" else FilesWorld(folder, local=kind == "local")
