"""The statements of PostgreSQL's event store, and what of a log is not as they left it."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import pytest
from hypothesis import given, settings, strategies as st

from events.conformance.event_store import BusyWriter, Former
from events.conformance.records import append, key, record, records, summary_of
from events.errors import (
    AppendConflict,
    AppendFailed,
    AppendUnknown,
    DamagedHead,
    DamagedRecord,
    DuplicateClientId,
    EventsError,
    MasksChanged,
)
from events.event import EventFlag
from events.fence import Fence
from events.stores.base import MEMORY, Aside
from events.stores.memory import MemoryEventStore
from events.stores.postgres.store import PostgresEventStore
from events.summary import SummaryChange
from storage.database.migrate_postgres import migrate_postgres
from storage.database.postgres import PostgresPool, Sizes, number_of
from tests.support.postgres import (
    ask,
    open_postgres,
    other_transaction,
    postgres_server,
    without_autovacuum,
)
from tests.support.streams import log_of
from tests.support.waiting import until


@pytest.fixture
async def pool(tmp_path):
    async with open_postgres(tmp_path, deadline_seconds=60.0) as opened:
        yield opened


@pytest.fixture
async def store(pool):
    opened = PostgresEventStore(pool)
    yield opened
    await opened.close()


def locked(pool, conversation_id):
    lock = "SELECT FROM parley.heads WHERE number = $1 FOR UPDATE"
    return other_transaction(lock, number_of(conversation_id), schema=pool.schema)


async def test_a_log_that_another_has_locked_holds_no_other_up_and_is_waited_for(pool, store):
    names = [f"c{number}" for number in range(10)]
    await asyncio.gather(*(append(store, name, records(0, 1)) for name in names))

    async with locked(pool, "c4") as other:
        appends = {
            name: asyncio.ensure_future(append(store, name, records(1, 2))) for name in names
        }
        await asyncio.gather(*(one for name, one in appends.items() if name != "c4"))
        assert not appends["c4"].done()
        await other.execute("ROLLBACK")
        await appends["c4"]

    for name in names:
        assert await log_of(store, name) == records(0, 1) + records(1, 2)


async def test_a_single_event_for_a_locked_log_is_waited_for_too(pool, store):
    await append(store, "c", records(0, 1))
    async with locked(pool, "c") as other:
        waiting = asyncio.ensure_future(append(store, "c", records(1, 1)))
        await append(store, "d", records(0, 1))
        assert not waiting.done()
        await other.execute("ROLLBACK")
        await waiting

    assert await log_of(store) == records(0, 2)


async def test_a_log_that_stays_locked_is_told_as_not_written(pool, store):
    await append(store, "c", records(0, 1))
    async with locked(pool, "c"):
        with pytest.raises(AppendFailed, match="lock"):
            await append(store, "c", records(1, 1))

    assert await log_of(store) == records(0, 1)


async def test_an_append_of_unknown_outcome_may_land_and_is_read_behind_a_barrier_until_the_next(
    pool, store
):
    await append(store, "c", records(0, 1))
    taken = "INSERT INTO parley.events VALUES ($1, 1, 1, 0, 0, '')"

    async with other_transaction(taken, number_of("c"), schema=pool.schema) as other:
        pool.deadline_seconds = 0.5
        with pytest.raises(AppendUnknown):
            await append(store, "c", records(1, 1))
        pool.deadline_seconds = 60.0
        before = await passed(pool)
        assert (await store.head("c")).next_id == 1
        assert await passed(pool) == before + 1
        await other.execute("ROLLBACK")

        async def landed():
            return (await store.head("c")).next_id == 2

        await until(landed)
    assert await store.read("c", 0, 9) == records(0, 2)
    assert await passed(pool) > before + 2
    await append(store, "c", records(2, 1))
    before = await passed(pool)
    assert await log_of(store) == records(0, 3)
    assert await passed(pool) == before


async def passed(pool):
    return (await ask("SELECT passed FROM parley.barrier", schema=pool.schema))[0][0]


async def test_beside_another_process_that_appends_without_a_pause_one_always_gets_in(
    tmp_path, record_property
):
    async with open_postgres(tmp_path) as pool, open_postgres(tmp_path) as other_pool:
        store, other = PostgresEventStore(pool), PostgresEventStore(other_pool)
        busy = BusyWriter(store, "c")
        busy.begin()
        formers = [Former("other") for _ in range(25)]
        for former in formers:
            await other.append_next("c", former)
            assert len(former.heads) == 1
            await busy.go_on()
        await busy.end()

        events = await log_of(other)
        others = {former.heads[0].next_id for former in formers}
        assert events == [
            record(event_id, "other" if event_id in others else "busy")
            for event_id in range(25 + busy.appended)
        ]
        record_property("figures", f"25 events got in among {busy.appended}")
        await store.close()
        await other.close()


async def test_an_id_whose_number_is_another_ids_is_refused_and_reads_as_unknown(pool, store):
    make = "INSERT INTO parley.heads (number, conversation_id) VALUES ($1, 'another')"
    await ask(make, number_of("c"), schema=pool.schema)

    with pytest.raises(AppendFailed, match="another"):
        await append(store, "c", records(0, 1))
    with pytest.raises(AppendFailed, match="another"):
        await store.append_next("c", Former())

    assert (await store.head("c")).epoch == ""
    await store.put_asides([Aside("c", MEMORY, b"m")])
    await store.delete("c")
    assert not (await store.head("another")).deleted
    assert (await ask("SELECT count(*) FROM parley.asides", schema=pool.schema))[0][0] == 0


async def test_a_damaged_event_is_named_with_those_around_it(pool, store):
    await append(store, "c", records(0, 5))
    change = "UPDATE parley.events SET body = body || 'x' WHERE number = $1 AND id IN (1, 2)"
    await ask(change, number_of("c"), schema=pool.schema)

    for read in (store.read("c", 0, 5), store.read_many([("c", 0, 5)])):
        with pytest.raises(DamagedRecord) as caught:
            await read
        assert (caught.value.first_id, caught.value.last_id) == (1, 2)
        assert [one.id for one in caught.value.sound] == [0, 3, 4]


async def test_a_head_that_disagrees_with_its_events_is_damaged_and_harms_no_neighbour(pool, store):
    for name in ("short", "long", "whole"):
        await append(store, name, records(0, 3))
    drop = "DELETE FROM parley.events WHERE number = $1 AND id = 2"
    await ask(drop, number_of("short"), schema=pool.schema)
    back = "UPDATE parley.heads SET next_id = 2 WHERE number = $1"
    await ask(back, number_of("long"), schema=pool.schema)

    for name in ("short", "long"):
        with pytest.raises(DamagedHead) as caught:
            await store.head(name)
        assert (caught.value.first_id, caught.value.last_id) == (2, 2)
    outcomes = await asyncio.gather(
        append(store, "long", records(2, 1)),
        append(store, "whole", records(3, 1)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], DamagedHead)
    assert outcomes[1] is None
    assert await log_of(store, "whole") == records(0, 4)


async def test_a_value_that_cannot_be_stored_fails_its_own_append_only(store):
    bad = SummaryChange(0, last_updated_at="2026-\x00")
    outcomes = await asyncio.gather(
        store.append("bad", 0, records(0, 1), summary=bad),
        *(append(store, f"c{number}", records(0, 1)) for number in range(5)),
        return_exceptions=True,
    )

    assert isinstance(outcomes[0], AppendFailed)
    assert outcomes[1:] == [None] * 5


async def append_in_turns(store):
    """Append 30 times to 20 logs: to half one event, to half two that change all a head can have."""
    for turn in range(30):
        first_id, last_id = 2 * turn, 2 * turn + 1
        moment = f"2026-05-04T13:00:{turn:02}.000000Z"
        change = SummaryChange(last_id, moment, turn / 2, turn, turn, turn, last_id, moment)
        events = [record(first_id), record(last_id, flag=EventFlag.STATE)]
        named = {"summary": change, "fence": Fence(turn + 1, 1), "masks": turn}
        await asyncio.gather(
            *(append(store, f"short {one}", records(turn, 1)) for one in range(10)),
            *(store.append(f"long {one}", first_id, events, **named) for one in range(10)),
        )


async def test_appends_change_heads_in_their_place(record_property):
    # A page keeps what a snapshot may still read, or what another looks at, and is full the sooner:
    # here nobody else does, neither a second connection nor an analysis of the tables.
    name = "parley_in_place"
    alone = Sizes(append=1)
    async with without_autovacuum():
        pool = PostgresPool(postgres_server().url, schema=name, sizes=alone, deadline_seconds=60.0)
        try:
            await migrate_postgres(pool)
            store = PostgresEventStore(pool)
            await append_in_turns(store)
            await store.close()
            await pool.close()
            # Backends tell their statistics when they end.
            await until(partial(heads_changed, name))
            ((updated, in_place),) = await heads_changed(name)
        finally:
            await pool.close()
            await ask(f"DROP SCHEMA IF EXISTS {name} CASCADE")

    record_property("figures", f"{in_place} of {updated} updates of heads in their place")
    assert in_place / updated >= 0.99


async def heads_changed(schema):
    query = (
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
        " WHERE relname = 'heads' AND schemaname = $1 AND n_tup_upd >= 600"
    )
    return await ask(query, schema)


NAMES = ("a", "b", "c")
STEPS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from((0, 0, 0, 0, -1, 1)),
            st.integers(1, 3),
            st.sets(st.sampled_from("xyz"), max_size=2),
            st.none() | st.builds(Fence, st.integers(1, 3), st.integers(1, 2)),
            st.none() | st.integers(0, 2),
            st.sampled_from((EventFlag.PLAIN, EventFlag.PLAIN, EventFlag.STATE)),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda one: one[0],
    ),
    min_size=1,
    max_size=12,
)
"""Groups of appends, one to a log: how far from its end, how many, keys, claim, masks, flag."""


def told(outcome):
    """The content of an outcome."""
    match outcome:
        case DuplicateClientId():
            return "taken", outcome.taken
        case MasksChanged():
            return "masks", outcome.version
        case EventsError():
            return type(outcome)
        case _:
            return None


def compared(head):
    return head.next_id, head.last_state_id, head.fence, head.last_timestamp, head.masks


async def run_groups(store, groups, prefix):
    model = MemoryEventStore()
    for group in groups:
        asked = []
        for name, off, count, keys, fence, masks, flag in group:
            first_id = max(0, (await model.head(prefix + name)).next_id + off)
            events = [record(first_id + one, flag=flag) for one in range(count)]
            places = dict(enumerate(map(key, sorted(keys)[:count])))
            named = {"keys": places, "fence": fence, "masks": masks}
            where = (prefix + name, first_id, events)
            asked.append((where, {"summary": summary_of(events), **named}))
        expected, found = [
            await asyncio.gather(
                *(one.append(*where, **what) for where, what in asked), return_exceptions=True
            )
            for one in (model, store)
        ]
        assert list(map(told, found)) == list(map(told, expected))
    for name in (prefix + one for one in NAMES):
        assert compared(await store.head(name)) == compared(await model.head(name))
        assert await log_of(store, name) == await log_of(model, name)
        for one in "xyz":
            assert await store.find(name, key(one)) == await model.find(name, key(one))


def test_groups_of_appends_have_the_outcomes_of_the_reference(tmp_path, record_property):
    outcomes = 0

    @given(STEPS)
    @settings(max_examples=150, database=None, derandomize=True)
    def try_groups(groups):
        nonlocal outcomes
        outcomes += sum(map(len, groups))
        runner.run(run_groups(store, groups, f"{outcomes}."))

    async def open_store(stack):
        pool = await stack.enter_async_context(open_postgres(tmp_path))
        opened = PostgresEventStore(pool)
        stack.push_async_callback(opened.close)
        return opened

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        store = runner.run(open_store(stack))
        try_groups()
        runner.run(stack.aclose())
    record_property("figures", f"{outcomes} outcomes as the reference has them")


async def test_an_append_behind_a_refused_one_of_its_log_is_decided_by_itself(store):
    await append(store, "c", records(0, 1))

    outcomes = await asyncio.gather(
        append(store, "c", records(1, 1)),
        append(store, "c", records(1, 1, "late")),
        append(store, "c", records(2, 1)),
        return_exceptions=True,
    )

    assert [type(one) for one in outcomes] == [type(None), AppendConflict, type(None)]
    assert await log_of(store) == records(0, 3)
