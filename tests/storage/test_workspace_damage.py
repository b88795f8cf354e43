"""Damaged workspaces are reported, left out, and found by the check of a storage."""

import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, closing

import pytest

from events.conformance.records import append, records
from events.stores.opening import open_event_store, open_workspaces, storage_problems
from storage.errors import Damaged, NewerFormat
from storage.files.format import with_checksum
from storage.opening import open_storage
from storage.workspaces.manifest import BLOB_BYTES, KIND, Loaded, digest_of
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits
from tests.support.crashing import config_of

SNAPSHOT = Snapshot(files={"a": b"aaaa", "b": b"b" * BLOB_BYTES})
KINDS = ["sqlite", "local"]


@asynccontextmanager
async def opened(kind, folder):
    async with open_storage(config_of(kind, folder)) as storage, AsyncExitStack() as stack:
        events = await open_event_store(storage, stack)
        yield events, open_workspaces(storage, events, WorkspaceLimits())


class Tampering:
    """Changes what a closed storage has of the workspace of `c`."""

    def __init__(self, kind, folder):
        self.kind = kind
        self.config = config_of(kind, folder)
        self.database = folder / "parley.sqlite3"
        self.files = folder / "files" / "logs" / "c" / "workspace"

    def change(self, statement, *parameters):
        with closing(sqlite3.connect(self.database)) as connection, connection:
            assert connection.execute(statement, parameters).rowcount == 1

    def manifest(self, content):
        if self.kind == "sqlite":
            self.change("UPDATE workspaces SET manifest = ?", content)
        else:
            (self.files / "manifest").write_bytes(content)

    def large_blob(self, content):
        if self.kind == "sqlite":
            self.change(
                "UPDATE workspace_blobs SET body = ? WHERE length(body) = ?", content, BLOB_BYTES
            )
        else:
            self._large().write_bytes(content)

    def lose_large_blob(self):
        if self.kind == "sqlite":
            self.change("DELETE FROM workspace_blobs WHERE length(body) = ?", BLOB_BYTES)
        else:
            self._large().unlink()

    def problems(self):
        return storage_problems(self.config)

    def _large(self):
        blobs = (self.files / "blobs").iterdir()
        return next(path for path in blobs if path.stat().st_size == BLOB_BYTES)


@pytest.fixture(params=KINDS)
async def tampering(request, tmp_path):
    async with opened(request.param, tmp_path) as (events, store):
        await append(events, "c", records(0, 1))
        await store.save("c", SNAPSHOT)
    found = Tampering(request.param, tmp_path)
    assert found.problems() == []
    return found


async def test_a_damaged_file_is_left_out_named_and_found_by_the_check(tampering, tmp_path, caplog):
    tampering.large_blob(b"b" * (BLOB_BYTES - 1) + b"x")
    (problem,) = tampering.problems()
    assert problem.startswith("a blob of the workspace of c is damaged")

    async with opened(tampering.kind, tmp_path) as (_, store):
        loaded = await store.load("c")
        assert (dict(loaded.snapshot.files), loaded.lost) == ({"a": b"aaaa"}, ("b",))
        assert "1 file(s) of the workspace of c are damaged" in caplog.text
        assert await store.read("c", "a") == b"aaaa"
        with pytest.raises(Damaged):
            await store.read("c", "b")
        await store.save("c", Snapshot(files={"a": b"aaaa"}))
        assert await store.load("c") == Loaded(Snapshot(files={"a": b"aaaa"}))
    assert tampering.problems() == []


async def test_a_file_whose_blob_is_missing_is_written_anew_by_the_next_save(tampering, tmp_path):
    tampering.lose_large_blob()
    assert tampering.problems() == ["the workspace of c lacks 1 of its blobs"]

    async with opened(tampering.kind, tmp_path) as (_, store):
        assert (await store.load("c")).lost == ("b",)
        await store.save("c", SNAPSHOT)
        assert await store.load("c") == Loaded(SNAPSHOT)
    assert tampering.problems() == []


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, with_checksum(KIND, b"{}")])
async def test_a_damaged_manifest_is_told_and_replaced_by_the_next_save(
    tampering, tmp_path, content
):
    tampering.manifest(content)
    (problem,) = tampering.problems()
    assert "the workspace of c" in problem

    async with opened(tampering.kind, tmp_path) as (_, store):
        for call in (store.load("c"), store.kept("c"), store.read("c", "a")):
            with pytest.raises(Damaged):
                await call
        await store.save("c", SNAPSHOT)
        assert await store.load("c") == Loaded(SNAPSHOT)
    assert tampering.problems() == []


async def test_a_workspace_of_a_newer_version_is_not_overwritten(tampering, tmp_path):
    newer = with_checksum(KIND, b"what a newer version knows", 2)
    tampering.manifest(newer)

    async with opened(tampering.kind, tmp_path) as (_, store):
        with pytest.raises(NewerFormat):
            await store.load("c")
        with pytest.raises(NewerFormat):
            await store.save("c", SNAPSHOT)
    assert any("newer version" in problem for problem in tampering.problems())


async def test_leftovers_of_a_save_are_no_problem_and_go_with_the_next(tampering, tmp_path):
    body = b"left over"
    name = digest_of([body])
    if tampering.kind == "sqlite":
        leave = "INSERT INTO workspace_blobs SELECT conversation, ?, ? FROM workspaces"
        tampering.change(leave, name, body)
    else:
        (tampering.files / "blobs" / name).write_bytes(body)
    assert tampering.problems() == []

    async with opened(tampering.kind, tmp_path) as (_, store):
        await store.save("c", SNAPSHOT)
        assert name not in (await store.find("c")).blobs
        assert await store.load("c") == Loaded(SNAPSHOT)
