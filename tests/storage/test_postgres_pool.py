"""The driver's edge: what becomes of work whose caller, connection or server goes away."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from storage.database.migrate import Migrated, load_migrations
from storage.database.migrate_postgres import POSTGRES_MIGRATIONS, migrate_postgres
from storage.database.outcomes import Rerun, translated
from storage.database.postgres import (
    PostgresPool,
    Role,
    Sizes,
    check_promises,
    in_schema,
)
from storage.errors import Conflict, MigrationError, OutcomeUnknown, StorageFull, Unavailable
from tests.support.postgres import DATABASE, ask, open_postgres, postgres_server
from tests.support.tcp_proxy import listening
from tests.support.waiting import until

TURN = 7_301
"""The lock for which work waits, so that a test decides when it goes on."""


@pytest.fixture
async def pool(tmp_path):
    async with open_postgres(tmp_path, deadline_seconds=60.0) as opened:
        yield opened


@asynccontextmanager
async def turn_held():
    """Work that asks for the turn waits at the server; the block's value waits until it had it."""
    connection = await asyncpg.connect(postgres_server().url)
    await connection.execute(f"SELECT pg_advisory_lock({TURN})")

    async def let_it_go_on():
        await connection.execute(f"SELECT pg_advisory_unlock({TURN})")
        await connection.execute(f"SELECT pg_advisory_lock({TURN})")

    try:
        yield let_it_go_on
    finally:
        await connection.close()


def takes_a_turn(pool, begun=None):
    statements = (
        f"SELECT pg_advisory_xact_lock({TURN});",
        in_schema("UPDATE parley.barrier SET passed = 99", pool.schema),
    )

    async def work(session):
        if begun is not None:
            begun.set()
        await session.execute("".join(statements))

    return work


async def passed(pool):
    return (await ask("SELECT passed FROM parley.barrier", schema=pool.schema))[0][0]


async def waiting_at_the_server():
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
    return (await ask(query))[0][0]


async def test_work_goes_on_to_its_end_when_its_caller_gives_up(pool):
    async with turn_held() as let_it_go_on:
        begun = asyncio.Event()
        caller = asyncio.create_task(pool.run(Role.RECORD, takes_a_turn(pool, begun)))
        await begun.wait()
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        await until(waiting_at_the_server)

        await let_it_go_on()

        assert await passed(pool) == 99


async def test_at_its_deadline_work_is_of_unknown_outcome_and_is_not_cancelled_at_the_server(
    pool,
):
    async with turn_held() as let_it_go_on:
        pool.deadline_seconds = 0.5
        with pytest.raises(OutcomeUnknown, match=r"no answer within 0\.5 s"):
            await pool.run(Role.RECORD, takes_a_turn(pool))
        assert await waiting_at_the_server() == 1

        await let_it_go_on()

        assert await passed(pool) == 99


async def test_what_was_not_committed_yet_is_certainly_not_written_at_the_deadline(pool):
    async def work(session):
        async with session.transaction(60.0):
            await session.fetch("pass_barrier")
            await takes_a_turn(pool)(session)

    before = await passed(pool)
    async with turn_held() as let_it_go_on:
        pool.deadline_seconds = 0.5
        with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
            await pool.run(Role.RECORD, work)
        await let_it_go_on()

    assert await passed(pool) == before


async def test_a_connection_whose_transaction_failed_is_used_again_without_it(pool):
    async def fails(session):
        async with session.transaction(1.0):
            await session.fetch("pass_barrier")
            raise ArithmeticError

    before = await passed(pool)
    with pytest.raises(ArithmeticError):
        await pool.run(Role.RECORD, fails)
    connects = pool.connects

    await pool.fetch(Role.RECORD, "pass_barrier")

    assert await passed(pool) == before + 1
    assert pool.connects == connects


async def test_no_more_connections_are_made_than_a_role_has(tmp_path):
    async with open_postgres(tmp_path) as pool:
        before = pool.connects
        await asyncio.gather(*(pool.fetch(Role.READ, "read_promises") for _ in range(40)))

        assert pool.connects - before <= Sizes().read


async def test_who_gets_no_connection_within_the_deadline_is_told_that_nothing_was_written(pool):
    async with turn_held() as let_it_go_on:
        busy = [
            asyncio.create_task(pool.run(Role.RECORD, takes_a_turn(pool)))
            for _ in range(Sizes().record)
        ]

        async def all_wait():
            return await waiting_at_the_server() == len(busy)

        await until(all_wait)
        pool.deadline_seconds = 0.2
        with pytest.raises(Unavailable, match="no connection to record was free"):
            await pool.fetch(Role.RECORD, "pass_barrier")
        await pool.fetch(Role.READ, "read_promises")
        await let_it_go_on()


@asynccontextmanager
async def refusing_server(folder: Path):
    """A server that takes every connection and closes it; yields the numbers open and made."""
    seen = {"now": 0, "most": 0, "all": 0}

    async def refuse(reader, writer):
        seen["now"] += 1
        seen["all"] += 1
        seen["most"] = max(seen["most"], seen["now"])
        await reader.read(1)
        seen["now"] -= 1
        writer.close()

    server = await asyncio.start_unix_server(refuse, folder / ".s.PGSQL.5432")
    async with server:
        yield seen


async def test_while_the_server_cannot_be_reached_one_connects_at_a_time_and_then_nobody(tmp_path):
    async with refusing_server(tmp_path) as seen:
        pool = PostgresPool(f"postgresql://{DATABASE}@/{DATABASE}?host={tmp_path}")

        outcomes = await asyncio.gather(
            *(pool.fetch(role, "read_promises") for role in Role for _ in range(20)),
            return_exceptions=True,
        )

        assert {type(one) for one in outcomes} == {Unavailable}
        assert seen["most"] == 1
        assert seen["all"] < len(outcomes)
        assert pool.breaker.pause_seconds > 0
        before = seen["all"]
        pool.breaker.failed("still away")
        with pytest.raises(Unavailable, match="still away"):
            await pool.fetch(Role.READ, "read_promises")
        assert seen["all"] == before
        await pool.close()


@asynccontextmanager
async def silent_server():
    """A server that takes every connection and answers nothing; its address, and whether it has one."""
    taken = asyncio.Event()

    async def listen(reader, writer):
        taken.set()
        await reader.read()
        writer.close()

    async with listening(listen) as address:
        host = address.removeprefix("http://")
        yield f"postgresql://{DATABASE}@{host}/{DATABASE}?sslmode=disable", taken


async def test_nobody_waits_for_an_address_past_the_pooler_that_does_not_answer():
    async with silent_server() as (direct_url, taken):
        pool = PostgresPool(
            postgres_server().url, pooler=True, direct_url=direct_url, connect_seconds=60.0
        )
        direct = asyncio.create_task(pool.connect_directly())
        await taken.wait()

        await pool.fetch(Role.READ, "read_promises")

        assert not direct.done()
        direct.cancel()
        await asyncio.wait([direct])
        await pool.close()


async def test_a_host_that_takes_no_writes_any_more_is_left_at_once(pool):
    await asyncio.gather(*(pool.fetch(Role.READ, "read_promises") for _ in range(8)))
    connects = pool.connects
    await pool.run(
        Role.RECORD,
        lambda session: session.execute("SET default_transaction_read_only = on"),
    )

    with pytest.raises(Unavailable, match="read-only"):
        await pool.fetch(Role.RECORD, "pass_barrier")

    await pool.fetch(Role.RECORD, "pass_barrier")
    await pool.fetch(Role.READ, "read_promises")
    assert pool.connects == connects + 2


STATES = {
    "22001": Unavailable,
    "23505": Conflict,
    "25006": Unavailable,
    "25P03": OutcomeUnknown,
    "40001": Rerun,
    "40003": OutcomeUnknown,
    "40P01": Rerun,
    "42P01": Unavailable,
    "53100": StorageFull,
    "53300": Unavailable,
    "55P03": Unavailable,
    "57014": OutcomeUnknown,
    "57P01": OutcomeUnknown,
    "57P02": OutcomeUnknown,
    "08006": OutcomeUnknown,
    "XX000": OutcomeUnknown,
    "58030": OutcomeUnknown,
}


@pytest.mark.parametrize("state", STATES)
def test_an_outcome_is_known_only_by_a_reply_that_undid_the_statement(state):
    error = asyncpg.PostgresError.new({"C": state, "M": "why"})

    assert type(translated(error, sure=False)) is STATES[state]
    assert not isinstance(translated(error, sure=True), OutcomeUnknown)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.InternalClientError("cannot switch to state 12"),
        asyncpg.ConnectionDoesNotExistError("closed in the middle of operation"),
        asyncpg.InterfaceError("closed"),
        RuntimeError(),
    ],
    ids=repr,
)
def test_whatever_else_the_driver_raises_is_of_unknown_outcome(error):
    assert type(translated(error, sure=False)) is OutcomeUnknown
    assert type(translated(error, sure=True)) is Unavailable


@asynccontextmanager
async def new_schema(name: str):
    """Two pools over a schema that is not there yet, and that is dropped again."""
    pools = [PostgresPool(postgres_server().url, schema=name) for _ in range(2)]
    try:
        yield pools
    finally:
        for one in pools:
            await one.close()
        await ask(f"DROP SCHEMA IF EXISTS {name} CASCADE")


async def test_processes_that_migrate_at_once_apply_each_migration_once():
    async with new_schema("parley_at_once") as pools:
        applied = await asyncio.gather(*(migrate_postgres(one) for one in pools * 2))

        names = [one.name for one in load_migrations(POSTGRES_MIGRATIONS)]
        assert sorted(name for one in applied for name in one.applied) == names
        assert await migrate_postgres(pools[0]) == Migrated([], [])


async def test_a_schema_of_another_version_is_refused():
    async with new_schema("parley_versions") as (pool, _):
        await migrate_postgres(pool)
        await ask("UPDATE parley.migrations SET checksum = 'x'", schema=pool.schema)
        with pytest.raises(MigrationError, match=r"0001_logs\.sql differs"):
            await migrate_postgres(pool)

        later = "INSERT INTO parley.migrations VALUES (99, '0099_later.sql', '')"
        await ask(later, schema=pool.schema)
        with pytest.raises(MigrationError, match="newer version"):
            await migrate_postgres(pool)


@pytest.mark.parametrize("name", ["Parley", "a-b", 'a"; DROP SCHEMA b; --', "", "a" * 64])
def test_a_schema_whose_name_would_have_to_be_quoted_is_refused(name):
    with pytest.raises(MigrationError):
        in_schema("SELECT * FROM parley.heads", name)


async def test_a_server_that_forgets_what_it_acknowledged_is_refused():
    pool = PostgresPool(postgres_server().url, sizes=Sizes(1, 1, 1))
    try:
        await check_promises(pool)
        await pool.run(Role.READ, lambda session: session.execute("SET synchronous_commit = off"))

        with pytest.raises(MigrationError, match="synchronous_commit=off"):
            await check_promises(pool)
    finally:
        await pool.close()
