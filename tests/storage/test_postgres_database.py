"""Scripts over PostgreSQL, beside those of another process."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings, strategies as st

from events.conformance.event_store import BusyWriter
from events.stores.postgres.append import number_of
from events.stores.postgres.store import PostgresEventStore
from storage.audit.base import AuditRecord
from storage.audit.database import DatabaseAudit
from storage.conversations.database import DatabaseConversationStores
from storage.conversations.metadata import ConversationMetadata
from storage.database.base import Statement, rerunnable
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
