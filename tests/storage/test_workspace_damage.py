"""Damaged workspaces are reported, left out, and found by the check of a storage."""

import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime

import pytest

from events.conformance.records import append, records
from events.stores.opening import open_event_store, open_workspaces, storage_problems
from storage.errors import Damaged, NewerFormat, WrongKey
from storage.files.format import with_checksum
from storage.opening import open_storage
from storage.sealing.cipher import Cipher, new_key
from storage.sealing.key import KEY_NAME
from storage.workspaces.manifest import (
    BLOB_BYTES,
    Contents,
    Loaded,
    digest_of,
    next_manifest,
)
from storage.workspaces.sealing import KIND, PREFIX, SEALED, UNSEALED, SealedForm
from storage.workspaces.snapshot import USUAL_LIMITS, Snapshot, WorkspaceLimits
from tests.support.crashing import config_of

SNAPSHOT = Snapshot(files={"a": b"aaaa", "b": b"b" * BLOB_BYTES})
KINDS = ["sqlite", "local"]
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


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

    def unsealed(self, snapshot):
        """Replace what is kept by a snapshot as earlier versions kept it."""
        contents = Contents.of(snapshot, USUAL_LIMITS, digest_of)
        change = next_manifest(contents, snapshot.folders, NOON, None, frozenset(), digest_of)
        assert change is not None
        self.manifest(with_checksum(KIND, change.manifest.encode(), UNSEALED))
        for name in self.blobs():
            self.drop(name)
        for blob in change.blobs:
            self.put(blob.name, b"".join(blob.parts))

    def blobs(self):
        if self.kind == "sqlite":
            with closing(sqlite3.connect(self.database)) as connection:
                return [name for (name,) in connection.execute("SELECT name FROM workspace_blobs")]
        return [path.name for path in (self.files / "blobs").iterdir()]

    def put(self, name, body):
        if self.kind == "sqlite":
            put = "INSERT INTO workspace_blobs SELECT conversation, ?, ? FROM workspaces"
            self.change(put, name, body)
        else:
            (self.files / "blobs" / name).write_bytes(body)

    def drop(self, name):
        if self.kind == "sqlite":
            self.change("DELETE FROM workspace_blobs WHERE name = ?", name)
        else:
            (self.files / "blobs" / name).unlink()

    def large_blob(self, content):
        if self.kind == "sqlite":
            self.change(
                "UPDATE workspace_blobs SET body = ? WHERE length(body) >= ?", content, BLOB_BYTES
            )
        else:
            self._large().write_bytes(content)

    def lose_large_blob(self):
        if self.kind == "sqlite":
            self.change("DELETE FROM workspace_blobs WHERE length(body) >= ?", BLOB_BYTES)
        else:
            self._large().unlink()

    def problems(self):
        return storage_problems(self.config)

    def _large(self):
        blobs = (self.files / "blobs").iterdir()
        return next(path for path in blobs if path.stat().st_size >= BLOB_BYTES)


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
    newer = with_checksum(KIND, b"what a newer version knows", SEALED + 1)
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
    tampering.put(name, body)
    assert tampering.problems() == []

    async with opened(tampering.kind, tmp_path) as (_, store):
        await store.save("c", SNAPSHOT)
        assert name not in (await store.find("c")).blobs
        assert await store.load("c") == Loaded(SNAPSHOT)


@pytest.mark.parametrize("kept", [SNAPSHOT, Snapshot(folders=frozenset({"x"}))])
async def test_what_an_earlier_version_kept_unsealed_is_read_and_sealed_by_the_next_save(
    tampering, tmp_path, kept
):
    tampering.unsealed(kept)
    assert tampering.problems() == []

    async with opened(tampering.kind, tmp_path) as (_, store):
        assert await store.load("c") == Loaded(kept)
        for path, content in kept.files.items():
            assert await store.read("c", path) == content
        assert (await store.kept("c")).kept_at == NOON
        await store.save("c", kept)
        assert await store.load("c") == Loaded(kept)
        assert (await store.kept("c")).kept_at > NOON
    assert all(name.startswith(PREFIX) for name in tampering.blobs())
    assert tampering.problems() == []


async def test_a_damaged_file_of_what_was_kept_unsealed_is_found_and_named(tampering, tmp_path):
    tampering.unsealed(SNAPSHOT)
    tampering.large_blob(b"b" * (BLOB_BYTES - 1) + b"x")
    (problem,) = tampering.problems()
    assert problem.startswith("a blob of the workspace of c is damaged")

    async with opened(tampering.kind, tmp_path) as (_, store):
        loaded = await store.load("c")
        assert (dict(loaded.snapshot.files), loaded.lost) == ({"a": b"aaaa"}, ("b",))


async def test_what_was_sealed_with_another_key_is_neither_opened_nor_overwritten(
    tampering, tmp_path
):
    other = SealedForm(Cipher(new_key()), "c")
    contents = Contents.of(SNAPSHOT, USUAL_LIMITS, other.name_of)
    change = next_manifest(contents, frozenset(), NOON, None, frozenset(), other.blob_name)
    assert change is not None
    tampering.manifest(other.sealed_manifest(change.manifest))
    for blob in change.blobs:
        tampering.put(blob.name, other.sealed_blob(blob))
    before = sorted(tampering.blobs())

    async with opened(tampering.kind, tmp_path) as (_, store):
        for call in (
            store.load("c"),
            store.kept("c"),
            store.read("c", "a"),
            store.save("c", SNAPSHOT),
        ):
            with pytest.raises(WrongKey, match="the workspace of c was sealed with another key"):
                await call
    assert sorted(tampering.blobs()) == before


async def test_a_storage_whose_key_is_gone_is_not_opened_once_a_workspace_is_sealed_in_it(
    tampering, tmp_path
):
    (tmp_path / KEY_NAME).unlink()

    with pytest.raises(WrongKey):
        async with opened(tampering.kind, tmp_path):
            raise AssertionError("it was opened")
    (problem,) = tampering.problems()
    assert "the key of the stored secrets is missing" in problem


async def test_a_blob_whose_name_is_no_text_keeps_no_workspace_from_being_saved(tmp_path):
    tampering = Tampering("sqlite", tmp_path)
    async with opened("sqlite", tmp_path) as (events, store):
        await append(events, "c", records(0, 1))
        await store.save("c", SNAPSHOT)
    tampering.change(
        "UPDATE workspace_blobs SET name = CAST(X'ff' AS TEXT)"
        " WHERE name = (SELECT max(name) FROM workspace_blobs)"
    )

    found = storage_problems(tampering.config)
    async with opened("sqlite", tmp_path) as (_, store):
        await store.save("c", SNAPSHOT)
        assert await store.load("c") == Loaded(SNAPSHOT)

    assert found[0] == "the workspace of c lacks 1 of its blobs"
