"""Search in titles where there are so many that a store no longer looks at each."""

import asyncio
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.resources import as_file
from pathlib import Path

import pytest

from events.conformance.records import append, records
from events.stores.database.store import DatabaseEventStore
from storage.conversations.database import FEW, DatabaseConversationStores
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.conversations.paging import ConversationFilter
from storage.conversations.title_index import WORTH
from storage.database.migrate import SQLITE_MIGRATIONS, migrate_sqlite
from storage.database.sqlite import SqliteDatabase
from tests.support.backends import LARGE_CONVERSATION_STORES, open_conversation_stores

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
COUNT = FEW + 100
TEXTS = ("seven", "VEN", "se", "of many", "m", "number 77", "77", "number of", "7 seven")


def expected(names: Sequence[str], texts: Sequence[str]) -> dict[str, list[str]]:
    return {text: [name for name in names if text.lower() in name.lower()] for text in texts}


async def every(store, texts: Sequence[str]) -> dict[str, list[str]]:
    return {text: await found(store, text) for text in texts}


async def found(store, text: str) -> list[str]:
    """The titles that have a text, oldest first, from pages of 100."""
    titles: list[str] = []
    page_id: str | None = ""
    while page_id is not None:
        wanted = ConversationFilter(title_contains=text)
        page = await store.search(page_id, 100, filters=wanted)
        titles += [record.title or "" for record in page.results]
        page_id = page.next_page_id
    return titles[::-1]


@pytest.mark.parametrize("kind", LARGE_CONVERSATION_STORES)
async def test_a_text_in_few_titles_or_in_many_is_found_in_all_of_them(kind, tmp_path):
    assert COUNT > WORTH
    names = [f"Number {n}{' seven' if n % 7 == 0 else ''} of many" for n in range(COUNT)]
    async with open_conversation_stores(kind, tmp_path) as stores:
        store = stores.for_user("ann")
        await asyncio.gather(
            *(
                store.save_metadata(
                    ConversationMetadata(
                        conversation_id=f"c{n}", title=name, created_at=NOON + timedelta(seconds=n)
                    )
                )
                for n, name in enumerate(names)
            )
        )
        assert await every(store, TEXTS) == expected(names, TEXTS)

        await store.update_metadata("c770", MetadataChange(title="Number none"))
        await store.delete_metadata("c77")
        names[770] = "Number none"
        del names[77]

        assert await every(store, (*TEXTS, "NONE")) == expected(names, (*TEXTS, "NONE"))


def index_of(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT id, block FROM titles_data ORDER BY id").fetchall()


async def test_an_append_leaves_the_index_of_titles_alone(tmp_path):
    database = await SqliteDatabase.open(tmp_path / "parley.db")
    store = DatabaseConversationStores(database).for_user("ann")
    await store.save_metadata(ConversationMetadata(conversation_id="c", title="A title"))
    before = index_of(tmp_path / "parley.db")

    await append(DatabaseEventStore(database), "c", records(0, 5))
    await store.update_metadata("c", MetadataChange(selected_branch="main", title="A title"))

    assert index_of(tmp_path / "parley.db") == before
    await store.delete_metadata("c")
    assert index_of(tmp_path / "parley.db") != before
    await database.close()


async def test_titles_that_were_there_before_the_index_are_found(tmp_path):
    older = tmp_path / "migrations"
    older.mkdir()
    with as_file(SQLITE_MIGRATIONS) as folder:
        for path in sorted(folder.glob("*.sql"))[:5]:
            shutil.copy(path, older)
    with closing(sqlite3.connect(tmp_path / "parley.db", isolation_level=None)) as connection:
        migrate_sqlite(connection, older)
        connection.execute(
            "INSERT INTO conversations (conversation_id, recorded, user_id, created_at, title)"
            " VALUES ('c', 1, 'ann', '2026-05-04T12:00:00.000000Z', 'An old Title of \u00c4RGER')"
        )

    database = await SqliteDatabase.open(tmp_path / "parley.db")
    store = DatabaseConversationStores(database).for_user("ann")

    title = "An old Title of \u00c4RGER"
    for text in ("old title", "d ", "\u00e4rger", "of a\u0308"):
        assert await found(store, text) == [title]
    await store.update_metadata("c", MetadataChange(title="New"))
    assert await found(store, "old title") == []
    await database.close()
