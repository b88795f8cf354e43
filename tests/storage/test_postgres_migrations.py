"""Migrations of PostgreSQL: kinds, crashes at every statement, readers and servers beside them."""

import asyncio
import shutil
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager, suppress
from itertools import count

import asyncpg
import pytest
from pydantic import SecretStr

from events.conformance.records import append, records
from events.stores.opening import storage_problems
from events.stores.postgres.store import PostgresEventStore
from server.cli import main
from storage.backends import backend_of
from storage.backends.postgres import OpenedPostgres
from storage.database.migrate import Migrated, load_migrations
from storage.database.migrate_postgres import (
    POSTGRES_MIGRATIONS,
    SchemaRange,
    is_migrated,
    kind_of,
    migrate_postgres,
    number_of_migrations_lock,
    range_of,
)
from storage.database.postgres import PostgresPool
from storage.database.postgres_lock import SchemaLock
from storage.errors import MigrationError, SchemaLocked, Unavailable
from storage.opening import open_storage
from tests.support.postgres import (
    DATABASE,
    ask,
    other_transaction,
    pooler_server,
    postgres_server,
    postgres_storage,
)
from tests.support.servers import REPOSITORY
from tests.support.tcp_proxy import copy
from tests.support.waiting import WAIT_SECONDS, until

FIRST = """
CREATE TABLE parley.a (x integer PRIMARY KEY, y integer);
INSERT INTO parley.a SELECT one, NULL FROM generate_series(1, 10) AS one;
"""
MORE = {
    "0002_more.sql": "-- kind: expand\nALTER TABLE parley.a ADD COLUMN z integer;\nINSERT INTO parley.a VALUES (11);",
    "0003_index.sql": "-- kind: online\nCREATE INDEX CONCURRENTLY a_by_y ON parley.a (y);",
    "0004_fill.sql": (
        "-- kind: online\nUPDATE parley.a SET y = x"
        " WHERE x = ANY (ARRAY(SELECT x FROM parley.a WHERE y IS NULL LIMIT 4));"
    ),
}
CONTRACT = {"0005_less.sql": "-- kind: contract\nALTER TABLE parley.a DROP COLUMN z;"}
LATER = {"0006_later.sql": "-- kind: expand\nCREATE TABLE parley.b (x integer);"}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "migrations"
    path.mkdir()
    (path / "0001_first.sql").write_text(FIRST)
    return path


def add(folder, texts):
    for name, text in texts.items():
        (folder / name).write_text(text)


@pytest.fixture
async def pool():
    """Connections to a schema that is not there yet."""
    opened = PostgresPool(postgres_server().url, schema="parley_migrated", deadline_seconds=60.0)
    yield opened
    await opened.close()
    await drop(opened)


async def drop(pool):
    await ask(f"DROP SCHEMA IF EXISTS {pool.schema} CASCADE")


async def found(pool):
    """The rows, and whether the index is whole."""
    rows = await ask("SELECT * FROM parley.a ORDER BY x", schema=pool.schema)
    valid = await ask(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)",
        f"{pool.schema}.a_by_y",
    )
    return [tuple(row) for row in rows], [one for (one,) in valid]


WHOLE = ([(one, one, None) for one in range(1, 12)], [True])


async def test_a_contract_is_applied_when_it_is_asked_for_and_nothing_else_waits_for_it(
    pool, folder
):
    await migrate_postgres(pool, folder)
    add(folder, MORE | CONTRACT | LATER)

    done = await migrate_postgres(pool, folder)
    again = await migrate_postgres(pool, folder)
    asked = await migrate_postgres(pool, folder, contract=True)

    assert done == Migrated([*MORE, *LATER], [*CONTRACT])
    assert again == Migrated([], [*CONTRACT])
    assert asked == Migrated([*CONTRACT], [])
    kinds = await ask("SELECT kind FROM parley.migrations ORDER BY number", schema=pool.schema)
    assert [kind for (kind,) in kinds] == [
        *("expand", "expand", "online", "online", "contract", "expand")
    ]


async def test_in_a_schema_that_is_being_made_no_contract_waits(pool, folder):
    add(folder, MORE | CONTRACT | LATER)

    done = await migrate_postgres(pool, folder)

    assert done == Migrated(["0001_first.sql", *MORE, *CONTRACT, *LATER], [])


async def test_a_version_works_with_a_newer_schema_that_only_adds_and_with_no_other(pool, folder):
    await migrate_postgres(pool, folder)
    older = folder.parent / "older"
    shutil.copytree(folder, older)
    add(folder, MORE | CONTRACT)
    await migrate_postgres(pool, folder)
    assert await found(pool) == WHOLE

    assert await migrate_postgres(pool, older) == Migrated([], [])

    await migrate_postgres(pool, folder, contract=True)
    with pytest.raises(MigrationError, match=r"newer version \(migration 0005_less"):
        await migrate_postgres(pool, older)


def test_the_range_of_a_version_begins_with_what_it_needs_and_ends_with_what_it_knows(folder):
    add(folder, MORE | CONTRACT)

    assert range_of(load_migrations(folder)) == SchemaRange(4, 5)


async def test_a_kind_that_is_none_is_refused(pool, folder):
    add(folder, {"0002_more.sql": "-- kind: expands\nSELECT 1;"})

    with pytest.raises(MigrationError, match=r"0002_more\.sql is of no kind: expands"):
        await migrate_postgres(pool, folder)


def test_every_migration_since_there_are_kinds_names_its_own():
    shipped = load_migrations(POSTGRES_MIGRATIONS)

    assert [one.name for one in shipped[6:] if not one.text.startswith("-- kind: ")] == []


async def test_an_index_that_a_crash_has_left_invalid_is_built_anew(pool, folder):
    await migrate_postgres(pool, folder)
    await ask("UPDATE parley.a SET y = 1", schema=pool.schema)
    with pytest.raises(asyncpg.UniqueViolationError):
        await ask("CREATE UNIQUE INDEX CONCURRENTLY a_by_y ON parley.a (y)", schema=pool.schema)
    await ask("UPDATE parley.a SET y = NULL", schema=pool.schema)
    assert (await found(pool))[1] == [False]
    add(folder, MORE)

    await migrate_postgres(pool, folder)

    assert await found(pool) == WHOLE


MIGRATES = """
import asyncio, sys
from pathlib import Path
from storage.database.migrate_postgres import migrate_postgres
from storage.database.postgres import PostgresPool

async def migrate(url, schema, folder):
    await migrate_postgres(PostgresPool(url, schema=schema), Path(folder))

asyncio.run(migrate(*sys.argv[1:]))
"""


class KillingProxy:
    """Passes on what a process sends to PostgreSQL, and kills that process at the last message."""

    def __init__(self, messages: int) -> None:
        self._left = messages
        self.process: asyncio.subprocess.Process | None = None

    async def serve(self, reader, writer):
        """Serve one connection."""
        upstream, sending = await asyncio.open_unix_connection(postgres_server().socket)
        replies = asyncio.create_task(copy(upstream, writer))
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                self._left -= 1
                sending.write(data)
                await sending.drain()
                if not self._left and self.process is not None:
                    self.process.send_signal(signal.SIGKILL)
        sending.close()
        await replies
        writer.close()


async def migrated_with_a_kill(pool, folder, place, messages):
    """Whether a process that is killed after so many messages to PostgreSQL came to its end."""
    place.mkdir()
    proxy = KillingProxy(messages)
    server = await asyncio.start_unix_server(proxy.serve, place / ".s.PGSQL.5432")
    async with server:
        url = f"postgresql://{DATABASE}@/{DATABASE}?host={place}"
        arguments = ("-c", MIGRATES, url, pool.schema, str(folder))
        proxy.process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=REPOSITORY, stderr=PIPE
        )
        _, errors = await proxy.process.communicate()
    assert proxy.process.returncode in {0, -signal.SIGKILL}, errors.decode()
    return proxy.process.returncode == 0


async def test_a_process_that_is_killed_at_any_statement_leaves_what_the_next_one_brings_to_its_end(
    pool, folder, tmp_path, record_property
):
    base = tmp_path / "base"
    shutil.copytree(folder, base)
    add(folder, MORE)
    killed = 0
    for messages in count(1):
        await migrate_postgres(pool, base)
        if await migrated_with_a_kill(pool, folder, tmp_path / f"{messages}", messages):
            break
        killed += 1
        await migrate_postgres(pool, folder)
        assert await found(pool) == WHOLE
        assert await migrate_postgres(pool, folder) == Migrated([], [])
        await drop(pool)

    assert await found(pool) == WHOLE
    record_property("figures", f"killed at {killed} messages")
    assert killed >= len(MORE)


@pytest.fixture
def shipped(tmp_path):
    """A folder with the migrations of this version."""
    path = tmp_path / "shipped"
    path.mkdir()
    for one in load_migrations(POSTGRES_MIGRATIONS):
        (path / one.name).write_text(one.text)
    return path


def named(number, name):
    return f"{number:04}_{name}.sql"


async def test_beside_a_reader_that_keeps_a_migration_waiting_appends_go_on(pool, shipped):
    await migrate_postgres(pool)
    name = named(len(load_migrations(shipped)) + 1, "wider")
    add(shipped, {name: "-- kind: expand\nALTER TABLE parley.heads ADD COLUMN wider integer;"})
    store = PostgresEventStore(pool)
    await append(store, "c", records(0, 1))

    async def is_waiting():
        query = "SELECT count(*) FROM pg_locks WHERE relation = to_regclass($1) AND NOT granted"
        return (await ask(query, f"{pool.schema}.heads"))[0][0] > 0

    async with other_transaction("SELECT count(*) FROM parley.heads", schema=pool.schema):
        migrating = asyncio.create_task(migrate_postgres(pool, shipped))
        for event_id in (1, 2):
            await until(is_waiting)
            # Waits behind the migration, which gives up before the append does.
            await append(store, "c", records(event_id, 1))
        assert not migrating.done()
    assert (await migrating).applied == [name]
    assert len(await store.read("c", 0, 9)) == 3
    await store.close()


async def test_servers_that_bring_an_older_schema_up_to_date_at_once_apply_each_once(pool, shipped):
    names = [one.name for one in load_migrations(shipped)]
    newer = names[6:]
    older = shipped.parent / "older"
    shutil.copytree(shipped, older)
    for name in newer:
        (older / name).unlink()
    assert (await migrate_postgres(pool, older)).applied == names[:6]
    await ask(
        "INSERT INTO parley.heads (number, conversation_id, last_updated_at)"
        " SELECT one, one::text, '2026-01-01T10:00' FROM generate_series(1, 5000) AS one",
        schema=pool.schema,
    )
    await ask(
        "INSERT INTO parley.records (number, conversation_id, created_at, message_hour)"
        " SELECT number, conversation_id, '2020-01-01T00:00', '2020-01-01T00' FROM parley.heads",
        schema=pool.schema,
    )

    done = await asyncio.gather(*(migrate_postgres(pool, shipped) for _ in range(3)))

    asked_for = [one.name for one in load_migrations(shipped) if kind_of(one) == "contract"]
    applied = [name for one in done for name in one.applied]
    assert sorted([*applied, *asked_for]) == newer
    hours = await ask("SELECT DISTINCT updated_hour FROM parley.records", schema=pool.schema)
    assert [hour for (hour,) in hours] == ["2026-01-01T10"]
    query = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT indisvalid"
    assert (await ask(query))[0][0] == 0


async def test_a_start_with_nothing_due_waits_for_nobody_who_migrates(tmp_path):
    async with postgres_storage(tmp_path) as config:
        async with open_storage(config):
            pass

        lock = number_of_migrations_lock(config.schema_name)
        async with (
            other_transaction("SELECT pg_advisory_xact_lock($1)", lock),
            asyncio.timeout(WAIT_SECONDS),
            open_storage(config) as storage,
        ):
            assert isinstance(storage, OpenedPostgres)
            assert await is_migrated(storage.pool)


async def test_what_is_due_of_a_schema_is_known_without_applying_it(pool, shipped):
    assert not await is_migrated(pool, shipped)
    await migrate_postgres(pool, shipped)
    last = len(load_migrations(shipped))
    add(shipped, {named(last + 1, "contract"): "-- kind: contract\nSELECT 1;"})
    assert await is_migrated(pool, shipped)
    add(shipped, {named(last + 2, "expand"): "-- kind: expand\nSELECT 1;"})

    assert not await is_migrated(pool, shipped)


async def test_a_start_ends_where_the_table_of_migrations_cannot_be_read(tmp_path):
    async with postgres_storage(tmp_path) as config:
        async with open_storage(config):
            pass
        hasty = config.model_copy(update={"deadline_seconds": 0.5})

        async with (
            other_transaction("LOCK TABLE parley.migrations", schema=config.schema_name),
            asyncio.timeout(WAIT_SECONDS),
        ):
            with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
                async with open_storage(hasty):
                    pass


async def test_a_contract_that_would_harm_a_server_that_is_running_is_refused(pool, shipped):
    await migrate_postgres(pool)
    last = len(load_migrations(shipped))
    name = named(last + 1, "narrower")
    add(shipped, {name: "-- kind: contract\nDROP TABLE parley.schema_use;"})
    await ask("INSERT INTO parley.schema_use VALUES (true, 1, $1, now())", last, schema=pool.schema)
    lock = SchemaLock(pool)
    await lock.take()
    try:
        with pytest.raises(MigrationError, match=f"{name} would harm the server that is running"):
            await migrate_postgres(pool, shipped, contract=True)
    finally:
        await lock.close()

    assert (await migrate_postgres(pool, shipped, contract=True)).applied == [name]


async def test_a_contract_waits_for_the_oldest_server_of_a_cluster(pool, shipped):
    await migrate_postgres(pool)
    last = len(load_migrations(shipped))
    name = named(last + 1, "narrower")
    add(shipped, {name: "-- kind: contract\nDROP TABLE parley.schema_use;"})
    # The newest was started last.
    await ask(
        "INSERT INTO parley.schema_use VALUES (true, 1, $1, now())", last + 1, schema=pool.schema
    )
    node = (
        "INSERT INTO parley.nodes (incarnation, name, version, schema_to) VALUES ($1, '', '', $2)"
    )
    await ask(node, 1, last, schema=pool.schema)
    await ask(node, 2, last + 1, schema=pool.schema)
    lock = SchemaLock(pool, shared=True)
    await lock.take()
    try:
        with pytest.raises(MigrationError, match=f"knows the schema up to {last}:"):
            await migrate_postgres(pool, shipped, contract=True)
        await ask("UPDATE parley.nodes SET ended = true WHERE incarnation = 1", schema=pool.schema)

        assert (await migrate_postgres(pool, shipped, contract=True)).applied == [name]
    finally:
        await lock.close()


async def test_a_server_tells_the_range_of_its_version_and_starts_over_a_newer_schema_that_only_adds(
    tmp_path,
):
    async with postgres_storage(tmp_path) as other:
        config = other.model_copy(update={"schema_name": "parley_wider"})
        try:
            async with open_storage(config):
                pass
            later = (
                "INSERT INTO parley_wider.migrations VALUES (99, '0099_later.sql', '', 'expand')"
            )
            await ask(later)
            async with open_storage(config):
                pass
            problems = await asyncio.to_thread(storage_problems, config)
            told = await ask("SELECT schema_from, schema_to FROM parley_wider.schema_use")
        finally:
            await ask("DROP SCHEMA parley_wider CASCADE")

    assert problems == []
    assert [tuple(row) for row in told] == [range_of(load_migrations(POSTGRES_MIGRATIONS))]


@asynccontextmanager
async def pooled(folder):
    """A storage behind a pooler, with the address past it."""
    async with postgres_storage(folder, pooler=True) as config:
        direct_url = SecretStr(postgres_server().url)
        yield config.model_copy(update={"direct_url": direct_url})


async def test_past_a_pooler_a_second_server_is_refused_as_without_one(tmp_path):
    async with pooled(tmp_path) as config:
        url = SecretStr(f"{pooler_server().url}&application_name=other")
        other = config.model_copy(update={"url": url})
        async with open_storage(config) as storage:
            assert isinstance(storage, OpenedPostgres)
            with pytest.raises(SchemaLocked):
                async with open_storage(other):
                    pass
        async with open_storage(other):
            pass


async def test_migrations_go_past_the_pooler(tmp_path):
    async with pooled(tmp_path) as config:
        away = SecretStr(f"postgresql://{DATABASE}@/{DATABASE}?host={tmp_path}")
        schema = {"url": away, "schema_name": "parley_past"}
        try:
            done = await backend_of(config.model_copy(update=schema)).migrate()
        finally:
            await ask("DROP SCHEMA IF EXISTS parley_past CASCADE")

    assert done.applied == [one.name for one in load_migrations(POSTGRES_MIGRATIONS)]


def test_the_command_migrates_a_database_and_says_what_it_did(monkeypatch, capsys):
    monkeypatch.setenv("PARLEY_DATABASE_URL", postgres_server().url)
    monkeypatch.setenv("PARLEY_DATABASE_SCHEMA", "parley_by_command")
    monkeypatch.setenv("PARLEY_SECRET_KEY", "a key of sixteen letters")
    names = [one.name for one in load_migrations(POSTGRES_MIGRATIONS)]
    try:
        assert main(["migrate", "--storage", "postgres"]) == 0
        assert capsys.readouterr().out == "".join(f"migrate: {name}\n" for name in names)
        assert main(["migrate", "--storage", "postgres", "--contract"]) == 0
        assert capsys.readouterr().out == "migrate: up to date\n"
    finally:
        asyncio.run(ask("DROP SCHEMA IF EXISTS parley_by_command CASCADE"))


def test_the_command_says_of_other_storages_that_a_server_migrates_them(tmp_path, capsys):
    assert main(["migrate", "--data-dir", str(tmp_path)]) == 2

    told = capsys.readouterr().err
    assert told == "parley: --storage sqlite is migrated by a server at its start\n"
