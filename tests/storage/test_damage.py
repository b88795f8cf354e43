"""Damaged records are reported with their range and never dropped."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from events.conformance.records import append, records
from events.errors import DamagedRecord
from events.stores.database import DatabaseEventStore
from storage.database.sqlite import SqliteDatabase

FLIP = (
    "UPDATE TABLE SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB)"
    " WHERE key & 4294967295 IN (3, 5)"
)

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
