"""Room that is kept for deletions: given up when one is not taken, and made anew."""

import errno
import os
from pathlib import Path

import pytest

from events.conformance.records import append, records
from events.errors import AppendFailed, AppendUnknown
from events.stores.database.store import DatabaseEventStore
from events.stores.files.store import FileEventStore
from storage.config import LocalStorage, SqliteStorage
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.files.store import FileConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.database.sqlite import SqliteDatabase
from storage.errors import StorageError, Unavailable
from storage.files.local import LocalFileStore
from storage.opening import open_storage
from storage.reserve import PLENTY, RESERVE_BYTES, Reserve
from tests.support.faulty_sqlite import Faults

SIZE = 4096


@pytest.fixture
def reserve(tmp_path):
    made = Reserve(tmp_path / "reserve", SIZE)
    made.fill()
    return made


def held(tmp_path):
    path = tmp_path / "reserve"
    return path.stat().st_blocks * 512 if path.exists() else 0


def test_a_reserve_holds_blocks_of_the_disk_until_it_is_released(tmp_path, reserve):
    assert held(tmp_path) >= SIZE

    assert reserve.release()
    assert held(tmp_path) == 0
    assert not reserve.release()

    reserve.fill()
    reserve.fill()
    assert held(tmp_path) >= SIZE


def test_a_reserve_there_is_no_room_for_is_not_held_in_part(tmp_path):
    reserve = Reserve(tmp_path / "reserve", 2**60)

    reserve.fill()

    assert not (tmp_path / "reserve").exists()
    assert not reserve.release()


def test_a_reserve_in_a_folder_that_is_gone_is_none(tmp_path):
    reserve = Reserve(tmp_path / "gone" / "reserve", SIZE)

    reserve.fill()
    reserve.close()

    assert not reserve.release()


def test_a_reserve_stays_on_a_disk_that_is_nearly_full(tmp_path):
    disk = os.statvfs(tmp_path)
    scarce = Reserve(tmp_path / "reserve", SIZE)
    scarce.fill()
    scarce._size = disk.f_bavail * disk.f_frsize // (PLENTY // 2)
    scarce.close()
    assert held(tmp_path) >= SIZE

    scarce._size = SIZE
    scarce.close()
    assert held(tmp_path) == 0


@pytest.mark.parametrize("kind", [SqliteStorage, LocalStorage])
async def test_an_opened_storage_holds_a_reserve(tmp_path, kind):
    async with open_storage(kind(data_dir=tmp_path)):
        assert held(tmp_path) >= RESERVE_BYTES


class Scarce:
    """A disk on which nothing can be written while its reserve is held, if `full`."""

    def __init__(self, path):
        self.path = path
        self.full = False
        self.refused = 0

    @property
    def takes(self):
        return not (self.full and self.path.exists())

    def flush(self, descriptor):
        if not self.takes and not Path(f"/proc/self/fd/{descriptor}").is_dir():
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")


class ScarceFaults(Faults):
    """A SQLite file on such a disk."""

    def __init__(self, disk):
        super().__init__()
        self._disk = disk

    def around(self, sql, run):
        if sql.startswith(("COMMIT", "INSERT INTO appends")) and not self._disk.takes:
            self._disk.refused += 1
            self.before.append(sql)
        return super().around(sql, run)


@pytest.fixture
def disk(tmp_path):
    return Scarce(tmp_path / "reserve")


@pytest.fixture(params=["sqlite", "local"])
async def stores(request, tmp_path, disk, reserve):
    """Records and logs on a disk that is full once `disk.full` says so, and its medium."""
    if request.param == "sqlite":
        database = await SqliteDatabase.open(tmp_path / "parley.db", ScarceFaults(disk).connect)
        database.reserve = reserve
        yield DatabaseConversationStores(database), DatabaseEventStore(database), database
        await database.close()
        return
    files = await LocalFileStore.open(tmp_path / "files", flush=disk.flush)
    files.reserve = reserve
    records_of = await FileConversationStores.open(files)
    events = FileEventStore(files, records_of, page_events=5)
    yield records_of, events, files
    await events.close()
    await files.close()


async def test_a_deletion_on_a_full_disk_is_done_in_the_room_of_the_reserve(
    stores, disk, tmp_path, caplog
):
    conversations, events, _ = stores
    ann = conversations.for_user("ann")
    await ann.save_metadata(ConversationMetadata(conversation_id="c"))
    await append(events, "c", records(0, 12))
    disk.full = True
    with pytest.raises((AppendFailed, AppendUnknown)):
        await append(events, "c", records(12, 1))
    refused = disk.refused

    await events.delete("c")
    assert held(tmp_path) >= SIZE
    await ann.delete_metadata("c")

    assert disk.refused > refused
    assert (await events.head("c")).deleted
    assert not await ann.exists("c")
    assert held(tmp_path) >= SIZE
    assert "retrying a deletion with the reserved disk space" in caplog.text


async def test_without_a_reserve_a_deletion_on_a_full_disk_fails_as_any_write(stores, disk):
    conversations, events, medium = stores
    ann = conversations.for_user("ann")
    await ann.save_metadata(ConversationMetadata(conversation_id="c"))
    await append(events, "c", records(0, 2))
    medium.reserve = None
    disk.full = True

    with pytest.raises((AppendFailed, AppendUnknown)):
        await events.delete("c")
    with pytest.raises(StorageError):
        await ann.delete_metadata("c")
    assert not (await events.head("c")).deleted


async def test_a_deletion_that_fails_for_another_reason_fails_once_more_and_is_told(stores):
    conversations, events, medium = stores
    ann = conversations.for_user("ann")
    await ann.save_metadata(ConversationMetadata(conversation_id="c"))
    medium.lost = "its file was removed"

    with pytest.raises(AppendFailed):
        await events.delete("c")
    with pytest.raises(Unavailable):
        await ann.delete_metadata("c")
    medium.lost = None
