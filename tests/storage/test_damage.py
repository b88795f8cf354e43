"""Damaged records are reported with their range and never dropped."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from events.actions import MessageAction
from events.batch import Appended, digest_of
from events.conformance.records import append, records
from events.damage import DAMAGED_ID
from events.errors import AppendFailed, ConversationDeleted, DamagedHead, DamagedRecord
from events.event import EventSource
from events.page_reader import PageReader
from events.stores.database.check import check_database_logs
from events.stores.database.store import DatabaseEventStore
from events.stream import EventStream
from storage.database.sqlite import SqliteDatabase
from tests.support.faulty_sqlite import Faults
from tests.support.streams import USER, message
from tests.support.waiting import WAIT_SECONDS

FLIP = (
    "UPDATE TABLE SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB)"
    " WHERE key & 4294967295 IN (3, 5)"
)

BODY = "UPDATE TABLE SET body = VALUE WHERE key & 4294967295 = 7"
BODY_OF_THE_NEXT = """
    UPDATE TABLE SET body = next.body FROM TABLE AS next
    WHERE TABLE.key & 4294967295 = 7 AND next.key = TABLE.key + 1
"""
ALL_OF_THE_NEXT = """
    UPDATE TABLE SET crc = next.crc, body = next.body FROM TABLE AS next
    WHERE TABLE.key & 4294967295 = 7 AND next.key = TABLE.key + 1
"""


@pytest.fixture(params=["events", "arrivals"], ids=["in place", "just arrived"])
def table(request):
    return request.param


@pytest.fixture
def change(tmp_path, table):
    """Write a log of ten events, then change it behind the store's back, then open it again."""
    path = tmp_path / "parley.db"

    async def fill():
        database = await SqliteDatabase.open(path)
        store = DatabaseEventStore(database)
        await append(store, "b", records(0, 2))
        await append(store, "c", records(0, 10))
        if table == "events":
            await store.place_arrivals()
        await database.close()

    async def change(statement):
        await fill()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            assert connection.execute(statement.replace("TABLE", table)).rowcount > 0
        database = await SqliteDatabase.open(path)
        opened.append(database)
        return DatabaseEventStore(database)

    opened: list[SqliteDatabase] = []
    yield change
    assert len(opened) == 1


@pytest.fixture
async def damaged(change):
    store = await change(FLIP)
    yield store
    await store._database.close()


async def test_a_changed_body_is_reported_with_the_range_that_is_damaged(damaged):
    with pytest.raises(DamagedRecord) as caught:
        await damaged.read("c", 0, 10)

    error = caught.value
    assert (error.conversation_id, error.first_id, error.last_id) == ("c", 3, 5)


async def test_what_lies_beside_a_damaged_record_can_be_read(damaged):
    assert await damaged.read("c", 0, 3) == records(0, 3)
    assert await damaged.read("c", 4, 5) == records(4, 1)
    assert await damaged.read("c", 6, 10) == records(6, 4)
    assert await damaged.read("b", 0, 2) == records(0, 2)


def count_of(table, connection):
    ((count,),) = connection.execute("SELECT count(*) FROM TABLE".replace("TABLE", table))
    return count


async def test_a_damaged_record_stays_where_it_is(damaged, tmp_path):
    for _ in range(2):
        outcome = await asyncio.gather(damaged.read("c", 3, 4), return_exceptions=True)
        assert isinstance(outcome[0], DamagedRecord)
    await append(damaged, "c", records(10, 1))

    with closing(sqlite3.connect(tmp_path / "parley.db")) as connection:
        assert count_of("events", connection) + count_of("arrivals", connection) == 13
    assert (await damaged.head("c")).next_id == 11


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE TABLE SET crc = crc + 1 WHERE key & 4294967295 = 7",
        "UPDATE TABLE SET version = 2 WHERE key & 4294967295 = 7",
        BODY_OF_THE_NEXT,
        ALL_OF_THE_NEXT,
    ],
    ids=["checksum", "unknown format version", "body of another", "whole record of another"],
)
async def test_every_kind_of_damage_is_told(change, statement):
    store = await change(statement)

    with pytest.raises(DamagedRecord, match="damaged records 7-7"):
        await store.read("c", 0, 10)
    await store._database.close()


@pytest.mark.parametrize("value", ["5", "0.5", "'text'", "zeroblob(0)"])
async def test_a_marker_stands_for_a_body_of_another_type(change, value):
    store = await change(BODY.replace("VALUE", value))
    reader = PageReader(store, page_size=20, cache_bytes=100_000)

    page = await reader.read("c", 0, 10)

    assert [event.id for event in page] == list(range(10))
    assert [DAMAGED_ID.encode() in event.body for event in page] == [n == 7 for n in range(10)]
    await store._database.close()


HEAD = "UPDATE conversations SET next_id = {} WHERE conversation_id = 'c'"


@pytest.fixture
async def beheaded(change, table):
    """A store in which the head of `c`, a log of ten events, says that it ends at another id."""
    opened = []

    async def behead(next_id):
        opened.append(await change(HEAD.format(next_id)))
        return opened[0]

    yield behead
    await opened[0]._database.close()


@pytest.mark.parametrize("next_id", [0, 4, 9, 11, 2**31])
async def test_a_head_that_disagrees_with_its_log_is_told_and_no_id_is_given_twice(
    beheaded, next_id
):
    store = await beheaded(next_id)
    await store.place_arrivals()

    with pytest.raises(DamagedHead) as caught:
        await store.head("c")

    ends = sorted((next_id, 10))
    assert (caught.value.first_id, caught.value.last_id) == (ends[0], ends[1] - 1)
    if next_id < 10:
        with pytest.raises(DamagedHead):
            await append(store, "c", records(next_id, 2, "again"))
    assert await store.read("c", 0, 10) == records(0, 10)
    await append(store, "b", records(2, 1))
    assert (await store.head("b")).next_id == 3


@pytest.mark.parametrize("column", ["next_id", "last_state_id"])
@pytest.mark.parametrize("value", ["'ten'", "x'0a'", "10.5"])
async def test_a_head_that_holds_no_id_is_told_and_found(beheaded, tmp_path, column, value):
    store = await beheaded(f"10, {column} = {value}" if column != "next_id" else value)

    with pytest.raises(DamagedHead):
        await store.head("c")
    (problem,) = check_database_logs(tmp_path / "parley.db")
    assert problem == f"the head of conversation c has a damaged {column}"
    assert await store.read("c", 0, 10) == records(0, 10)
    await append(store, "b", records(2, 1))
    await store.delete("c")
    assert (await store.head("c")).deleted


async def test_a_log_whose_head_is_damaged_can_be_deleted(beheaded):
    store = await beheaded(4)

    await store.delete("c")

    assert (await store.head("c")).deleted
    with pytest.raises(ConversationDeleted):
        await append(store, "c", records(4, 1))


@pytest.mark.parametrize("next_id", [7, 20])
async def test_a_head_that_is_damaged_under_a_stream_ends_its_appends_and_tells_why(
    tmp_path, next_id
):
    path = tmp_path / "parley.db"
    database = await SqliteDatabase.open(path)
    store = DatabaseEventStore(database)
    await append(store, "c", records(0, 10))
    await store.place_arrivals()
    stream = await EventStream.open(
        "c", store, PageReader(store, page_size=10, cache_bytes=100_000)
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(HEAD.format(next_id))

    for _ in range(2):
        with pytest.raises(DamagedHead):
            await stream.append(MessageAction(content="x"), EventSource.USER)
    await stream.close()
    await database.close()


@pytest.mark.parametrize("left_behind", [10, 11], ids=["of the next id", "of a later id"])
@pytest.mark.parametrize("known", [False, True], ids=["first append", "later append"])
async def test_a_key_whose_event_is_lost_is_told_and_holds_no_other_event_up(
    tmp_path, left_behind, known
):
    path = tmp_path / "parley.db"
    database = await SqliteDatabase.open(path)
    store = DatabaseEventStore(database)
    await append(store, "c", records(0, 9))
    if not known:
        store = DatabaseEventStore(database)
    await append(store, "c", records(9, 1), keys={0: digest_of("of the last")})
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        lost = (digest_of("of the lost"), left_behind)
        connection.execute("INSERT INTO client_ids VALUES (1, ?, ?)", lost)
    stream = await EventStream.open(
        "c", store, PageReader(store, page_size=10, cache_bytes=100_000)
    )

    async with asyncio.timeout(WAIT_SECONDS):
        outcomes = await asyncio.gather(
            *(stream.append(message(one), USER, client_id=one) for one in ("of the lost", "new")),
            stream.append(message("without a key"), USER),
            return_exceptions=True,
        )
        assert [type(one) for one in outcomes[:2]] == [DamagedRecord, DamagedRecord]
        assert outcomes[2] == Appended(10)
        assert await stream.append(message("again"), USER, client_id="new") == Appended(11)
        assert (await stream.append(message("x"), USER, client_id="of the last")).duplicate
    await stream.close()
    await database.close()


@pytest.fixture
async def doubled(tmp_path):
    """A database in which events 3 and 4 of `c` were given a second time, beside a sound `b`."""
    path = tmp_path / "parley.db"
    database = await SqliteDatabase.open(path)
    store = DatabaseEventStore(database)
    await append(store, "c", records(0, 10))
    await store.place_arrivals()
    await append(store, "b", records(0, 2))
    await database.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO arrivals (key, version, flag, crc, body)"
            " SELECT key, version, flag, crc + 1, body FROM events WHERE key & 4294967295 IN (3, 4)"
        )
    return path


async def test_events_without_a_place_are_told_stay_and_keep_no_others_from_theirs(doubled, caplog):
    faults = Faults()
    database = await SqliteDatabase.open(doubled, faults.connect)
    store = DatabaseEventStore(database)
    for _ in range(2):
        await store.place_arrivals()
    assert await store.finish_deletions() == 0

    with closing(sqlite3.connect(doubled)) as connection:
        assert (count_of("events", connection), count_of("arrivals", connection)) == (12, 2)
    assert [one.message for one in caplog.records] == [
        "cannot move events 3-4 of c into their table: their ids are taken"
    ]
    assert await store.read("c", 0, 10) == records(0, 10)
    await append(store, "b", records(2, 1))
    await store.delete("c")
    await store.place_arrivals()
    with closing(sqlite3.connect(doubled)) as connection:
        assert (count_of("events", connection), count_of("arrivals", connection)) == (3, 0)
    await database.close()


@pytest.fixture(params=["NULL", "'x'", "1.5"])
async def nameless(request, tmp_path):
    """A database with an event that has no id any more, of `c`, beside a sound `b`."""
    path = tmp_path / "parley.db"
    database = await SqliteDatabase.open(path)
    store = DatabaseEventStore(database)
    await append(store, "b", records(0, 2))
    await append(store, "c", records(0, 3))
    await database.close()
    schema = "UPDATE sqlite_schema SET sql = replace(sql, '{}', '{}') WHERE name = 'arrivals'"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # As a changed bit does: the column takes nothing but numbers.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(schema.format("key INTEGER NOT NULL", "key BLOB"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            f"UPDATE arrivals SET key = {request.param} WHERE key & 4294967295 = 2"  # noqa: S608
        )
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(schema.format("key BLOB", "key INTEGER NOT NULL"))
    return path


async def test_an_event_without_an_id_is_told_given_to_no_log_and_keeps_no_others_from_theirs(
    nameless, caplog
):
    database = await SqliteDatabase.open(nameless)
    store = DatabaseEventStore(database)
    for _ in range(2):
        await store.place_arrivals()

    with closing(sqlite3.connect(nameless)) as connection:
        assert (count_of("events", connection), count_of("arrivals", connection)) == (4, 1)
    assert [one.message for one in caplog.records] == [
        "cannot move 1 events into their table: they have no id"
    ]
    assert "1 events have an id that is no number" in check_database_logs(nameless)
    assert await store.read("b", 0, 2) == records(0, 2)
    assert await store.read("c", 0, 2) == records(0, 2)
    await append(store, "b", records(2, 1))
    await store.place_arrivals()
    assert await store.read("b", 0, 3) == records(0, 3)
    await database.close()


async def test_a_start_goes_on_when_nothing_can_be_placed_or_purged(doubled, caplog):
    faults = Faults()
    database = await SqliteDatabase.open(doubled, faults.connect)
    store = DatabaseEventStore(database)
    faults.before = ["DELETE FROM events"]
    with pytest.raises(AppendFailed):
        await store.delete("b")
    faults.before = ["INSERT INTO events", "DELETE FROM events"]

    await store.place_arrivals()
    assert await store.finish_deletions() == 0

    assert [one.levelname for one in caplog.records] == ["ERROR", "ERROR"]
    assert await store.finish_deletions() == 1
    await database.close()
