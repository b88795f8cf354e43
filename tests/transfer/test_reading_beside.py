"""A bucket that is read while a server writes it: nothing is disturbed, and whatever was acknowledged is there."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from events.conformance.records import append, records
from events.errors import AppendFailed
from events.stores.files.reading import FileEventReader
from events.stores.files.store import FileEventStore
from events.summary import NO_CHANGE
from events.transfer.backup import archive_of, write_archive
from events.transfer.contents import open_stores, open_to_read
from events.transfer.report import Result
from events.transfer.restore import Restore
from storage.backends.base import OpenedFiles
from storage.conversations.files.store import FileConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.errors import ForeignData, MediumLost
from storage.files.memory import MemoryFileStore
from storage.keys import LISTS, UNSETTLED, log_part, segment_key
from storage.workspaces.files import FileWorkspaces
from storage.workspaces.snapshot import Snapshot
from tests.support.s3 import SEALING_KEY, objects_of, storage_of
from tests.support.whole_storages import NOON, config_of, everything, fill


def record_of(key):
    return ConversationMetadata(conversation_id=key, created_at=NOON)


async def test_everything_in_a_bucket_is_read_beside_the_process_that_holds_the_lease(tmp_path):
    config = storage_of(tmp_path)
    async with open_stores(config) as stores:
        await fill(stores)
        expected = await everything(stores)
        async with open_to_read(config) as reader:
            await write_archive(tmp_path / "backup", archive_of(reader))
        await stores.storage.conversations.for_user(None).save_metadata(record_of("later"))
    async with open_stores(config_of("sqlite", tmp_path / "new", SEALING_KEY)) as new:
        work = Restore(tmp_path / "backup", new)
        assert {one.result async for one in work.outcomes()} == {Result.COPIED}
        assert await everything(new) == expected


async def test_a_log_is_read_on_while_its_events_are_moved_into_pages(tmp_path):
    async with open_stores(storage_of(tmp_path)) as stores:
        assert isinstance(stores.events, FileEventStore)
        await stores.storage.conversations.for_user(None).save_metadata(record_of("c"))
        await append(stores.events, "c", records(0, 90))
        async with open_to_read(storage_of(tmp_path)) as reader:
            assert (await reader.events.head("c")).next_id == 90
            await append(stores.events, "c", records(90, 60))
            await stores.events.close()

            assert await reader.events.read("c", 0, 90) == records(0, 90)
            assert (await reader.events.head("c")).next_id == 150
            assert await reader.events.read("c", 0, 150) == records(0, 150)


async def test_a_log_that_is_deleted_meanwhile_reads_as_empty(tmp_path):
    async with open_stores(storage_of(tmp_path)) as stores:
        await stores.storage.conversations.for_user(None).save_metadata(record_of("c"))
        await stores.events.append_many("c", 0, records(0, 100), summary=NO_CHANGE)
        async with open_to_read(storage_of(tmp_path)) as reader:
            assert (await reader.events.head("c")).next_id == 100
            await stores.events.delete("c")

            assert await reader.events.read("c", 0, 100) == []
            assert (await reader.events.head("c")).deleted


async def test_what_is_read_beside_a_server_cannot_be_written(tmp_path):
    async with open_stores(storage_of(tmp_path)) as stores:
        await fill(stores, conversations=2)
        expected = await everything(stores)
        async with open_to_read(storage_of(tmp_path)) as reader:
            with pytest.raises(AppendFailed, match="to be read only"):
                await append(reader.events, "c0000", records(232, 1))
            with pytest.raises(MediumLost):
                await reader.storage.conversations.for_user("ann").save_metadata(record_of("new"))
        assert await everything(stores) == expected


async def test_a_bucket_without_data_is_refused_and_stays_empty(tmp_path):
    with pytest.raises(ForeignData):
        async with open_to_read(storage_of(tmp_path)):
            raise AssertionError
    assert await objects_of(tmp_path).keys("") == []


class Settled(MemoryFileStore):
    """Files of which another process settles a conversation between two looks at what there is."""

    other: FileConversationStores | None = None
    looks = 0

    async def keys(self, prefix="", *, after="", limit=None):
        if self.other is not None and prefix in (LISTS, UNSETTLED):
            self.looks += 1
            if self.looks == 2:
                await self.other.in_use.settle()
        return await super().keys(prefix, after=after, limit=limit)


async def test_a_conversation_that_is_listed_while_the_lists_are_opened_is_in_them():
    files = Settled()
    other = await FileConversationStores.open(files)
    await other.for_user("ann").save_metadata(record_of("c"))
    files.other = other

    opened = await FileConversationStores.open(files)

    assert await opened.for_user("ann").exists("c")


class Sealed(MemoryFileStore):
    """Files in which another process seals a log after its head was read and before its tail is."""

    seal: Callable[[], Awaitable[None]] | None = None

    def __init__(self, gone):
        super().__init__()
        self._gone = gone
        self._are_gone = asyncio.Event()
        self._are_read = asyncio.Event()

    async def keys(self, prefix="", *, after="", limit=None):
        if prefix != log_part("c", "tail/") or self.seal is None:
            return await super().keys(prefix, after=after, limit=limit)
        seal, self.seal = self.seal, None
        await seal()
        await self._are_gone.wait()
        return await super().keys(prefix, after=after, limit=limit)

    async def read(self, key):
        content = await super().read(key)
        if key == segment_key("c", 0):
            self._are_read.set()
        return content

    async def delete(self, *keys):
        if self._gone[0] in keys:
            await super().delete(*self._gone)
            self._are_gone.set()
            if {*keys} - {*self._gone}:
                await self._are_read.wait()
        await super().delete(*keys)


@pytest.mark.parametrize("first_ids", [(0, 60), (60,)])
async def test_a_log_that_is_moved_into_pages_while_its_tail_is_looked_for_is_whole(first_ids):
    files = Sealed([segment_key("c", one) for one in first_ids])
    written = await FileConversationStores.open(files)
    await written.for_user(None).save_metadata(record_of("c"))
    reader = FileEventReader(files, await FileConversationStores.open(files))
    store = FileEventStore(files, written)
    await append(store, "c", records(0, 60))
    files.seal = partial(append, store, "c", records(60, 40))

    assert (await reader.head("c")).next_id == 100
    assert await reader.read("c", 0, 100) == records(0, 100)
    await store.close()


class Overtaken(FileWorkspaces):
    """Workspaces of which one is replaced between the manifest and the blobs."""

    overtake: Callable[[], Awaitable[None]] | None = None

    async def read_blobs(self, conversation_id, names):
        overtake, self.overtake = self.overtake, None
        if overtake is not None:
            await overtake()
        return await super().read_blobs(conversation_id, names)


async def test_a_workspace_that_is_replaced_while_it_is_read_is_read_whole(tmp_path, caplog):
    old, new = Snapshot(files={"a": b"old"}), Snapshot(files={"a": b"new", "b": b"2"})
    async with open_stores(storage_of(tmp_path)) as stores:
        await stores.storage.conversations.for_user(None).save_metadata(record_of("c"))
        await append(stores.events, "c", records(0, 1))
        await stores.workspaces.save("c", old)
        async with open_to_read(storage_of(tmp_path)) as reader:
            storage, events = reader.storage, reader.events
            assert isinstance(storage, OpenedFiles)
            assert isinstance(events, FileEventStore)
            overtaken = Overtaken(storage.files, events.beside, storage.folded.writing, storage.key)
            overtaken.overtake = lambda: stores.workspaces.save("c", new)

            loaded = await overtaken.load("c")

    assert loaded is not None
    assert (loaded.snapshot.files, loaded.lost) == (new.files, ())
    assert "damaged" not in caplog.text
