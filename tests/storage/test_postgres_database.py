"""Scripts over PostgreSQL, beside those of another process."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings, strategies as st

from events.conformance.event_store import BusyWriter
from events.conformance.records import append, records
from events.stores.postgres.store import PostgresEventStore
from storage.audit.base import AuditRecord
from storage.audit.database import DatabaseAudit
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter, ListOrder
from storage.database.base import Statement, rerunnable
from storage.database.postgres import number_of, queries_in
from storage.database.postgres_database import PostgresDatabase
from storage.errors import OwnerConflict, Unavailable
from tests.support.postgres import ask, open_postgres

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ACT = AuditRecord(
    at=NOON, last_at=NOON, who="ann", client=None, action="drain", outcome="done", acting=True
)


@asynccontextmanager
async def two_processes(folder):
    """The records of one schema, as two processes have them."""
    async with open_postgres(folder) as pool, open_postgres(folder) as other:
        yield [
            DatabaseConversationStores(PostgresDatabase(one), indexed=False)
            for one in (pool, other)
        ]


def saved(user_id="ann", **fields):
    return ConversationMetadata(conversation_id="c", user_id=user_id, created_at=NOON, **fields)


async def test_no_update_is_lost_among_those_of_two_processes(tmp_path):
    async with two_processes(tmp_path) as stores:
        await stores[0].for_user("ann").save_metadata(saved())

        titles = await asyncio.gather(
            *(
                stores[number % 2].for_user("ann").give_title("c", f"title {number}")
                for number in range(20)
            )
        )

        assert titles.count(True) == 1
        record = await stores[0].for_user("ann").get_metadata("c")
        assert record.title == f"title {titles.index(True)}"


MANY = 3_000
HEADS = """
    INSERT INTO parley.heads (number, conversation_id, last_message_at)
    SELECT one, one::text, to_char(timestamp '2026-01-01' + one * interval '7 minutes', 'YYYY-MM-DD HH24:MI')
    FROM generate_series(1, $1::integer) AS one
"""
RECORDS = """
    INSERT INTO parley.records (number, conversation_id, user_id, created_at, message_hour, folded_title)
    SELECT number, conversation_id, 'ann', last_message_at, left(last_message_at, 13), 'title ' || number FROM parley.heads
"""
BY_MESSAGE = ConversationFilter(order=ListOrder.LAST_MESSAGE)


async def test_lists_by_the_last_message_follow_every_append(tmp_path):
    moments = ("13:10", "13:50", "14:05", "15:00", "15:30")
    async with open_postgres(tmp_path) as pool:
        events = PostgresEventStore(pool)
        ann = DatabaseConversationStores(PostgresDatabase(pool), indexed=False).for_user("ann")
        for name in "abc":
            saved_one = ConversationMetadata(conversation_id=name, user_id="ann", created_at=NOON)
            await ann.save_metadata(saved_one)
        orders = []
        # The first of a log goes by the function, the others by the short statement.
        for moment, name in zip(moments, "abcab", strict=True):
            head = await events.head(name)
            said = records(head.next_id, 1, moment=f"2026-05-04T{moment}:00.000000Z")
            await append(events, name, said)
            listed = (await ann.search(filters=BY_MESSAGE)).results
            orders.append("".join(one.conversation_id for one in listed))
        await events.close()
        query = "SELECT message_hour, left(last_message_at, 13) FROM parley.folded_records"
        hours = [*await ask(query, schema=pool.schema)]
        await ann.save_metadata(saved_one.model_copy(update={"title": "new"}))
        hours += await ask(query, schema=pool.schema)

    assert orders == ["acb", "bac", "cba", "acb", "bac"]
    assert all(kept == told for kept, told in hours)


LISTS = {
    "list_records": ("ann", "~", "", None, None, "title 2999", None, 20),
    "list_records_by_message": ("ann", "~", "", None, None, "title 2999", None, 20),
    "list_all_records": ("~", "", None, None, "title 2999", None, 20),
}


@pytest.mark.parametrize("query", LISTS)
async def test_a_title_that_few_have_is_found_by_the_index_of_titles(query, tmp_path):
    plan = await plan_of(tmp_path, query, *LISTS[query])

    assert "records_by_title" in plan, plan
    assert "Seq Scan" not in plan, plan


async def test_a_page_by_the_last_message_reads_the_index_of_hours_and_no_table(tmp_path):
    arguments = ("ann", "~", "", None, None, None, None, 20)

    plan = await plan_of(tmp_path, "list_records_by_message", *arguments)

    assert "records_by_message" in plan, plan
    assert "Seq Scan" not in plan, plan


async def plan_of(folder, query, *arguments):
    """The plan of a query over many records."""
    async with open_postgres(folder) as pool:
        await ask(HEADS, MANY, schema=pool.schema)
        await ask(RECORDS, schema=pool.schema)
        for table in ("heads", "records"):
            await ask(f"ANALYZE parley.{table}", schema=pool.schema)
        plan = await ask("EXPLAIN " + queries_in(pool.schema)[query], *arguments)
        schema = pool.schema
    for table in ("records", "heads"):
        await ask(f"DELETE FROM parley.{table}", schema=schema)  # noqa: S608 - ours
    return "\n".join(line for (line,) in plan)


async def test_the_numbers_of_an_audit_that_two_processes_write_have_no_gap(tmp_path):
    async with open_postgres(tmp_path) as pool, open_postgres(tmp_path) as other:
        logs = [DatabaseAudit(PostgresDatabase(one)) for one in (pool, other)]

        numbers = await asyncio.gather(*(logs[place % 2].add(ACT) for place in range(12)))

    assert sorted(one.id for one in numbers) == list(range(1, 13))


async def test_of_two_owners_that_save_one_id_at_once_one_is_refused(tmp_path):
    async with two_processes(tmp_path) as stores:
        owners = ("ann", "bob")

        outcomes = await asyncio.gather(
            *(
                store.for_user(owner).save_metadata(saved(owner))
                for store, owner in zip(stores, owners, strict=True)
            ),
            return_exceptions=True,
        )

        assert sorted(map(type, outcomes), key=str) == [type(None), OwnerConflict]
        winner = owners[outcomes.index(None)]
        assert await stores[0].for_user(winner).exists("c")


async def test_a_record_is_saved_while_its_log_is_appended_to_without_a_pause(tmp_path):
    async with two_processes(tmp_path) as stores, open_postgres(tmp_path) as pool:
        records, events = stores[0].for_user("ann"), PostgresEventStore(pool)
        await records.save_metadata(saved())
        busy = BusyWriter(events, "c")
        busy.begin()
        for number in range(30):
            await records.save_metadata(saved(title=f"title {number}"))
            await busy.go_on()
        await busy.end()
        await events.close()

        assert (await records.get_metadata("c")).title == "title 29"


@rerunnable
def fails_after_a_write(error):
    yield Statement("pass_barrier")
    raise error


async def test_what_a_script_raises_undoes_it_and_is_its_callers(tmp_path):
    async with open_postgres(tmp_path) as pool:
        database = PostgresDatabase(pool)
        before = await ask("SELECT passed FROM parley.barrier", schema=pool.schema)
        for error in (ArithmeticError("mine"), Unavailable("mine")):
            failing = database.submit(
                fails_after_a_write(error), failure=lambda _: RuntimeError("translated")
            )
            with pytest.raises(type(error), match="mine"):
                await failing

        assert await ask("SELECT passed FROM parley.barrier", schema=pool.schema) == before


def test_the_database_computes_the_number_of_a_conversation_as_the_store_does(tmp_path):
    @given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
    @settings(max_examples=50, database=None, derandomize=True)
    def try_numbers(conversation_id):
        rows = runner.run(ask("SELECT parley.number_of($1)", conversation_id, schema=schema))
        assert rows[0][0] == number_of(conversation_id)

    async def schema_of():
        async with open_postgres(tmp_path) as pool:
            return pool.schema

    with asyncio.Runner() as runner:
        schema = runner.run(schema_of())
        try_numbers()
