"""Sealed pages of PostgreSQL: what is sealed, by whom, and that no reader sees the difference."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings, strategies as st

from events.conformance.event_store import Former
from events.conformance.records import append, record, records
from events.errors import DamagedHead, DamagedRecord
from events.event import EventFlag, StoredEvent
from events.stores.opening import storage_problems
from events.stores.postgres.pages import PAGE_BYTES
from events.stores.postgres.store import PostgresEventStore
from storage.backends.postgres import OpenedPostgres
from storage.database.migrate_postgres import POSTGRES_MIGRATIONS, migrate_postgres
from storage.database.postgres import PostgresPool, Role, number_of
from storage.opening import open_storage
from tests.support.postgres import (
    ask,
    open_postgres,
    other_transaction,
    postgres_server,
    postgres_storage,
    terminate_backends,
)
from tests.support.streams import log_of
from tests.support.waiting import until

PAGE = 7
"""Events of a page in these tests."""
C = number_of("c")


@pytest.fixture
async def pool(tmp_path):
    async with open_postgres(tmp_path, deadline_seconds=60.0) as opened:
        yield opened


@pytest.fixture
async def store(pool):
    opened = PostgresEventStore(pool, page_events=PAGE)
    yield opened
    await opened.close()


async def fill(store, count, name="c"):
    """Make a log of so many events, sealed as far as it is due."""
    await append(store, name, records(0, count))
    await store.finish_sealing()


async def pages_of(pool, name="c"):
    """The first id and the number of events of each page."""
    query = "SELECT first_id, count FROM parley.pages WHERE number = $1 ORDER BY first_id"
    return [tuple(row) for row in await ask(query, number_of(name), schema=pool.schema)]


async def rows_of(pool, name="c"):
    """The ids of the events that are rows."""
    query = "SELECT id FROM parley.events WHERE number = $1 ORDER BY id"
    return [event_id for (event_id,) in await ask(query, number_of(name), schema=pool.schema)]


async def seal(pool, name="c"):
    """Try to seal one page, as any node does; whether it was sealed."""
    ((sealed,),) = await pool.fetch(Role.RECORD, "seal_page", number_of(name), PAGE, PAGE_BYTES)
    return sealed


SEAL = f"SELECT parley.seal_page({C}, {PAGE}, {PAGE_BYTES})"
BURY = f"SELECT parley.bury_log({C}, 'c')"
BEGIN_APPEND = f"SELECT FROM parley.heads WHERE number = {C} FOR NO KEY UPDATE"


async def sealing_waits():
    """Whether a sealer waits for somebody's lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND query LIKE '%seal_page%'"
    )
    return (await ask(query))[0][0] > 0


async def test_every_range_of_a_sealed_log_reads_as_it_was_written(store, pool):
    written = records(0, 5 * PAGE + 3)
    await fill(store, len(written))
    assert len(await pages_of(pool)) == 4

    for start_id in range(len(written)):
        for end_id in range(start_id + 1, len(written) + 2):
            expected = written[start_id:end_id]
            assert await store.read("c", start_id, end_id) == expected
            size = sum(len(one.body) for one in expected[:4])
            assert await store.read_part("c", start_id, end_id, size) == expected[:4]
    ranges = [("c", start_id, start_id + 9) for start_id in range(len(written))]
    assert await store.read_many(ranges) == [written[one : one + 9] for _, one, _ in ranges]
    assert (await store.head("c")).next_id == len(written)


async def test_the_newest_complete_page_and_what_follows_it_stay_rows(store, pool):
    for end_id, pages in ((2 * PAGE - 1, 0), (2 * PAGE, 1), (3 * PAGE - 1, 1), (3 * PAGE, 2)):
        first_id = (await store.head("c")).next_id
        await append(store, "c", records(first_id, end_id - first_id))
        await store.finish_sealing()

        assert await pages_of(pool) == [(page * PAGE, PAGE) for page in range(pages)]
        assert await rows_of(pool) == list(range(pages * PAGE, end_id))


async def test_what_is_appended_at_the_end_of_a_log_is_sealed_as_well(store, pool):
    await append(store, "c", records(0, PAGE))
    await store.append_next("c", Former(count=PAGE))
    await store.finish_sealing()

    assert await pages_of(pool) == [(0, PAGE)]


async def test_long_events_make_several_pages_and_a_part_ends_with_the_event_that_fills_it(
    store, pool
):
    text = "x" * (PAGE_BYTES // 5)  # which an event holds twice
    written = [record(one, text) for one in range(3 * PAGE)]
    await append(store, "c", written)
    await store.finish_sealing()

    assert [count for _, count in await pages_of(pool)] == [3, 2, 2, 3, 2, 2]
    for start_id in range(2 * PAGE):
        for count in range(1, 6):
            expected = written[start_id : start_id + count]
            limit_bytes = sum(len(one.body) for one in expected)
            assert await store.read_part("c", start_id, 99, limit_bytes) == expected
    assert await store.read("c", 0, 99) == written


async def test_an_event_longer_than_a_page_is_a_page(store, pool):
    written = [record(one, "x" * PAGE_BYTES if one == 2 else "") for one in range(2 * PAGE)]
    await append(store, "c", written)
    await store.finish_sealing()

    assert [count for _, count in await pages_of(pool)] == [3, PAGE - 3]
    assert await log_of(store) == written


async def test_flags_come_back(store):
    flags = (EventFlag.PLAIN, EventFlag.STATE, EventFlag.SPECIAL)
    written = [record(one, flag=flags[one % 3]) for one in range(2 * PAGE)]
    await append(store, "c", written)
    await store.finish_sealing()

    assert await log_of(store) == written


async def test_what_another_node_seals_is_read_once_and_nobody_waits_for_it(store, pool):
    unaware = PostgresEventStore(pool)
    await append(unaware, "c", records(0, 3 * PAGE))
    async with other_transaction(SEAL, schema=pool.schema) as other:
        assert not await seal(pool)
        assert await log_of(unaware) == records(0, 3 * PAGE)
        assert await pages_of(pool) == []
        await other.execute("COMMIT")
        assert await pages_of(pool) == [(0, PAGE)]
        assert await log_of(unaware) == records(0, 3 * PAGE)
    assert await seal(pool)
    assert await log_of(unaware) == records(0, 3 * PAGE)
    await unaware.close()


async def test_a_sealer_that_ends_before_its_commit_has_changed_nothing(store, pool):
    unaware = PostgresEventStore(pool)
    await append(unaware, "c", records(0, 2 * PAGE))
    async with other_transaction(BEGIN_APPEND, schema=pool.schema) as other:
        sealing = asyncio.create_task(seal(pool))
        await until(sealing_waits)  # all is done but the change of the head
        assert await log_of(unaware) == records(0, 2 * PAGE)
        await terminate_backends(besides=other.get_server_pid())
        await asyncio.wait([sealing])
        assert sealing.exception() is not None
    assert await pages_of(pool) == []
    assert await log_of(unaware) == records(0, 2 * PAGE)
    assert await seal(pool)
    assert await log_of(unaware) == records(0, 2 * PAGE)
    await unaware.close()


async def test_an_append_under_way_is_not_in_the_way_of_a_sealer_that_comes_after_it(store, pool):
    unaware = PostgresEventStore(pool)
    await append(unaware, "c", records(0, 2 * PAGE))
    async with other_transaction(BEGIN_APPEND, schema=pool.schema) as other:
        sealing = asyncio.create_task(seal(pool))
        await until(sealing_waits)
        await other.execute("COMMIT")
        assert await sealing
    await unaware.close()


async def test_a_log_that_is_deleted_meanwhile_is_not_sealed(store, pool):
    unaware = PostgresEventStore(pool)
    await append(unaware, "c", records(0, 2 * PAGE))
    async with other_transaction(BURY, schema=pool.schema) as other:
        sealing = asyncio.create_task(seal(pool))
        await until(sealing_waits)
        await other.execute("COMMIT")
        assert not await sealing
    assert not await seal(pool)
    assert await pages_of(pool) == []
    await unaware.close()


async def test_a_deletion_drops_the_pages_of_its_log_and_of_no_other(store, pool):
    await fill(store, 30 * PAGE)
    await fill(store, 3 * PAGE, "other")

    await store.delete("c")

    assert await pages_of(pool) == []
    assert await rows_of(pool) == []
    assert await store.read("c", 0, 99) == []
    assert await log_of(store, "other") == records(0, 3 * PAGE)


async def test_a_deletion_that_was_cut_short_drops_the_pages_at_the_next_start(store, pool):
    await fill(store, 3 * PAGE)
    await ask(BURY, schema=pool.schema)
    assert await store.read("c", 0, 99) == []

    assert await store.finish_deletions() == 1
    assert await pages_of(pool) == []


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM parley.events WHERE number = $1 AND id = 3",
        "UPDATE parley.events SET version = 7 WHERE number = $1 AND id = 3",
    ],
    ids=["hole", "version"],
)
async def test_a_page_with_a_damaged_event_stays_rows(store, pool, damage):
    unaware = PostgresEventStore(pool)
    await append(unaware, "c", records(0, 2 * PAGE))
    await ask(damage, C, schema=pool.schema)
    before = await rows_of(pool)

    assert not await seal(pool)

    assert await pages_of(pool) == []
    assert await rows_of(pool) == before
    await unaware.close()


async def test_an_event_whose_checksum_is_wrong_is_named_before_and_after_it_is_sealed(store, pool):
    unaware = PostgresEventStore(pool)
    await append(unaware, "c", records(0, 2 * PAGE))
    change = "UPDATE parley.events SET body = body || 'x' WHERE number = $1 AND id = 3"
    await ask(change, C, schema=pool.schema)

    assert await seal(pool)

    with pytest.raises(DamagedRecord) as caught:
        await store.read("c", 1, 6)
    assert (caught.value.first_id, caught.value.last_id) == (3, 3)
    assert [one.id for one in caught.value.sound] == [1, 2, 4, 5]
    await unaware.close()


@pytest.mark.parametrize(
    ("damage", "asked", "named"),
    [
        ("body = substr(body, 1, 40)", (0, 99), (7, 13)),
        ("body = substr(body, 1, 90)", (9, 12), (9, 11)),
        ("body = set_byte(body, 45, get_byte(body, 45) # 1)", (0, 99), (7, 13)),
        ("body = set_byte(body, 16, get_byte(body, 16) # 1)", (0, 99), (7, 7)),
        ("body = set_byte(body, 100, get_byte(body, 100) # 1)", (0, 99), (7, 7)),
        ("body = set_byte(body, length(body) - 5, 0)", (5, 20), (13, 13)),
        ("count = count - 1", (0, 99), (7, 12)),
    ],
)
async def test_damage_to_a_page_is_named_with_its_range_and_harms_nothing_beside_it(
    store, pool, damage, asked, named
):
    await fill(store, 4 * PAGE)
    where = "WHERE number = $1 AND first_id = 7"
    await ask(f"UPDATE parley.pages SET {damage} {where}", C, schema=pool.schema)  # noqa: S608

    for read in (store.read("c", *asked), store.read_many([("c", *asked)])):
        with pytest.raises(DamagedRecord) as caught:
            await read
        assert (caught.value.first_id, caught.value.last_id) == named
        around = [one.id for one in caught.value.sound if not 7 <= one.id < 14]
        whole = range(asked[0], min(asked[1], 4 * PAGE))
        assert around == [one for one in whole if not 7 <= one < 14]


async def test_a_head_that_went_back_into_a_page_gives_none_of_its_ids_again(store, pool):
    await fill(store, 3 * PAGE)
    query = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::regclass"
    named = f"{query} AND conname = 'heads_sealed'"
    ((condition,),) = await ask(named, f"{pool.schema}.heads")
    await ask("ALTER TABLE parley.heads DROP CONSTRAINT heads_sealed", schema=pool.schema)
    await ask("UPDATE parley.heads SET next_id = 3", schema=pool.schema)
    add = f"ALTER TABLE parley.heads ADD CONSTRAINT heads_sealed {condition}"
    await ask(add, schema=pool.schema)

    for events in (records(3, 1), records(3, 2)):
        with pytest.raises(DamagedHead):
            await append(store, "c", events)


async def test_a_log_whose_rows_are_gone_ends_with_its_pages(store, pool):
    await fill(store, 3 * PAGE)
    await ask("DELETE FROM parley.events WHERE number = $1", C, schema=pool.schema)

    with pytest.raises(DamagedHead) as caught:
        await store.head("c")
    assert (caught.value.first_id, caught.value.last_id) == (2 * PAGE, 3 * PAGE - 1)


async def test_pages_that_a_crash_left_unsealed_are_found_when_the_log_is_opened(store, pool):
    unaware = PostgresEventStore(pool)
    await append(unaware, "c", records(0, 4 * PAGE))
    await unaware.close()

    await store.head("c")
    await store.finish_sealing()

    assert len(await pages_of(pool)) == 3
    assert await log_of(store) == records(0, 4 * PAGE)


async def test_sealing_stops_when_it_fails_and_goes_on_with_an_append_that_succeeds(store, pool):
    rename = "ALTER FUNCTION parley.{} RENAME TO {}"
    await ask(rename.format("seal_page", "hidden"), schema=pool.schema)
    await fill(store, 2 * PAGE)
    assert await pages_of(pool) == []
    await ask(rename.format("hidden", "seal_page"), schema=pool.schema)
    next_id = 0

    async def is_sealed():
        nonlocal next_id
        await append(store, "other", records(next_id, 1))
        next_id += 1
        return await pages_of(pool) == [(0, PAGE)]

    await until(is_sealed)


async def test_nothing_is_sealed_where_an_older_server_may_read(store, pool):
    await ask("DELETE FROM parley.sealing", schema=pool.schema)
    try:
        await fill(store, 3 * PAGE)
        assert await pages_of(pool) == []
    finally:
        await ask("INSERT INTO parley.sealing DEFAULT VALUES", schema=pool.schema)


async def test_sealing_waits_for_a_contract_but_in_a_schema_that_is_new(tmp_path):
    older = tmp_path / "migrations"
    older.mkdir()
    for one in POSTGRES_MIGRATIONS.iterdir():
        if one.name < "0012":
            (older / one.name).write_text(one.read_text())

    async def is_allowed(pool):
        count = "SELECT count(*) FROM parley.sealing"
        return (await ask(count, schema=pool.schema))[0][0] == 1

    async with open_postgres(tmp_path) as fresh:
        assert await is_allowed(fresh)
    pool = PostgresPool(postgres_server().url, schema="parley_older")
    try:
        await migrate_postgres(pool, older)
        await migrate_postgres(pool)
        assert not await is_allowed(pool)
        await migrate_postgres(pool, contract=True)
        assert await is_allowed(pool)
    finally:
        await pool.close()
        await ask("DROP SCHEMA IF EXISTS parley_older CASCADE")


async def best_compression():
    """The best that the server was built with."""
    query = (
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    )
    return "lz4" if (await ask(query))[0][0] else "pglz"


async def compress_by(pool, method):
    for part in range(16):
        statement = f"ALTER TABLE parley.pages_{part} ALTER body SET COMPRESSION {method}"
        await ask(statement, schema=pool.schema)


async def sealed_text(store, pool):
    """A sealed page of a repeated text: how it is compressed, its size there, and its length."""
    await append(store, "c", [record(one, "all work and no play " * 50) for one in range(2 * PAGE)])
    await store.finish_sealing()
    query = (
        "SELECT pg_column_compression(body), pg_column_size(body), length(body) FROM parley.pages"
    )
    return tuple((await ask(query, schema=pool.schema))[0])


async def test_pages_are_compressed_by_the_best_that_the_server_was_built_with(store, pool):
    method, size, length = await sealed_text(store, pool)

    assert method == await best_compression()
    assert size < length / 4


async def test_pages_of_a_server_without_lz4_read_the_same(store, pool):
    await compress_by(pool, "pglz")
    try:
        method, size, length = await sealed_text(store, pool)
    finally:
        await compress_by(pool, await best_compression())

    assert method == "pglz"
    assert size < length / 4
    assert len(await log_of(store)) == 2 * PAGE


async def test_sealing_changes_heads_in_their_place(tmp_path, record_property):
    async with open_postgres(tmp_path) as pool:
        store = PostgresEventStore(pool, page_events=PAGE)
        for first_id in range(0, 10 * PAGE, PAGE):
            await asyncio.gather(
                *(append(store, f"c{one}", records(first_id, PAGE)) for one in range(20))
            )
            await store.finish_sealing()
        await store.close()
        schema = pool.schema

    async def counted():
        query = (
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
            " WHERE relname = 'heads' AND schemaname = $1 AND n_tup_upd >= 380"
        )
        return await ask(query, schema)

    await until(counted)  # backends tell their statistics when they end
    ((updated, in_place),) = await counted()
    record_property("figures", f"{in_place} of {updated} updates of heads in their place")
    # A page of the table keeps what an open snapshot may still read: a few updates need another.
    assert in_place / updated >= 0.95


@pytest.fixture
async def filled(tmp_path):
    """A closed storage with a sealed log, and its schema."""
    async with postgres_storage(tmp_path) as config:
        async with open_storage(config) as storage:
            assert isinstance(storage, OpenedPostgres)
            store = PostgresEventStore(storage.pool, page_events=PAGE)
            await fill(store, 4 * PAGE)
            await store.close()
        yield config


async def problems(config):
    return await asyncio.to_thread(storage_problems, config)


async def test_a_sealed_storage_is_found_sound(filled):
    assert await problems(filled) == []


CHECKED = {
    "a page that is gone": (
        "DELETE FROM parley.pages WHERE first_id = 7",
        "damaged records 7-13 in conversation c",
    ),
    "a page cut short": (
        "UPDATE parley.pages SET body = substr(body, 1, 40) WHERE first_id = 7",
        "damaged records 7-13 in conversation c",
    ),
    "an event in a page": (
        "UPDATE parley.pages SET body = set_byte(body, 100, 0) WHERE first_id = 7",
        "damaged records 7-7 in conversation c",
    ),
    "a page of nothing": (
        "UPDATE parley.pages SET number = 5 WHERE first_id = 0",
        "pages with events 0-6 belong to no event of a conversation (number 5)",
    ),
    "an event that is in a page, too": (
        "INSERT INTO parley.events SELECT number, 8, 1, 0, 0, '' FROM parley.heads",
        f"events 8-8 belong to no event of a conversation (number {C})",
    ),
    "a head that knows too few pages": (
        "UPDATE parley.heads SET sealed = 14",
        f"pages with events 14-20 belong to no event of a conversation (number {C})",
    ),
    "a head that knows too many pages": (
        "UPDATE parley.heads SET sealed = 28",
        f"events 21-27 belong to no event of a conversation (number {C})",
    ),
}


@pytest.mark.parametrize("damage", CHECKED)
async def test_a_check_names_damage_to_pages(filled, damage):
    statement, named = CHECKED[damage]
    await ask(statement, schema=filled.schema_name)

    found = await problems(filled)

    assert any(named in one for one in found), found


NAMES = ("a", "b")
STEPS = st.lists(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.sampled_from(NAMES), st.integers(1, 4 * PAGE)),
            st.tuples(st.just("next"), st.sampled_from(NAMES), st.integers(1, PAGE)),
            st.tuples(st.just("read"), st.sampled_from(NAMES), st.integers(0, 8 * PAGE)),
            st.tuples(st.just("part"), st.sampled_from(NAMES), st.integers(0, 8 * PAGE)),
            st.tuples(st.just("many"), st.sampled_from(NAMES), st.integers(0, 8 * PAGE)),
            st.tuples(st.just("seal"), st.sampled_from(NAMES), st.integers(0, 1)),
            st.tuples(st.just("delete"), st.just("b"), st.just(0)),
        ),
        min_size=2,
        max_size=8,
    ),
    min_size=1,
    max_size=8,
)
"""Groups of calls at once, over two nodes in turns: what, in which log, and a number for it."""


class Race:
    """Two nodes over one schema, beside a plain list of events for each log."""

    def __init__(self, pools, stores, prefix):
        self._pools, self._stores, self._prefix = pools, stores, prefix
        self._logs: dict[str, list[StoredEvent]] = {name: [] for name in NAMES}
        self._deleted: set[str] = set()

    async def run(self, groups):
        for group in groups:
            self._deleted |= {name for what, name, _ in group if what == "delete"}
            committed = {name: len(log) for name, log in self._logs.items()}
            writes: dict[str, list[tuple[str, int]]] = {name: [] for name in NAMES}
            for what, name, count in group:
                if what in ("append", "next"):
                    writes[name].append((what, count))
            await asyncio.gather(
                *(self._write(*one) for one in writes.items() if one[0] not in self._deleted),
                *(
                    self._beside(place % 2, what, name, number, committed[name])
                    for place, (what, name, number) in enumerate(group)
                ),
            )
        for name, log in self._logs.items():
            for store in self._stores:
                expected = [] if name in self._deleted else log
                assert await store.read(self._prefix + name, 0, 10_000) == expected

    async def _write(self, name, calls):
        """Append what the calls ask for, one after the other, over one node and the other."""
        log = self._logs[name]
        for place, (what, count) in enumerate(calls):
            store, events = self._stores[place % 2], records(len(log), count)
            if what == "append":
                await append(store, self._prefix + name, events)
            else:
                await store.append_next(self._prefix + name, Former(count=count))
            log += events

    async def _beside(self, node, what, name, number, committed):
        """Do something beside the writers; what is read was committed before them."""
        store, conversation_id = self._stores[node], self._prefix + name
        end_id = min(number + 2 * PAGE, committed)
        expected = records(number, max(0, end_id - number))
        match what:
            case "read":
                found = await store.read(conversation_id, number, end_id)
            case "part":
                expected = expected[:5]
                size = sum(len(one.body) for one in expected)
                found = await store.read_part(conversation_id, number, end_id, size)
            case "many":
                (found,) = await store.read_many([(conversation_id, number, end_id)])
            case "seal":
                await seal(self._pools[node], conversation_id)
                return
            case "delete":
                await store.delete(conversation_id)
                return
            case _:
                return
        if name in self._deleted:
            assert found in ([], expected)
        else:
            assert found == expected


def test_appends_reads_and_sealing_of_two_nodes_at_once_leave_every_log_as_a_list(
    tmp_path, record_property
):
    calls = 0

    async def open_nodes(stack):
        pools = [await stack.enter_async_context(open_postgres(tmp_path)) for _ in range(2)]
        stores = [PostgresEventStore(pool, page_events=PAGE) for pool in pools]
        for store in stores:
            stack.push_async_callback(store.close)
        return pools, stores

    @given(STEPS)
    @settings(max_examples=80, database=None, derandomize=True)
    def race(groups):
        nonlocal calls
        runner.run(Race(pools, stores, f"{calls}.").run(groups))
        calls += sum(map(len, groups))

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        pools, stores = runner.run(open_nodes(stack))
        race()
        query = "SELECT count(*) FROM parley.pages"
        ((pages,),) = runner.run(ask(query, schema=pools[0].schema))
        runner.run(stack.aclose())
    assert pages > 0
    record_property("figures", f"{calls} calls, {pages} pages left of logs not deleted")
