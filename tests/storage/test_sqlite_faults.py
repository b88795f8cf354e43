"""The SQLite writer on a disk that fails."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from events.conformance.records import append, records
from events.errors import (
    AppendConflict,
    AppendFailed,
    AppendUnknown,
    ConversationDeleted,
    StoreFull,
)
from events.stores.database.store import PLACE_COUNT, DatabaseEventStore
from storage.database.sqlite import SqliteDatabase
from storage.errors import Unavailable
from tests.support.faulty_sqlite import Faults


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
async def database(tmp_path, faults):
    opened = await SqliteDatabase.open(tmp_path / "parley.db", faults.connect)
    yield opened
    await opened.close()


@pytest.fixture
def store(database):
    return DatabaseEventStore(database)


async def append_to_many(store, count=5):
    return await asyncio.gather(
        *(append(store, f"c{number}", records(0, 3)) for number in range(count)),
        return_exceptions=True,
    )


async def test_a_batch_that_fails_in_a_group_leaves_ids_dense_and_its_neighbours_committed(
    store, faults
):
    faults.before = ["INSERT INTO conversations"]

    outcomes = await append_to_many(store)

    assert [type(one) for one in outcomes] == [AppendFailed, *[type(None)] * 4]
    assert (await store.head("c0")).next_id == 0
    await append(store, "c0", records(0, 2))
    for number in range(5):
        events = await store.read(f"c{number}", 0, 10)
        assert [event.id for event in events] == list(range(3 if number else 2))


async def test_a_commit_that_fails_leaves_all_its_appends_unknown_and_none_written(store, faults):
    faults.before = ["COMMIT", "COMMIT"]

    outcomes = await append_to_many(store)

    unknown = [one for one in outcomes if one is not None]
    assert unknown
    assert {type(one) for one in unknown} == {AppendUnknown}
    for number, outcome in enumerate(outcomes):
        assert (await store.head(f"c{number}")).next_id == (3 if outcome is None else 0)


async def test_a_commit_that_lands_and_then_fails_is_unknown_too(store, faults):
    faults.after = ["COMMIT"]

    with pytest.raises(AppendUnknown):
        await append(store, "c", records(0, 3))

    assert await store.read("c", 0, 9) == records(0, 3)


async def test_the_writer_goes_on_after_a_failed_commit(store, faults):
    faults.before = ["COMMIT"]
    with pytest.raises(AppendUnknown):
        await append(store, "c", records(0, 3))

    await append(store, "c", records(0, 2))

    assert await store.read("c", 0, 9) == records(0, 2)


@pytest.mark.parametrize("words", ["BEGIN", "SAVEPOINT", "ROLLBACK TO", "RELEASE"])
async def test_whatever_fails_before_the_commit_nothing_is_written_and_the_writer_goes_on(
    store, faults, words
):
    faults.before = [words]
    if words == "ROLLBACK TO":
        faults.before.append("UPDATE conversations")

    with pytest.raises(AppendFailed):
        await append(store, "c", records(0, 1, "lost"))

    await append(store, "c", records(0, 2))
    assert await store.read("c", 0, 9) == records(0, 2)


@pytest.mark.parametrize(
    "failing",
    [["INSERT INTO appends", "BEGIN"], ["INSERT INTO appends", "SAVEPOINT"]],
    ids=" and ".join,
)
async def test_the_same_holds_for_appends_that_go_as_rows(store, faults, failing):
    await append(store, "c", records(0, 1))
    faults.before = list(failing)

    with pytest.raises(AppendFailed):
        await append(store, "c", records(1, 1, "lost"))

    await append(store, "c", records(1, 2))
    assert await store.read("c", 0, 9) == records(0, 3)


async def test_rows_that_fail_for_no_lasting_reason_are_written_by_their_script(store, faults):
    await append(store, "c", records(0, 1))
    faults.before = ["INSERT INTO appends"]
    begun = faults.count("SAVEPOINT")

    await append(store, "c", records(1, 2))

    assert faults.count("SAVEPOINT") == begun + 1
    assert await store.read("c", 0, 9) == records(0, 3)


async def test_rows_that_were_committed_though_their_statement_failed_are_found_by_the_reader(
    store, faults
):
    await append(store, "c", records(0, 1))
    faults.after = ["INSERT INTO appends"]

    with pytest.raises(AppendConflict):
        await append(store, "c", records(1, 2))

    assert (await store.head("c")).next_id == 3
    assert await store.read("c", 0, 3) == records(0, 3)


async def test_what_arrived_is_read_before_and_after_it_is_put_in_its_place(store):
    await append(store, "c", records(0, 3))
    again = DatabaseEventStore(store._database)

    assert await store.read("c", 1, 3) == await again.read("c", 1, 3) == records(1, 2)
    await store.place_arrivals()

    assert await store.read("c", 0, 3) == await again.read("c", 0, 3) == records(0, 3)


async def test_events_that_cannot_be_put_in_their_place_stay_readable_and_are_put_there_later(
    store, faults
):
    faults.before = ["INSERT INTO events"] * 2
    for first in range(0, 3 * PLACE_COUNT, 500):
        await append(store, "c", records(first, 500))
    events = await store.read("c", 0, 3 * PLACE_COUNT)

    assert [event.id for event in events] == list(range(3 * PLACE_COUNT))
    assert faults.before == []
    assert faults.count("INSERT INTO events") > 2


async def test_a_disk_that_comes_back_is_taken_up_again(store, faults):
    faults.before = ["COMMIT"]
    faults.refuses_connections = True
    with pytest.raises(AppendUnknown):
        await append(store, "c", records(0, 1))
    with pytest.raises(AppendFailed):
        await append(store, "c", records(0, 1))

    faults.refuses_connections = False
    with pytest.raises(AppendFailed):
        await append(store, "c", records(0, 1))
    await append(store, "c", records(0, 1))

    assert await store.read("c", 0, 9) == records(0, 1)


async def test_a_full_disk_fails_what_does_not_fit_and_keeps_what_is_there(tmp_path, faults):
    faults.pragmas = ["max_page_count=40"]
    database = await SqliteDatabase.open(tmp_path / "parley.db", faults.connect)
    store = DatabaseEventStore(database)
    try:
        await append(store, "c", records(0, 3))
        with pytest.raises(StoreFull, match="full"):
            await append(store, "c", records(3, 100, "x" * 10_000))

        await append(store, "c", records(3, 1))

        assert await store.read("c", 0, 999) == records(0, 4)
    finally:
        await database.close()


async def test_a_deletion_whose_commit_fails_is_unknown(store, faults):
    await append(store, "c", records(0, 3))
    faults.after = ["COMMIT"]

    with pytest.raises(AppendUnknown):
        await store.delete("c")

    assert (await store.head("c")).deleted


async def test_a_deletion_cut_short_is_finished_later(store, faults, tmp_path):
    await append(store, "c", records(0, 3))
    await append(store, "d", records(0, 3))
    await store.place_arrivals()
    await append(store, "c", records(3, 1))
    faults.before = ["DELETE FROM events"]
    with pytest.raises(AppendFailed):
        await store.delete("c")

    assert await store.finish_deletions() == 1
    assert await store.finish_deletions() == 0

    connection = sqlite3.connect(tmp_path / "parley.db")
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (3,)
    assert connection.execute("SELECT count(*) FROM arrivals").fetchone() == (0,)
    connection.close()
    with pytest.raises(ConversationDeleted):
        await append(store, "c", records(3, 1))


async def test_a_writer_that_is_locked_out_writes_nothing_and_goes_on_afterwards(
    store, faults, tmp_path
):
    faults.pragmas = ["busy_timeout=0"]
    faults.before = ["COMMIT"]
    with pytest.raises(AppendUnknown):
        await append(store, "c", records(0, 1))  # so that it connects anew
    with closing(sqlite3.connect(tmp_path / "parley.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(AppendFailed, match="locked"):
            await append(store, "c", records(0, 1))

    await append(store, "c", records(0, 1))


async def test_a_folder_that_is_missing_is_unavailable(tmp_path):
    with pytest.raises(Unavailable):
        await SqliteDatabase.open(tmp_path / "missing" / "parley.db")
