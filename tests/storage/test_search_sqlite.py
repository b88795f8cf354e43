"""The SQLite file of a search index: damage, other versions, deadlines and refusals."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from storage.conformance.search_index import entry, found_by, ids, put, state
from storage.errors import SearchBusy, SearchTooSlow, Unavailable
from storage.search.base import LogChange
from storage.search.queue import SEARCHES, WAITING
from storage.search.sqlite import INDEX_NAME, SqliteSearchIndex
from tests.support.search import open_search_index

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("damage", [b"no database at all" * 500, b"\0" * 8192])
async def test_a_damaged_index_is_made_anew(tmp_path, damage):
    (tmp_path / INDEX_NAME).write_bytes(damage)

    async with open_search_index("sqlite", tmp_path) as index:
        await put(index, "c1", entry(0, "word"))
        assert await ids(index, "word") == [0]


async def test_an_index_of_another_version_is_made_anew(tmp_path):
    async with open_search_index("sqlite", tmp_path) as index:
        await put(index, "c1", entry(0, "word"))
    with closing(sqlite3.connect(tmp_path / INDEX_NAME)) as connection:
        connection.execute("PRAGMA user_version = 99")

    async with open_search_index("sqlite", tmp_path) as index:
        assert await index.conversations("", 10) == []


async def test_a_folder_that_cannot_be_made_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(Unavailable, match="file"):
        await SqliteSearchIndex.open(tmp_path / "file" / INDEX_NAME)


async def test_a_search_that_takes_too_long_is_given_up(tmp_path):
    async with open_search_index("sqlite", tmp_path) as index:
        slow = await SqliteSearchIndex.open(tmp_path / INDEX_NAME, find_seconds=-1, instructions=1)
        await put(index, "c1", *(entry(number, "word other") for number in range(200)))
        try:
            with pytest.raises(SearchTooSlow, match="rarer"):
                await found_by(slow, "word other")
            assert len(await found_by(index, "word")) == 100
        finally:
            await slow.close()


async def test_searches_that_would_wait_too_long_are_refused(tmp_path):
    async with open_search_index("sqlite", tmp_path) as index:
        await put(index, "c1", entry(0, "word"))
        searches = [found_by(index, "word", owner=f"u{number}") for number in range(200)]

        outcomes = await asyncio.gather(*searches, return_exceptions=True)

        refused = [one for one in outcomes if isinstance(one, SearchBusy)]
        assert len(refused) == 200 - WAITING
        assert await ids(index, "word") == [0]


async def test_searches_whose_clients_are_gone_keep_their_slots_until_they_have_ended(tmp_path):
    async with open_search_index("sqlite", tmp_path) as index:
        assert isinstance(index, SqliteSearchIndex)
        await put(index, "c1", entry(0, "word"))
        readers = [index._readers.get() for _ in range(SEARCHES)]
        searches = [
            asyncio.create_task(found_by(index, "word", owner=f"u{number}"))
            for number in range(3 * SEARCHES)
        ]
        await asyncio.wait(searches, timeout=0)
        for search in searches:
            search.cancel()
        _, pending = await asyncio.wait(searches, timeout=0)
        for reader in readers:
            index._readers.put(reader)

        assert pending == {*searches[:SEARCHES]}
        outcomes = await asyncio.gather(*searches, return_exceptions=True)
        assert {type(one) for one in outcomes} == {asyncio.CancelledError}
        assert await ids(index, "word") == [0]


async def test_what_is_erased_leaves_no_words_in_the_table(tmp_path):
    async with open_search_index("sqlite", tmp_path) as index:
        await put(index, "c1", entry(0, "canary"), entry(1, "canary"))
        await put(index, "c1", entry(0, "canary"))
        await put(index, "c2", entry(0, "other"))

        await index.erase(["c1"])

    with closing(sqlite3.connect(tmp_path / INDEX_NAME)) as connection:
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        connection.execute("CREATE VIRTUAL TABLE temp.seen USING fts5vocab (main, words, row)")
        terms = {term for (term,) in connection.execute("SELECT term FROM seen")}
        assert ("other" in terms, "canary" in terms) == (True, False)
        assert connection.execute("SELECT count(*) FROM words").fetchone() == (1,)
        connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")


async def test_entries_of_others_are_not_even_read(tmp_path):
    """The owner is a word of the query: a search of one who has nothing costs nothing."""
    async with open_search_index("sqlite", tmp_path) as index:
        for number in range(40):
            await put(index, f"c{number}", entry(number, "word"), owner=f"u{number}")
    with closing(sqlite3.connect(tmp_path / INDEX_NAME)) as connection:
        facets = connection.execute("SELECT facets FROM words").fetchall()

    assert len({text.split()[0] for (text,) in facets}) == 40


async def test_each_of_many_entries_of_one_moment_costs_as_much_as_any_other(tmp_path):
    """Logs that came from elsewhere may hold thousands of events with one time, or with none."""
    statements: list[str] = []
    async with open_search_index("sqlite", tmp_path) as index:
        assert isinstance(index, SqliteSearchIndex)
        index._writer.set_trace_callback(statements.append)
        await put(index, "c1", *(entry(number, "word", 5) for number in range(1_000)))
        for number in range(1_000, 1_010):
            change = LogChange(
                "c1", state(next_id=number), state(next_id=number + 1), [entry(number, "word", 5)]
            )
            await index.write([change])

        assert await ids(index, "word") == [*range(1_009, 909, -1)]
    assert len(statements) < 10 * 1_010
