"""Workspaces on a disk that is full: a save that fails leaves what was kept, and takes no room."""

import errno
import os
import sqlite3
from contextlib import closing

import pytest

from events.conformance.records import append, records
from events.stores.database.store import DatabaseEventStore
from events.stores.files.store import FileEventStore
from storage.conversations.files.store import FileConversationStores
from storage.database.sqlite import SqliteDatabase
from storage.errors import Unavailable
from storage.files.local import LocalFileStore
from storage.sealing.key import EphemeralKey
from storage.workspaces.database import DatabaseWorkspaces
from storage.workspaces.files import FileWorkspaces
from storage.workspaces.manifest import BLOB_BYTES, Loaded
from storage.workspaces.snapshot import Snapshot
from tests.support.faulty_sqlite import Faults

BEFORE = Snapshot(files={name: name.encode() * BLOB_BYTES for name in "ab"})
AFTER = Snapshot(files={name: name.encode() * BLOB_BYTES for name in "uvwxyz"})


class Small:
    """A disk with room for so many blobs."""

    def __init__(self, folder):
        self.folder = folder
        self.room = 100

    @property
    def is_full(self):
        return self.blobs() >= self.room

    def blobs(self):
        raise NotImplementedError


class SmallFolder(Small):
    def blobs(self):
        return len(list(self.folder.glob("logs/c/workspace/blobs/*")))

    def flush(self, descriptor):
        if os.fstat(descriptor).st_size >= BLOB_BYTES and self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")


class SmallDatabase(Small, Faults):
    def __init__(self, folder):
        Small.__init__(self, folder)
        Faults.__init__(self)

    def blobs(self):
        with closing(sqlite3.connect(self.folder / "parley.db")) as connection:
            return connection.execute("SELECT count(*) FROM workspace_blobs").fetchone()[0]

    def around(self, sql, run):
        if sql.startswith("INSERT INTO workspace_blobs") and self.is_full:
            self.before.append(sql)
        return super().around(sql, run)


@pytest.fixture(params=["sqlite", "local"])
async def small(request, tmp_path):
    """A disk, and the store of workspaces on it, with a log of `c`."""
    if request.param == "sqlite":
        disk = SmallDatabase(tmp_path)
        database = await SqliteDatabase.open(tmp_path / "parley.db", disk.connect)
        await append(DatabaseEventStore(database), "c", records(0, 1))
        yield disk, DatabaseWorkspaces(database, EphemeralKey())
        await database.close()
        return
    folder = SmallFolder(tmp_path)
    files = await LocalFileStore.open(tmp_path, flush=folder.flush)
    stores = await FileConversationStores.open(files)
    events = FileEventStore(files, stores)
    await append(events, "c", records(0, 1))
    yield folder, FileWorkspaces(files, events.beside, stores.writing, EphemeralKey())
    await events.close()
    await stores.close()
    await files.close()


async def test_a_save_that_finds_no_room_leaves_the_earlier_workspace_and_none_of_its_own(small):
    disk, store = small
    await store.save("c", BEFORE)
    kept = disk.blobs()
    disk.room = kept + 3

    with pytest.raises(Unavailable):
        await store.save("c", AFTER)

    assert disk.blobs() == kept
    assert await store.load("c") == Loaded(BEFORE)
    disk.room = 100
    await store.save("c", AFTER)
    assert await store.load("c") == Loaded(AFTER)


async def test_what_an_earlier_save_has_left_makes_room_for_the_next(small):
    disk, store = small
    await store.save("c", BEFORE)
    for number in range(4):
        await store.write_blob("c", f"left-over-{number}", b"x" * BLOB_BYTES)
    disk.room = disk.blobs() + 3

    await store.save("c", AFTER)

    assert await store.load("c") == Loaded(AFTER)
    assert disk.blobs() == len(AFTER.files)
