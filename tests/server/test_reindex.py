"""`parley reindex`: the index is made anew from logs and records, and nothing else is touched."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing

import pytest

from events.search.finder import Finder
from events.search.opening import open_indexer
from events.transfer.contents import open_stores
from server.cli import main
from storage.config import SqliteStorage
from storage.search.base import SearchQuery
from storage.search.sqlite import INDEX_NAME
from storage.search.words import phrases_of
from tests.support.written_logs import write_log

SECONDS = 60.0


async def found(data_dir, text):
    """Search as a server would that has caught up."""
    async with open_stores(SqliteStorage(data_dir=data_dir)) as stores, AsyncExitStack() as stack:
        records = stores.storage.conversations
        indexer = await open_indexer(data_dir, stores.events, records, stack)
        async with indexer, asyncio.timeout(SECONDS):
            await indexer.level()
            finder = Finder(indexer, stores.events, records)
            page = await finder.find(SearchQuery(None, phrases_of(text)), 10)
            return [(one.record.conversation_id, one.entry.event_id) for one in page.results]


def written(data_dir):
    payloads = [
        {"action": "message", "source": "user", "args": {"content": f"zebra {number}"}}
        for number in range(3)
    ]
    asyncio.run(write_log(data_dir, "c1", "A title", payloads))


def test_reindex_makes_the_index_from_what_is_stored(tmp_path, capsys):
    written(tmp_path)

    assert main(["reindex", "--data-dir", str(tmp_path)]) == 0

    assert capsys.readouterr().out == "reindex: 1 conversations\n"
    with closing(sqlite3.connect(tmp_path / INDEX_NAME)) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (4,)
    assert asyncio.run(found(tmp_path, "zebra")) == [("c1", 2), ("c1", 1), ("c1", 0)]


def test_reindex_mends_an_index_that_is_wrong(tmp_path):
    written(tmp_path)
    assert main(["reindex", "--data-dir", str(tmp_path)]) == 0
    with closing(sqlite3.connect(tmp_path / INDEX_NAME, isolation_level=None)) as connection:
        connection.execute("DELETE FROM words")
        connection.execute("INSERT INTO logs VALUES (99, 'gone', NULL, 9, 'x', 0, NULL)")
    assert asyncio.run(found(tmp_path, "zebra")) == []

    assert main(["reindex", "--data-dir", str(tmp_path)]) == 0

    assert len(asyncio.run(found(tmp_path, "zebra"))) == 3
    with closing(sqlite3.connect(tmp_path / INDEX_NAME)) as connection:
        assert connection.execute("SELECT conversation_id FROM logs").fetchall() == [("c1",)]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_reindex_without_an_index_says_so_in_one_line(tmp_path, capsys, kind):
    assert main(["reindex", "--storage", kind, "--data-dir", str(tmp_path)]) == 2

    assert capsys.readouterr().err.startswith("parley: search_dir: no index")
