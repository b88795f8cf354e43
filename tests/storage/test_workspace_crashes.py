"""A crash at every single write of a save and of a deletion: the earlier workspace or the new one, whole."""

from collections import Counter
from contextlib import suppress
from itertools import count

import pytest

from events.conformance.records import append, records
from events.errors import EventsError
from storage.errors import StorageError
from storage.workspaces.manifest import BLOB_BYTES, Loaded
from storage.workspaces.snapshot import Snapshot
from tests.support.dying_files import Death
from tests.support.report import counted
from tests.support.workspace_worlds import world_of

KINDS = ["sqlite", "files", "local"]
LONG = bytes(range(256)) * (2 * BLOB_BYTES // 256)
BEFORE = Snapshot(files={"a": b"1", "b": LONG}, folders=frozenset({"x"}), own={"state": b"1"})
AFTER = Snapshot(files={"a": b"2", "c": LONG[::-1] + b"end"}, own={"state": b"2"})


async def with_workspace(kind, folder):
    folder.mkdir()
    world = world_of(kind, folder)
    await world.open()
    await append(world.events, "c", records(0, 1))
    await world.store.save("c", BEFORE)
    return world


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("death", Death)
async def test_a_crash_at_any_write_of_a_save_leaves_a_whole_workspace(
    kind, death, tmp_path, record_property
):
    figures: Counter[str] = Counter()
    for writes in count():
        world = await with_workspace(kind, tmp_path / str(writes))
        world.dying.die_after(writes, death)
        with suppress(StorageError):
            await world.store.save("c", AFTER)
        died = world.dying.dead
        await world.close()
        await world.open()

        loaded = await world.store.load("c")
        assert loaded in (Loaded(BEFORE), Loaded(AFTER))
        if not died:
            assert loaded == Loaded(AFTER)
        figures["crashes"] += died
        figures["after the manifest"] += died and loaded == Loaded(AFTER)
        await world.store.save("c", AFTER)
        assert await world.store.load("c") == Loaded(AFTER)
        await world.close()
        if not died:
            break

    record_property("figures", counted(figures))
    assert figures["crashes"] >= 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("death", Death)
async def test_a_crash_at_any_write_of_a_deletion_leaves_all_or_nothing(
    kind, death, tmp_path, record_property
):
    figures: Counter[str] = Counter()
    for writes in count():
        world = await with_workspace(kind, tmp_path / str(writes))
        world.dying.die_after(writes, death)
        with suppress(StorageError, EventsError):
            await world.events.delete("c")
            await world.store.delete("c")
        died = world.dying.dead
        await world.close()
        await world.open()

        deleted = (await world.events.head("c")).deleted
        if not died:
            assert deleted
        assert await world.store.load("c") == (None if deleted else Loaded(BEFORE))
        assert (await world.leftovers("c") == 0) == deleted
        figures["crashes"] += died
        figures["of deleted ones"] += died and deleted
        await world.close()
        if not died:
            break

    record_property("figures", counted(figures))
    assert figures["of deleted ones"] > 0
