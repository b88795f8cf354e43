"""PostgreSQL as a storage: opened, checked and described, and refused where it may lose something."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

import asyncpg
import orjson
import pytest
from pydantic import SecretStr

from events.batch import digest_of
from events.checkpoints import Checkpoint
from events.conformance.records import append, record, records
from events.event import EventFlag, StoredEvent
from events.stores.base import MEMORY, PARTIALS, Aside
from events.stores.opening import open_event_store, open_workspaces, storage_problems
from events.transfer.contents import open_stores
from events.transfer.repair import repair
from storage.audit.base import AuditRecord
from storage.backends import backend_of
from storage.backends.postgres import OpenedPostgres
from storage.config import PostgresStorage
from storage.conversations.metadata import ConversationMetadata
from storage.database.postgres import PostgresPool, number_of
from storage.database.postgres_lock import SchemaLock, number_of_lock
from storage.database.postgres_url import place_of
from storage.errors import MigrationError, SchemaLocked, Unavailable, WrongKey
from storage.opening import open_storage
from storage.users import CustomSecret, Secrets
from storage.workspaces.manifest import Loaded
from storage.workspaces.snapshot import Snapshot, WorkspaceLimits
from tests.support.connect_counter import counting_connects
from tests.support.postgres import (
    PostgresServer,
    ask,
    open_postgres,
    postgres_server,
    postgres_storage,
    terminate_backends,
)
from tests.support.waiting import until

WORD = "a-word-to-be-seen-nowhere"
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ACT = AuditRecord(
    at=NOON, last_at=NOON, who="ann", client=None, action="drain", outcome="done", acting=True
)
LIMITS = WorkspaceLimits(1_000_000, 1_000)
SECRETS = Secrets(custom_secrets={"t": CustomSecret(value=SecretStr("x"))})
KEYED = orjson.dumps(orjson.loads(record(3).body) | {"client_id": "k"})
EVENTS = [*records(0, 3), StoredEvent(3, EventFlag.PLAIN, KEYED), *records(4, 6)]
FILES = Snapshot(files={"a": b"one"})


@pytest.fixture
async def config(tmp_path):
    async with postgres_storage(tmp_path) as storage:
        yield storage


@pytest.fixture
async def filled(config):
    """A closed storage with two logs, their records, a workspace, secrets and an act."""
    async with open_storage(config) as storage, AsyncExitStack() as stack:
        events = await open_event_store(storage, stack)
        for name in ("b", "c"):
            record = ConversationMetadata(conversation_id=name, title=name)
            await storage.conversations.for_user("ann").save_metadata(record)
            await append(events, name, EVENTS, keys={3: digest_of("k")})
        await open_workspaces(storage, events, LIMITS).save("b", FILES)
        checkpoint = Checkpoint(10, ()).encode()
        await events.put_asides([Aside("b", MEMORY, b"m"), Aside("b", PARTIALS, checkpoint)])
        await storage.secrets.for_user("ann").store(SECRETS)
        await storage.audit.add(ACT)
    return config


async def problems(config):
    return await asyncio.to_thread(storage_problems, config)


async def described(config):
    return await asyncio.to_thread(backend_of(config).describe)


async def test_what_was_stored_is_there_when_it_is_opened_again(filled):
    async with open_storage(filled) as storage, AsyncExitStack() as stack:
        events = await open_event_store(storage, stack)
        assert len(await events.read("c", 0, 100)) == 10
        assert await open_workspaces(storage, events, LIMITS).load("b") == Loaded(FILES)
        assert await storage.secrets.for_user("ann").load() == SECRETS
        listed = (await storage.conversations.for_user("ann").search()).results
        assert {one.conversation_id for one in listed} == {"b", "c"}
        report = await storage.inventory.take()

    assert (report.medium, report.conversations, report.events) == ("postgres", 2, 20)
    assert report.bytes_used is not None
    assert report.bytes_used > 0


async def test_a_storage_is_the_same_whatever_its_key_and_shared_within_the_process(config):
    other = config.model_copy(update={"secret_key": SecretStr("other")})
    assert backend_of(other).identity == backend_of(config).identity

    async with open_storage(config) as first:
        async with open_storage(config) as second:
            assert second is first
        assert not await first.conversations.for_user(None).exists("c")

    with pytest.raises(Unavailable, match="closed"):
        await first.conversations.for_user(None).exists("c")


def spelled_otherwise(config):
    """The same schema, as another process names it."""
    url = config.url.get_secret_value() + "&application_name=other"
    return config.model_copy(update={"url": SecretStr(url)})


async def test_a_schema_is_refused_to_a_second_server_also_after_its_connections_were_ended(
    config, tmp_path
):
    other = spelled_otherwise(config)
    async with open_storage(config) as storage, open_postgres(tmp_path) as pool:
        assert isinstance(storage, OpenedPostgres)
        with pytest.raises(SchemaLocked, match=f"{config.schema_name} is in use by another"):
            async with open_storage(other):
                pass
        before = storage.pool.connects
        await terminate_backends()
        await until(lambda: storage.pool.connects > before)
        await until(partial(is_locked, config))
        with pytest.raises(SchemaLocked):
            await SchemaLock(pool, patience_seconds=0).take()
        await storage.conversations.for_user(None).exists("c")

    async with open_storage(other):
        pass


async def test_servers_that_share_a_schema_use_it_together_and_keep_others_away(config, tmp_path):
    shared = config.model_copy(update={"shared": True})
    async with open_postgres(tmp_path) as one, open_postgres(tmp_path) as two:
        locks = [SchemaLock(pool, shared=True, patience_seconds=0) for pool in (one, two)]
        for lock in locks:
            await lock.take()
        with pytest.raises(SchemaLocked):
            await SchemaLock(one, patience_seconds=0).take()
        async with open_storage(shared):
            pass
        for lock in locks:
            await lock.close()
        async with open_storage(config):
            with pytest.raises(SchemaLocked):
                await SchemaLock(one, shared=True, patience_seconds=0).take()


async def is_locked(config):
    query = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND (classid::bigint << 32 | objid::bigint) = $1"
    )
    return (await ask(query, number_of_lock(config.schema_name)))[0][0] == 1


async def test_a_lock_whose_server_answers_no_more_makes_one_connection_at_a_time():
    server = postgres_server()
    async with counting_connects(server) as counter:
        pool = PostgresPool(counter.url, schema="of_a_lock", connect_seconds=0.5)
        lock = SchemaLock(pool, beat_seconds=0.5)
        await lock.take()
        server.freeze()
        try:
            await until(lambda: counter.made > 4)
        finally:
            server.thaw()
        await lock.close()
        await pool.close()

    assert counter.most == 1


async def test_a_server_whose_schema_another_has_taken_over_writes_nothing_until_that_is_gone(
    config,
):
    async with open_storage(config) as storage:
        assert isinstance(storage, OpenedPostgres)
        pool = storage.pool
        taker = await asyncpg.connect(config.url.get_secret_value())
        try:
            taking = asyncio.create_task(
                taker.execute(f"SELECT pg_advisory_lock({number_of_lock(config.schema_name)})")
            )
            await until(waits_for_a_lock)
            await terminate_backends(besides=taker.get_server_pid())
            await taking
            await until(lambda: pool.refusal is not None)
            records = storage.conversations.for_user(None)
            with pytest.raises(Unavailable, match="in use by another server"):
                await records.save_metadata(ConversationMetadata(conversation_id="c"))
            assert not await records.exists("c")
        finally:
            await taker.close()
        await until(lambda: pool.refusal is None)
        await records.save_metadata(ConversationMetadata(conversation_id="c"))


async def waits_for_a_lock():
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
    return (await ask(query))[0][0] > 0


async def test_a_sound_storage_is_found_sound_and_described(filled):
    assert await problems(filled) == []

    found = await described(filled)
    assert found.startswith("ok, 2 conversations, 20 events in PostgreSQL at ")


async def test_a_check_says_where_pages_have_no_checksums(filled):
    ((has_checksums,),) = await ask("SELECT current_setting('data_checksums')")
    with_checksums = PostgresServer(page_checksums=True)
    try:
        with_checksums.start()
        with_checksums.create()
        url = SecretStr(with_checksums.url)
        other = filled.model_copy(update={"url": url, "schema_name": "parley"})
        async with open_storage(other):
            pass
        found = await described(other)
    finally:
        with_checksums.remove()

    told = "pages have no checksums (data_checksums is off)"
    assert (told in await described(filled)) == (has_checksums == "off")
    assert told not in found
    assert found.startswith("ok, 0 conversations, 0 events in PostgreSQL at ")


async def test_a_schema_over_which_no_server_was_started_has_no_data_and_no_problem(config):
    fresh = config.model_copy(update={"schema_name": "parley_never"})

    assert await problems(fresh) == []
    assert (await described(fresh)).startswith("no data in PostgreSQL at ")


C = number_of("c")
DAMAGES = {
    "bodies": (
        "UPDATE parley.events SET body = 'x' WHERE number = parley.number_of('c') AND id IN (4, 5)",
        "damaged records 4-5 in conversation c",
    ),
    "a version": (
        "UPDATE parley.events SET version = 7 WHERE number = parley.number_of('c') AND id = 0",
        "damaged records 0-0 in conversation c",
    ),
    "an event that is gone": (
        "DELETE FROM parley.events WHERE number = parley.number_of('c') AND id = 4",
        "damaged records 4-4 in conversation c",
    ),
    "a head that is behind": (
        "UPDATE parley.heads SET next_id = 7 WHERE number = parley.number_of('c')",
        "damaged records 7-9 in conversation c: the head says it ends before 7",
    ),
    "a head that is ahead": (
        "UPDATE parley.heads SET next_id = 12 WHERE number = parley.number_of('c')",
        "damaged records 10-11 in conversation c: the head says it ends before 12",
    ),
    "a newest state": (
        "UPDATE parley.heads SET last_state_id = 3 WHERE number = parley.number_of('c')",
        "the head of conversation c has a damaged last_state_id: 3, where its events have None",
    ),
    "an id": (
        "UPDATE parley.heads SET conversation_id = 'e' WHERE number = parley.number_of('c')",
        f"the head of conversation e has a damaged number: {C}",
    ),
    "events of nothing": (
        "DELETE FROM parley.heads WHERE number = parley.number_of('c')",
        f"events 0-9 belong to no event of a conversation (number {C})",
    ),
    "a key": (
        "UPDATE parley.client_ids SET id = 10 WHERE number = parley.number_of('c')",
        f"keys 10-10 belong to no event of a conversation (number {C})",
    ),
    "a fold": (
        "UPDATE parley.heads SET last_updated_at = '2020-01-01T00:00:00.000000Z' WHERE conversation_id = 'c'",
        "the record of conversation c is not the fold of its log: last_updated_at",
    ),
    "no key": (
        "DELETE FROM parley.client_ids WHERE number = parley.number_of('c')",
        "damaged records 3-3 in conversation c: their idempotency keys are not in the index",
    ),
    "an aside": (
        "UPDATE parley.asides SET body = 'n' WHERE name = 'memory'",
        "the aside memory of conversation b fails its checksum",
    ),
    "the name of an aside": (
        "UPDATE parley.asides SET name = 'memori' WHERE name = 'memory'",
        "the aside memori of conversation b is none that a server writes",
    ),
    "an aside of nothing": (
        "UPDATE parley.asides SET number = 9 WHERE name = 'memory'",
        "the aside memory belongs to no conversation (number 9)",
    ),
    "a record": (
        "UPDATE parley.records SET pr_number = '{' WHERE conversation_id = 'c'",
        "the record of conversation c cannot be read",
    ),
    "secrets": (
        "UPDATE parley.user_records SET body = 'x'",
        "secrets of user",
    ),
    "an act": (
        "UPDATE parley.audit SET body = '{'",
        "cannot be read",
    ),
    "a manifest": (
        "UPDATE parley.workspaces SET manifest = 'x'",
        "the workspace of b",
    ),
    "a blob": (
        "UPDATE parley.workspace_blobs SET body = 'x'",
        "a blob of the workspace of b is damaged",
    ),
    "no blob": (
        "DELETE FROM parley.workspace_blobs",
        "the workspace of b lacks 1 of its blobs",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_check_names_damage(filled, damage):
    statement, named = DAMAGES[damage]
    await ask(statement, schema=filled.schema_name)

    found = await problems(filled)

    assert any(named in one for one in found), found


@pytest.mark.parametrize("damage", ["a fold", "no key", "a newest state"])
async def test_a_repair_makes_anew_what_is_derived_from_logs(filled, damage):
    await ask(DAMAGES[damage][0], schema=filled.schema_name)

    async with open_stores(filled) as stores:
        done = await repair(stores)
        found = await stores.events.find("c", digest_of("k"))

    assert len(done) == 1
    assert "conversation c" in done[0]
    assert found == 3
    assert await problems(filled) == []


async def test_another_key_is_named_by_a_check_and_opens_nothing(filled):
    other = filled.model_copy(update={"secret_key": SecretStr("another long text")})
    hint = "PARLEY_SECRET_KEY must be as it was"

    (problem,) = await problems(other)
    assert hint in problem
    with pytest.raises(WrongKey, match=hint):
        async with open_storage(other):
            pass


async def test_a_schema_of_a_newer_version_is_named_by_a_check_and_not_opened(tmp_path):
    async with postgres_storage(tmp_path) as other:
        config = other.model_copy(update={"schema_name": "parley_newer"})
        async with open_storage(config):
            pass
        await ask("INSERT INTO parley_newer.migrations VALUES (99, '0099_later.sql', '')")
        try:
            (problem,) = await problems(config)
            with pytest.raises(MigrationError, match="newer version"):
                async with open_storage(config):
                    pass
        finally:
            await ask("DROP SCHEMA parley_newer CASCADE")

    assert problem == "the database is from a newer version (migration 0099_later.sql)"


async def test_a_server_that_does_not_flush_is_refused(config):
    async def flushes():
        return (await ask("SHOW fsync"))[0][0] == "on"

    async def does_not_flush():
        return not await flushes()

    await ask("ALTER SYSTEM SET fsync = off")
    try:
        await ask("SELECT pg_reload_conf()")
        await until(does_not_flush)
        with pytest.raises(MigrationError, match="fsync=off"):
            async with open_storage(config):
                pass
    finally:
        await ask("ALTER SYSTEM RESET fsync")
        await ask("SELECT pg_reload_conf()")
        await until(flushes)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (
            f"postgresql://ann:{WORD}@db.example.org:6000,[::1]/talk?sslmode=require",
            "db.example.org:6000,[::1]/talk",
        ),
        (f"postgres://ann:{WORD}@/talk?host=/run/postgresql", "/run/postgresql/talk"),
        (f"postgresql://h?user=ann&password={WORD}&dbname=talk", "h/talk"),
        (f"postgresql:///?password={WORD}", "localhost"),
    ],
)
def test_the_place_of_a_database_names_nobody_and_no_password(url, place):
    assert place_of(url) == place


async def test_no_password_is_told_by_what_cannot_be_reached(tmp_path):
    server = postgres_server().folder
    urls = (
        f"postgresql://ann:{WORD}@127.0.0.1:1/talk",
        f"postgresql://ann:{WORD}@/nothing?host={server}",
        f"postgresql://ann:pass/{WORD}@h/talk",
        f"postgresql://ann:{WORD}@h/talk?port={WORD}",
        f"{WORD}://h/talk",
        f"postgresql://h/talk?sslmode={WORD}",
        f"postgresql://h/talk?password={WORD}&host={tmp_path}",
    )
    for url in urls:
        secret = SecretStr(url)
        config = PostgresStorage(url=secret, direct_url=secret, secret_key=SecretStr(WORD))
        with pytest.raises(Unavailable, match="PostgreSQL cannot be reached: ") as refused:
            async with open_storage(config):
                pass
        told = [str(refused.value), *await problems(config), repr(config), await described(config)]
        assert WORD not in "".join(told), told
