"""The conformance suite of a WorkspaceStore, as tests of pytest and pytest-asyncio."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from storage.errors import (
    ConversationDeleted,
    ConversationNotFound,
    KeyNotFound,
    WorkspaceTooLarge,
)
from storage.workspaces.base import WorkspaceStore
from storage.workspaces.manifest import BLOB_BYTES, Loaded
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits

LIMITS = WorkspaceLimits(max_bytes=8 * BLOB_BYTES, max_entries=50)
MIXED = Snapshot(
    files={
        "notes.txt": b"Water the plants\n",
        "src/main.py": b"print(1)\n",
        "empty": b"",
        "src/\N{SNOWMAN} and spaces/Räksmörgås": bytes(range(256)),
        "no unicode \udcff": b"\xff\x00",
        "same": b"Water the plants\n",
    },
    folders=frozenset({"build", "src/deep/er"}),
    own={"state": b"{}", "objects/0": b"Water the plants\n"},
)
LONG = bytes(range(256)) * (BLOB_BYTES // 256 * 2) + b"the rest"
"""Two whole blobs, and some more."""


class OpenedWorkspaces(NamedTuple):
    """A store of workspaces, and the logs beside it."""

    store: WorkspaceStore
    begin: Callable[[str], Awaitable[None]]
    """Gives a conversation a log."""
    bury: Callable[[str], Awaitable[None]]
    """Deletes a conversation's log."""


class _Suite:
    pytestmark = pytest.mark.asyncio

    def open(
        self, folder: Path, limits: WorkspaceLimits
    ) -> AbstractAsyncContextManager[OpenedWorkspaces]:
        """Yield the store under test over the medium in `folder`, closed with the block.

        A folder that was never used is empty; what outlasts the process is found in it again.
        """
        raise NotImplementedError


class WorkspaceStoreSuite(_Suite):
    """The contract of a WorkspaceStore; a subclass says how one is opened."""

    @pytest_asyncio.fixture
    async def opened(self, tmp_path):
        async with self.open(tmp_path, LIMITS) as opened:
            await opened.begin("c")
            yield opened

    @pytest.fixture
    def store(self, opened):
        return opened.store

    @pytest.mark.parametrize("conversation_id", ["c", "unknown"])
    async def test_nothing_is_kept_before_something_was_saved(self, store, conversation_id):
        assert await store.load(conversation_id) is None
        assert await store.kept(conversation_id) is None
        with pytest.raises(KeyNotFound):
            await store.read(conversation_id, "a")

    @pytest.mark.parametrize(
        "snapshot",
        [
            Snapshot(),
            MIXED,
            Snapshot(files={"long": LONG, "longer": LONG + b"!", "short": b"x"}),
            Snapshot(files={f"{number}": b"%d" % number for number in range(50)}),
        ],
        ids=["empty", "mixed", "long", "many"],
    )
    async def test_a_workspace_comes_back_as_it_was_saved(self, store, snapshot):
        await store.save("c", snapshot)

        assert await store.load("c") == Loaded(snapshot)
        for path, content in snapshot.files.items():
            assert await store.read("c", path) == content

    async def test_what_is_kept_is_told_with_sizes_and_without_the_runtimes_own(self, store):
        await store.save("c", MIXED)

        kept = await store.kept("c")

        assert kept.files == {path: len(content) for path, content in MIXED.files.items()}
        assert kept.folders == MIXED.folders
        for name in ("state", "build", "src", "nothing"):
            with pytest.raises(KeyNotFound):
                await store.read("c", name)

    async def test_saving_replaces_the_whole_workspace(self, store):
        await store.save("c", MIXED)
        later = Snapshot(files={"notes.txt": b"Done\n", "long": LONG}, folders=frozenset({"new"}))
        await store.save("c", later)

        assert await store.load("c") == Loaded(later)

    async def test_a_long_history_of_changes_ends_with_the_last(self, store):
        files = {"long": LONG}
        for number in range(60):
            files[f"f{number % 40}"] = b"%d" % number * 50
            files["long"] += b"another line\n"
            if number % 7 == 0:
                del files[f"f{number % 40}"]
            await store.save("c", Snapshot(files=dict(files)))

        assert await store.load("c") == Loaded(Snapshot(files=files))

    async def test_saving_the_same_again_changes_nothing(self, store):
        await store.save("c", MIXED)
        before = await store.kept("c")

        await store.save("c", MIXED)

        assert await store.kept("c") == before

    async def test_a_change_of_the_given_mappings_changes_nothing_that_is_kept(self, store):
        files, own = {"a": b"1"}, {"state": b"1"}
        await store.save("c", Snapshot(files=files, own=own))
        files["b"] = b"2"
        del own["state"]

        kept = Snapshot(files={"a": b"1"}, own={"state": b"1"})
        assert await store.load("c") == Loaded(kept)

    async def test_conversations_are_kept_apart(self, opened):
        store = opened.store
        names = ("d", "C", "c.c", "c-c")
        for name in names:
            await opened.begin(name)
            await store.save(name, Snapshot(files={"a": name.encode(), "same": b"same"}))
        await store.delete("d")

        assert await store.load("d") is None
        for name in names[1:]:
            assert await store.read(name, "a") == name.encode()
            assert await store.read(name, "same") == b"same"

    @pytest.mark.parametrize(
        ("snapshot", "words"),
        [
            (
                Snapshot(files={str(number): b"" for number in range(51)}),
                "it has more than 50 files and folders (51)",
            ),
            (
                Snapshot(
                    files={str(number): b"" for number in range(25)},
                    folders=frozenset(f"folder {number}" for number in range(25)),
                    own={"state": b""},
                ),
                "it has more than 50 files and folders (51)",
            ),
            (
                Snapshot(files={"a": bytes(LIMITS.max_bytes)}),
                f"it has more than {LIMITS.max_bytes} bytes ({LIMITS.max_bytes + 1})",
            ),
            (
                Snapshot(files={"a": b"x"}, own={"b": bytes(LIMITS.max_bytes)}),
                f"it has more than {LIMITS.max_bytes} bytes ({LIMITS.max_bytes + 3})",
            ),
        ],
        ids=["files", "entries", "bytes", "own bytes"],
    )
    async def test_a_workspace_that_is_too_large_is_refused_in_words_and_the_earlier_one_stays(
        self, store, snapshot, words
    ):
        await store.save("c", MIXED)

        with pytest.raises(WorkspaceTooLarge) as refusal:
            await store.save("c", snapshot)

        assert str(refusal.value) == words
        assert await store.load("c") == Loaded(MIXED)

    async def test_a_workspace_as_large_as_may_be_is_kept(self, store):
        contents = bytes(LIMITS.max_bytes - 50)
        full = Snapshot(files={chr(ord("0") + number): contents for number in range(50)})

        await store.save("c", full)

        assert await store.load("c") == Loaded(full)

    async def test_without_a_log_nothing_is_kept(self, store):
        with pytest.raises(ConversationNotFound):
            await store.save("unknown", MIXED)

        assert await store.load("unknown") is None

    async def test_of_a_deleted_conversation_nothing_is_kept_any_more(self, opened):
        store = opened.store
        await store.save("c", MIXED)
        await opened.bury("c")

        assert await store.load("c") is None
        assert await store.kept("c") is None
        with pytest.raises(KeyNotFound):
            await store.read("c", "notes.txt")
        with pytest.raises(ConversationDeleted):
            await store.save("c", MIXED)
        await store.delete("c")
        assert await store.load("c") is None

    @pytest.mark.parametrize("steps", [1, 4, 16, 64, 256])
    async def test_a_save_that_a_deletion_overtakes_leaves_nothing(self, opened, steps):
        store = opened.store
        files = {letter: letter.encode() * BLOB_BYTES for letter in "abcdefg"}
        saving = asyncio.create_task(store.save("c", Snapshot(files=files)))
        for _ in range(steps):
            await asyncio.sleep(0)
        await opened.bury("c")
        await store.delete("c")
        await asyncio.wait([saving])

        assert saving.exception() is None or isinstance(saving.exception(), ConversationDeleted)
        assert await store.load("c") is None

    async def test_what_was_dropped_can_be_saved_again(self, store):
        await store.save("c", MIXED)
        await store.delete("c")
        await store.delete("c")
        assert await store.load("c") is None

        await store.save("c", MIXED)
        assert await store.load("c") == Loaded(MIXED)

    async def test_saves_at_one_time_leave_one_of_them_whole(self, store):
        snapshots = [
            Snapshot(files={f"{name}{number}": b"%d" % number for name in "abc"})
            for number in range(8)
        ]
        await asyncio.gather(*(store.save("c", snapshot) for snapshot in snapshots))

        loaded = await store.load("c")
        assert loaded.snapshot in snapshots

    async def test_who_reads_while_others_save_reads_a_whole_workspace(self, store):
        snapshots = [
            Snapshot(files={"a": b"%d" % number, "b": b"%d" % number * 100_000})
            for number in range(10)
        ]
        await store.save("c", snapshots[0])

        async def save() -> None:
            for snapshot in snapshots:
                await store.save("c", snapshot)

        async def load() -> list[Loaded]:
            return [await store.load("c") for _ in range(15)]

        _, found = await asyncio.gather(save(), load())

        assert all(loaded.snapshot in snapshots for loaded in found)
        assert not any(loaded.lost for loaded in found)

    @pytest.mark.parametrize("steps", [0, 1, 2, 4, 8, 16])
    async def test_a_save_that_is_cancelled_leaves_the_earlier_workspace_or_the_new_one(
        self, store, steps
    ):
        new = Snapshot(files={"long": LONG, "notes.txt": b"new"})
        await store.save("c", MIXED)

        saving = asyncio.create_task(store.save("c", new))
        for _ in range(steps):
            await asyncio.sleep(0)
        saving.cancel()
        await asyncio.wait([saving])

        assert await store.load("c") in (Loaded(MIXED), Loaded(new))
        await store.save("c", MIXED)
        assert await store.load("c") == Loaded(MIXED)


def _bytes_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


class WorkspaceStoreRestartSuite(_Suite):
    """The contract of a WorkspaceStore that outlasts the process."""

    async def test_workspaces_outlast_the_process(self, tmp_path):
        long = Snapshot(files={"long": LONG, "a": b"1"})
        async with self.open(tmp_path, LIMITS) as opened:
            for name, snapshot in {"c": MIXED, "d": long, "gone": MIXED, "dropped": MIXED}.items():
                await opened.begin(name)
                await opened.store.save(name, snapshot)
            await opened.bury("gone")
            await opened.store.delete("dropped")

        async with self.open(tmp_path, LIMITS) as opened:
            store = opened.store
            assert await store.load("c") == Loaded(MIXED)
            assert await store.load("d") == Loaded(long)
            assert await store.load("gone") is None
            assert await store.load("dropped") is None
            await store.save("c", long)
            assert await store.load("c") == Loaded(long)

    async def held_bytes(self, folder: Path) -> bytes:
        """All that the medium holds; this default is for one that lies in `folder`."""
        return _bytes_in(folder)

    async def test_nothing_of_a_workspace_can_be_read_in_the_medium_without_its_key(self, tmp_path):
        planted = b"a planted value", b"a planted path", b"a planted folder", b"a planted record"
        value, path, empty, record = planted
        snapshot = Snapshot(
            files={path.decode(): value, "long": value + LONG},
            folders=frozenset({empty.decode()}),
            own={record.decode(): value},
        )
        async with self.open(tmp_path, LIMITS) as opened:
            await opened.begin("c")
            await opened.store.save("c", snapshot)
            await opened.store.save("c", Snapshot(files={"another": value}))
            await opened.store.save("c", snapshot)
            found = await self.held_bytes(tmp_path)
            assert await opened.store.load("c") == Loaded(snapshot)

        assert len(found) > len(LONG)
        assert not any(one in found for one in planted)

    async def test_a_workspace_that_was_kept_under_other_limits_can_be_read(self, tmp_path):
        async with self.open(tmp_path, LIMITS) as opened:
            await opened.begin("c")
            await opened.store.save("c", MIXED)

        async with self.open(tmp_path, WorkspaceLimits(1, 1)) as opened:
            assert await opened.store.load("c") == Loaded(MIXED)
            with pytest.raises(WorkspaceTooLarge):
                await opened.store.save("c", MIXED)
            assert await opened.store.load("c") == Loaded(MIXED)
