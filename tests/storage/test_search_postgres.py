"""The tables of a search index in PostgreSQL: versions, deadlines, refusals, owners and both plans."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from storage.conformance.search_index import entry, found_by, ids, put, state
from storage.database.postgres import Role, number_of, queries_in
from storage.errors import SearchBusy, SearchTooSlow, Unavailable
from storage.search import postgres as room
from storage.search.base import MAX_PLACE, EntryKind, LogChange, SearchQuery
from storage.search.memory import MemorySearchIndex
from storage.search.postgres import PostgresSearchIndex
from storage.search.queue import SEARCHES, WAITING
from storage.search.words import phrases_of
from tests.support.postgres import ask, open_postgres, other_transaction
from tests.support.waiting import until

WORDS = ("red", "fox", "hen", "\N{CJK UNIFIED IDEOGRAPH-6771}")
LIMITS = ((1, 1), (3, 2), (1_000, 1), (1, 1_000))


@pytest.fixture
async def pool(tmp_path):
    async with open_postgres(tmp_path) as opened:
        yield opened


@pytest.fixture
async def index(pool):
    return await PostgresSearchIndex.open(pool)


async def rows(pool, query):
    return await ask(query, schema=pool.schema)


def locked(pool, statement):
    """Return a transaction of somebody else that holds a lock."""
    return other_transaction(statement, schema=pool.schema)


async def test_an_index_of_another_version_is_made_anew(pool, index):
    await put(index, "c1", entry(0, "word"))
    await rows(pool, "COMMENT ON TABLE parley.search_logs IS 'another'")

    again = await PostgresSearchIndex.open(pool)

    assert await again.conversations("", 10) == []
    await put(again, "c1", entry(0, "word"))
    assert await ids(await PostgresSearchIndex.open(pool), "word") == [0]


async def test_a_search_that_takes_too_long_is_given_up(pool, index):
    await put(index, "c1", entry(0, "word"))
    slow = await PostgresSearchIndex.open(pool, find_seconds=0.05)

    async with locked(pool, "LOCK TABLE parley.search_entries"):
        with pytest.raises(SearchTooSlow, match="rarer"):
            await found_by(slow, "word")

    assert await ids(index, "word") == [0]


async def test_searches_that_would_wait_too_long_are_refused(index):
    await put(index, "c1", entry(0, "word"))
    searches = [found_by(index, "word", owner=f"u{number}") for number in range(200)]

    outcomes = await asyncio.gather(*searches, return_exceptions=True)

    refused = [one for one in outcomes if isinstance(one, SearchBusy)]
    assert len(refused) == 200 - WAITING
    assert await ids(index, "word") == [0]


async def test_searches_whose_clients_are_gone_keep_their_slots_until_they_have_ended(pool):
    index = await PostgresSearchIndex.open(pool, find_seconds=600.0)
    await put(index, "c1", entry(0, "word"))

    async with locked(pool, "LOCK TABLE parley.search_entries"):
        searches = [
            asyncio.create_task(found_by(index, "word", owner=f"u{number}"))
            for number in range(3 * SEARCHES)
        ]
        await until(lambda: waits(pool, SEARCHES))
        for search in searches:
            search.cancel()
        _, pending = await asyncio.wait(searches, timeout=0)

    assert pending == {*searches[:SEARCHES]}
    outcomes = await asyncio.gather(*searches, return_exceptions=True)
    assert {type(one) for one in outcomes} == {asyncio.CancelledError}
    assert await ids(index, "word") == [0]


async def test_what_is_erased_leaves_no_row(pool, index):
    await put(index, "c1", entry(0, "canary"), entry(1, "canary"))
    await put(index, "c1", entry(0, "canary"))
    await put(index, "c2", entry(0, "other"))

    await index.erase(["c1"])

    assert [tuple(row) for row in await rows(pool, "SELECT words FROM parley.search_entries")] == [
        (" other ",)
    ]
    assert [tuple(row) for row in await rows(pool, "SELECT owner FROM parley.search_logs")] == [
        ("ann",)
    ]


async def test_a_write_that_fails_changes_nothing_and_says_so(pool, index):
    await put(index, "c1", entry(0, "word"))
    await rows(pool, "ALTER TABLE parley.search_logs ADD CHECK (next_id < 9) NOT VALID")
    changes = [
        LogChange("c1", None, state(next_id=2), [entry(0, "other")]),
        LogChange("c2", None, state(next_id=9), [entry(0, "other")]),
    ]
    try:
        with pytest.raises(Unavailable):
            await index.write(changes)
    finally:
        await rows(pool, "ALTER TABLE parley.search_logs DROP CONSTRAINT search_logs_next_id_check")

    assert await ids(index, "word") == [0]
    assert await ids(index, "other") == []
    assert await index.states(["c1", "c2"]) == {"c1": state(next_id=1)}


@pytest.mark.parametrize("limits", [(1_000, 1), (1, 1_000)])
async def test_the_owner_of_the_log_is_compared_though_the_number_is_the_same(pool, limits):
    index = await PostgresSearchIndex.open(pool, first_limits=limits)
    await put(index, "c1", entry(0, "canary"))
    await put(index, "c2", entry(1, "other"), entry(2, "other"), owner="bob")
    await rows(pool, "UPDATE parley.search_entries SET owner = parley.number_of('bob')")

    assert await ids(index, "canary", owner="bob") == []
    assert await ids(index, "other", owner="bob") == [2, 1]


async def test_a_write_that_waits_holds_up_neither_appends_nor_reads_nor_searches(pool, index):
    await put(index, "c1", entry(0, "word"))

    async with locked(pool, "LOCK TABLE parley.search_logs IN SHARE MODE"):
        write = asyncio.create_task(put(index, "c2", entry(1, "word")))
        await until(lambda: waits(pool, 1))
        for role in (Role.APPEND, Role.READ, Role.RECORD):
            assert len(await pool.fetch(role, "reach")) == 1
        assert await ids(index, "word") == [0]
        assert pool.oldest_write_seconds() == 0.0
    await write

    assert await ids(index, "word") == [1, 0]


async def waits(pool, number):
    """Whether so many transactions wait for a lock."""
    waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
    return (await rows(pool, waiting))[0][0] == number


@pytest.mark.parametrize("limits", LIMITS)
async def test_rare_and_frequent_words_are_found_wherever_each_plan_begins(pool, limits):
    index = await PostgresSearchIndex.open(pool, first_limits=limits)
    texts = ["red fox" if number % 2 else "fox red hen" for number in range(40)]
    texts[:5] = [f"{text} old" for text in texts[:5]]
    texts[20] += " rare"
    await put(index, "c1", *(entry(number, text) for number, text in enumerate(texts)))

    assert await ids(index, "old", limit=3) == [4, 3, 2]
    assert await ids(index, "rare") == [20]
    assert await ids(index, "fox red", limit=2) == [39, 38]
    assert await ids(index, '"red fox"') == [*range(39, 0, -2)]
    assert await ids(index, '"red hen" old') == [4, 2, 0]
    assert await ids(index, '"fox hen"') == []
    assert await ids(index, "nowhere") == []


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_the_plans_are_the_known_ones_before_there_are_statistics(pool, index, mode):
    for number in range(6):
        await put(index, f"c{number}", *(entry(at, f"word{at} other") for at in range(500)))
    search = f"{number_of('ann')}, 'ann', 0, {MAX_PLACE}, ARRAY['% word9 %']"
    plans = f"{room.PLANS} SET LOCAL plan_cache_mode = {mode}"
    async with other_transaction(plans) as other:
        newest = await plan(pool, other, "search_newest", f"{search}, 1, 'user', NULL, 1000, 21")
        named = await plan(pool, other, "search_by_words", f"{search}, 'word9', 250, 21")

    assert newest.count("Index Scan Backward using search_entries_pkey") == 1
    assert newest.count("Index Only Scan Backward using search_entries_pkey") == 1
    assert named.count("Bitmap Index Scan on search_entries_by_words") == 1
    assert (newest + named).count("Seq Scan") == 0


async def plan(pool, connection, query, arguments):
    await connection.execute(f"PREPARE {query} AS {queries_in(pool.schema)[query]}")
    found = await connection.fetch(f"EXPLAIN EXECUTE {query} ({arguments})")
    return "\n".join(line for (line,) in found)


async def test_two_indexers_apply_a_change_once(tmp_path, pool, index):
    async with open_postgres(tmp_path) as others:
        other = await PostgresSearchIndex.open(others)
        await put(index, "c1", entry(0, "word"))
        change = LogChange("c1", state(next_id=1), state(next_id=2), [entry(1, "word")])

        async with locked(pool, "LOCK TABLE parley.search_entries IN SHARE MODE"):
            writes = [asyncio.create_task(one.write([change])) for one in (index, other)]
            await until(lambda: waits(pool, 2))
        applied = await asyncio.gather(*writes)

        assert sorted(applied) == [0, 1]
    other = await PostgresSearchIndex.open(pool)
    assert await ids(other, "word") == [1, 0]


async def test_many_entries_of_one_moment_follow_each_other(index):
    """Logs that came from elsewhere may hold thousands of events with one time, or with none."""
    await put(index, "c1", *(entry(number, "word", 5) for number in range(1_000)))
    await put(index, "c2", *(entry(number, "word", 5) for number in range(10)))
    for number in range(1_000, 1_010):
        after = state(next_id=number + 1)
        await index.write(
            [LogChange("c1", state(next_id=number), after, [entry(number, "word", 5)])]
        )

    assert await ids(index, "word", conversation_id="c1") == [*range(1_009, 909, -1)]
    assert await ids(index, "word", conversation_id="c2") == [*range(9, -1, -1)]


def entries():
    return st.lists(
        st.builds(
            lambda number, words, moment, kind: entry(number, " ".join(words), moment, kind=kind),
            st.integers(0, 20),
            st.lists(st.sampled_from(WORDS), max_size=4),
            st.integers(0, 8),
            st.sampled_from(EntryKind),
        ),
        max_size=12,
        unique_by=lambda one: one.event_id,
    )


def queries():
    return st.builds(
        lambda words, quoted, prefix, **more: SearchQuery(
            phrases=phrases_of(
                f'"{" ".join(words)}"' if quoted else " ".join(words), prefix=prefix
            ),
            **more,
        ),
        words=st.lists(st.sampled_from((*WORDS, "f")), min_size=1, max_size=3),
        quoted=st.booleans(),
        prefix=st.booleans(),
        owner=st.sampled_from(("ann", "bob", None)),
        conversation_id=st.sampled_from((None, "c1", "c2")),
        kind=st.sampled_from((None, *EntryKind)),
        since=st.sampled_from((None, 0, 3)),
        below=st.sampled_from((None, 5 << 11)),
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    logs=st.lists(st.tuples(st.sampled_from(("ann", "bob", None)), entries()), max_size=4),
    asked=st.lists(queries(), min_size=1, max_size=6),
    limits=st.sampled_from(LIMITS),
    limit=st.sampled_from((1, 3, 50)),
)
def test_whichever_plan_has_the_answer_it_is_that_of_the_reference(
    tmp_path, logs, asked, limits, limit
):
    changes = [
        LogChange(f"c{number}", None, state(owner, 9), found)
        for number, (owner, found) in enumerate(logs)
    ]

    async def run():
        async with open_postgres(tmp_path) as pool:
            index = await PostgresSearchIndex.open(pool, first_limits=limits)
            await index.clear()
            plain = MemorySearchIndex()
            for one in (index, plain):
                await one.write(changes)
            for query in asked:
                assert await index.find(query, limit) == await plain.find(query, limit)

    asyncio.run(run())
