"""Records tell of their logs' updates, so that nobody looks at all heads to find what has changed."""

from datetime import UTC, datetime, timedelta

import pytest

from events.conformance.records import append, records
from events.event import StoredEvent
from events.stores.postgres.store import PostgresEventStore
from storage.conversations.database import FEW, DatabaseConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter
from storage.database.postgres import queries_in
from storage.database.postgres_database import PostgresDatabase
from storage.usage.database import DatabaseUsage
from storage.usage.model import ConversationUsage, UncountedLog
from tests.support.postgres import ask, open_postgres

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MANY = 30_000
HEADS = """
    INSERT INTO parley.heads (number, conversation_id, last_updated_at, next_id, counted)
    SELECT one, 'c' || one, to_char(timestamp '2020-01-01' + one * interval '7 minutes', 'YYYY-MM-DD"T"HH24:MI'), 3,
        one <= $1::integer - 20
    FROM generate_series(1, $1::integer) AS one
"""
RECORDS = """
    INSERT INTO parley.records (
        number, conversation_id, user_id, created_at, message_hour, updated_hour, folded_title, uncounted
    )
    SELECT number, conversation_id, 'user ' || number % 3, last_updated_at, left(last_updated_at, 13),
        left(last_updated_at, 13), 'title ' || number, NOT counted FROM parley.heads
"""
NEWEST = "2020-05-25T11"
NUMBERS = "[29999, 30000]"
BY_UPDATE = {
    "find_updated": ("user 1", NEWEST, FEW + 1),
    "find_all_updated": (NEWEST, FEW + 1),
    "usage_behind": ("", 1_000),
    "list_records_by_number": ("user 1", "~", "", None, None, None, NEWEST, 21, NUMBERS),
    "list_records_by_message_and_number": (
        "user 1",
        "~",
        "",
        None,
        None,
        None,
        NEWEST,
        21,
        NUMBERS,
    ),
    "list_all_records_by_number": ("~", "", None, None, None, NEWEST, 21, NUMBERS),
    "list_records": ("user 1", "~", "", None, None, None, "2020-01-02T00", 21),
    "list_all_records": ("~", "", None, None, None, "2020-01-02T00", 21),
}


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_no_query_for_what_was_updated_scans_a_table(plans, tmp_path):
    async with open_postgres(tmp_path) as pool:
        await ask(HEADS, MANY, schema=pool.schema)
        await ask(RECORDS, schema=pool.schema)
        for table in ("heads", "records"):
            await ask(f"ANALYZE parley.{table}", schema=pool.schema)
        found = {}
        connection = await pool.connect()
        try:
            await connection.execute(f"SET plan_cache_mode = {plans}")
            for name, arguments in BY_UPDATE.items():
                await connection.execute(f"PREPARE {name} AS {queries_in(pool.schema)[name]}")
                given = ", ".join(map(literal, arguments))
                rows = await connection.fetch(f"EXPLAIN EXECUTE {name}({given})")
                found[name] = "\n".join(line for (line,) in rows)
        finally:
            await connection.close()
            for table in ("records", "heads"):
                await ask(f"DELETE FROM parley.{table}", schema=pool.schema)  # noqa: S608 - ours

    assert [name for name, plan in found.items() if "Seq Scan" in plan] == [], found
    for name, index in (
        ("find_updated", "_by_update"),
        ("find_all_updated", "_by_update"),
        ("usage_behind", "records_uncounted"),
    ):
        assert index in found[name], found[name]
        assert " heads " not in found[name], found[name]


def literal(value):
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else f"'{value}'"


def made(event):
    """Return the event as an action that changes no more of a head than the moment of its last update."""
    body = event.body.replace(b'"action":"message"', b'"action":"run"')
    assert body != event.body
    return StoredEvent(event.id, event.flag, body)


TOLD = """
    SELECT r.updated_hour, left(coalesce(h.last_updated_at, r.created_at), 13), r.uncounted, NOT h.counted
    FROM parley.records r JOIN parley.heads h ON h.number = r.number
"""


async def test_a_record_tells_the_hour_of_the_last_update_and_whether_all_is_counted(tmp_path):
    moments = ("12:10", "12:50", "13:05", "15:00", "16:30", "16:50")
    async with open_postgres(tmp_path) as pool:
        events, database = PostgresEventStore(pool), PostgresDatabase(pool)
        ann = DatabaseConversationStores(database, indexed=False).for_user("ann")
        usage = DatabaseUsage(database)

        async def told():
            ((kept, hour, uncounted, expected),) = await ask(TOLD, schema=pool.schema)
            assert kept == hour
            assert uncounted == expected
            listed = await ann.search(filters=ConversationFilter(updated_since=updated))
            assert [one.conversation_id for one in listed.results] == ["c"]
            later = ConversationFilter(updated_since=updated + timedelta(seconds=1))
            assert (await ann.search(filters=later)).results == []
            return hour, await usage.behind() == [UncountedLog("c", "ann")]

        updated = NOON
        record = ConversationMetadata(conversation_id="c", user_id="ann", created_at=NOON)
        await ann.save_metadata(record)
        assert await told() == ("2026-05-04T12", False)

        # The first goes by append_logs, the others by append_one, and each second one finds all counted.
        for first_id, moment in enumerate(moments):
            updated = datetime.fromisoformat(f"2026-05-04T{moment}:00+00:00")
            text = f"2026-05-04T{moment}:00.000000Z"
            await append(events, "c", [*map(made, records(first_id, 1, moment=text))])
            assert await told() == (text[:13], True)
            kept = await usage.load("c") or ConversationUsage(conversation_id="c")
            for position in range(kept.position + 1, first_id + 2):
                counted = kept.model_copy(update={"position": position, "user_id": "ann"})
                await usage.save(counted, kept.position)
                kept = counted
                assert (await told())[1] is (position <= first_id)
            if first_id == 3:
                await usage.forget("c")
                assert (await told())[1]
        await events.close()


async def test_updates_of_everybody_are_listed_whether_they_are_few_or_many(tmp_path):
    async with open_postgres(tmp_path) as pool:
        await ask(HEADS, FEW + 200, schema=pool.schema)
        await ask(RECORDS, schema=pool.schema)
        ((moments,),) = await ask(
            "SELECT array_agg(last_updated_at ORDER BY number DESC) FROM parley.heads",
            schema=pool.schema,
        )
        await ask(
            "UPDATE parley.heads SET last_updated_at = last_updated_at || ':00Z'",
            schema=pool.schema,
        )
        await ask("UPDATE parley.records SET created_at = created_at || ':00Z'", schema=pool.schema)
        stores = DatabaseConversationStores(PostgresDatabase(pool), indexed=False)
        counts = []
        for place in (0, 40, FEW + 150):
            since = datetime.fromisoformat(f"{moments[place]}:00+00:00")
            page_id, count = None, 0
            while True:
                page = await stores.search_all(
                    page_id, 100, filters=ConversationFilter(updated_since=since)
                )
                count += len(page.results)
                page_id = page.next_page_id
                if page_id is None:
                    break
            counts.append(count)
        for table in ("records", "heads"):
            await ask(f"DELETE FROM parley.{table}", schema=pool.schema)  # noqa: S608 - ours

    assert counts == [1, 41, FEW + 151]
