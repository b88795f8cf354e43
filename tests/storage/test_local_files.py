"""The local file store and its folder: containment, flushes, the remains of crashes."""

import asyncio
import errno
import os
import resource
import stat
import threading
from contextlib import asynccontextmanager

import pytest

from storage.errors import Conflict, Damaged, KeyExists, KeyNotFound, OutcomeUnknown, Unavailable
from storage.files.folders import TEMPORARY
from storage.files.local import WORKERS, LocalFileStore


@asynccontextmanager
async def opened(root, **options):
    store = await LocalFileStore.open(root, **options)
    try:
        yield store
    finally:
        await store.close()


class Disk:
    """Flushes as asked: fails files or folders, or waits, and counts what it did."""

    def __init__(self):
        self.fails = lambda is_folder: False
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.flushed = []

    def flush(self, descriptor: int) -> None:
        self.reached.set()
        self.gate.wait(10)
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if self.fails(is_folder):
            raise OSError(errno.EIO, "Input/output error")
        self.flushed.append("folder" if is_folder else "file")
        os.fsync(descriptor)


async def test_files_are_there_after_reopening(tmp_path):
    async with opened(tmp_path / "root") as store:
        await store.create("a/b", b"1")
        await store.write("c", b"2")

    async with opened(tmp_path / "root") as store:
        assert [await store.read("a/b"), await store.read("c")] == [b"1", b"2"]


async def test_neither_files_nor_folders_are_open_to_others(tmp_path):
    async with opened(tmp_path / "root") as store:
        await store.create("a/b", b"1")

        modes = [stat.S_IMODE((tmp_path / "root" / name).stat().st_mode) for name in ("a", "a/b")]
        assert modes == [0o700, 0o600]


async def test_no_symbolic_link_leads_out_of_the_root(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"theirs")
    async with opened(tmp_path / "root") as store:
        (tmp_path / "root" / "folder").symlink_to(outside)
        (tmp_path / "root" / "file").symlink_to(outside / "file")

        with pytest.raises(KeyNotFound):
            await store.read("folder/file")
        with pytest.raises(Damaged):
            await store.read("file")
        for call in (store.create, store.write):
            with pytest.raises(Conflict):
                await call("folder/new", b"mine")
        with pytest.raises(KeyExists):
            await store.create("file", b"mine")
        await store.delete_tree("folder")
        await store.delete("folder/file")
        assert await store.keys() == []
        assert not await store.exists("file")
        await store.write("file", b"mine")

    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"theirs"


async def test_a_root_reached_by_a_link_is_fine(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    async with opened(tmp_path / "link") as store:
        await store.create("a", b"1")

    assert (tmp_path / "real" / "a").read_bytes() == b"1"


async def test_what_is_no_regular_file_cannot_be_read(tmp_path):
    async with opened(tmp_path / "root") as store:
        os.mkfifo(tmp_path / "root" / "pipe")

        with pytest.raises(Damaged):
            await store.read("pipe")


async def test_opening_removes_files_that_were_never_linked_and_nothing_else(tmp_path):
    async with opened(tmp_path / "root") as store:
        await store.create("a", b"1")
    left = tmp_path / "root" / TEMPORARY / "7"
    left.write_bytes(b"half")

    async with opened(tmp_path / "root") as store:
        assert await store.keys() == ["a"]
        await store.create("b", b"2")

    assert not left.exists()


async def test_a_root_that_cannot_be_used_is_unavailable(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(Unavailable):
        await LocalFileStore.open(tmp_path / "file")


async def test_a_write_is_flushed_with_its_name_and_the_names_of_new_folders(tmp_path):
    disk = Disk()
    async with opened(tmp_path / "root", flush=disk.flush) as store:
        disk.flushed.clear()
        await store.create("a/b/c", b"1")
        first = disk.flushed.copy()
        disk.flushed.clear()
        await store.create("a/b/d", b"1")
        await store.write("a/b/d", b"2")
        await store.delete("a/b/d")

    assert first == ["file", "folder", "folder", "folder"]
    assert disk.flushed == ["file", "folder", "file", "folder", "folder"]


async def test_a_file_that_cannot_be_flushed_is_not_written(tmp_path):
    disk = Disk()
    async with opened(tmp_path / "root", flush=disk.flush) as store:
        disk.fails = lambda is_folder: not is_folder
        for call in (store.create, store.write):
            with pytest.raises(Unavailable):
                await call("a", b"1")
        disk.fails = lambda is_folder: False

        assert not await store.exists("a")
        assert list((tmp_path / "root" / TEMPORARY).iterdir()) == []
        await store.create("a", b"2")


@pytest.mark.parametrize("call", ["create", "write"])
async def test_after_a_folder_that_cannot_be_flushed_nothing_is_known_until_reopening(
    tmp_path, call
):
    disk = Disk()
    async with opened(tmp_path / "root", flush=disk.flush) as store:
        await store.create("old", b"1")
        disk.fails = lambda is_folder: is_folder
        with pytest.raises(OutcomeUnknown):
            await getattr(store, call)("new", b"2")
        disk.fails = lambda is_folder: False
        for later in (store.create("other", b"3"), store.read("old"), store.keys()):
            with pytest.raises(Unavailable, match="must be reopened"):
                await later

    async with opened(tmp_path / "root") as store:
        assert await store.read("old") == b"1"


async def test_a_disk_that_does_not_answer_leaves_the_outcome_unknown_and_readers_without(tmp_path):
    disk = Disk()
    async with opened(tmp_path / "root", deadline_seconds=0.5, flush=disk.flush) as store:
        await store.create("old", b"1")
        disk.gate.clear()
        try:
            with pytest.raises(OutcomeUnknown):
                await store.create("new", b"2")
        finally:
            disk.gate.set()
    async with opened(tmp_path / "root") as store:
        assert await store.read("new") == b"2"


async def test_a_write_whose_caller_has_gone_is_waited_for_by_who_asks_for_its_key(tmp_path):
    disk = Disk()
    async with opened(tmp_path / "root", flush=disk.flush) as store:
        disk.gate.clear()
        writing = asyncio.ensure_future(store.write("a/b", b"1"))
        assert await asyncio.to_thread(disk.reached.wait, 10)
        writing.cancel()
        await asyncio.wait([writing])
        asking = [asyncio.ensure_future(call) for call in (store.read("a/b"), store.keys("a/"))]
        assert await store.keys("other/") == []
        disk.gate.set()

        assert await asyncio.gather(*asking) == [b"1", ["a/b"]]


async def test_a_write_beside_the_removal_of_its_folder_is_done(tmp_path):
    disk = Disk()
    async with opened(tmp_path / "root", flush=disk.flush) as store:
        await store.write("a/b/c", b"1")
        disk.reached.clear()
        open_gate, disk.gate = disk.gate, threading.Event()
        held = disk.gate
        removal = asyncio.create_task(store.delete_tree("a/b"))
        assert await asyncio.to_thread(disk.reached.wait, 10)
        # The folder is removed, and the one above it is not flushed yet.
        disk.gate = open_gate
        await store.write("a/b/d", b"2")
        held.set()
        await removal

        assert await store.keys("a/") == ["a/b/d"]
        assert await store.read("a/b/d") == b"2"


async def test_neighbours_written_together_are_each_flushed_and_share_flushes_of_their_folder(
    tmp_path,
):
    disk = Disk()
    files = {f"a/{number:02}": b"%d" % number for number in range(30)}
    async with opened(tmp_path / "root", flush=disk.flush) as store:
        await store.write("a/00", b"older")
        disk.flushed.clear()
        await store.write_all(files)
        await store.write_all({})

        assert disk.flushed.count("file") == 30
        assert 0 < disk.flushed.count("folder") <= WORKERS
        assert await store.read_all([*files]) == [*files.values()]
        assert [*(tmp_path / "root" / TEMPORARY).iterdir()] == []


async def test_neighbours_deleted_together_share_a_flush(tmp_path):
    disk = Disk()
    async with opened(tmp_path / "root", flush=disk.flush) as store:
        for key in ("a/1", "a/2", "a/3", "b/1"):
            await store.create(key, b"")
        disk.flushed.clear()

        await store.delete("a/1", "a/2", "a/never", "a/3", "b/1")

        assert await store.keys() == []
    assert disk.flushed == ["folder", "folder"]


async def test_a_call_that_found_no_thread_in_time_has_done_nothing(tmp_path):
    disk = Disk()
    async with opened(tmp_path / "root", deadline_seconds=0.5, flush=disk.flush) as store:
        disk.gate.clear()
        try:
            outcomes = await asyncio.gather(
                *(store.create(f"k{number}", b"") for number in range(12)), return_exceptions=True
            )
        finally:
            disk.gate.set()

    assert [type(one) for one in outcomes] == [OutcomeUnknown] * 8 + [Unavailable] * 4
    async with opened(tmp_path / "root") as store:
        assert await store.keys() == sorted(f"k{number}" for number in range(8))


def take_all(taken):
    """Open files until no more can be."""
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))


async def test_an_operation_waits_for_a_file_where_the_process_has_none_left(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with opened(tmp_path / "root") as store:
        await store.write("a/b", b"1")
        taken: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                take_all(taken)
            writing = asyncio.ensure_future(store.write("a/c", b"2"))
            reading = asyncio.ensure_future(store.read("a/b"))
            done, _ = await asyncio.wait([writing, reading], timeout=0.2)
            assert not done
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

        await writing
        assert [await reading, await store.read("a/c")] == [b"1", b"2"]
