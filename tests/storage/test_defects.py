"""Defects of the ancestor's stores, by their numbers in the protocol's notes, that are none here."""

import ast
from pathlib import Path
from typing import Any

import pytest

from storage.conversations.database import DatabaseConversationStores
from storage.conversations.memory import MemoryConversations
from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter
from storage.database.base import Database, Script, rerunnable
from storage.database.sqlite import SqliteDatabase
from storage.errors import BadKey, Unavailable
from tests.support.faulty_sqlite import Faults

ROOT = Path(__file__).parents[2]
PACKAGES = ("server", "runtime_stub", "events", "storage")


class CountingDatabase(Database):
    """Counts the rows that reads give."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.rows = 0

    def submit(self, script, **options):
        return self._inner.submit(script, **options)

    @property
    def closed(self):
        return self._inner.closed

    async def read(self, script):
        return await self._inner.read(self._counted(script))

    @rerunnable
    def _counted(self, script: Script[Any]):
        steps = script()
        result = None
        while True:
            try:
                statement = next(steps) if result is None else steps.send(result)
            except StopIteration as stop:
                return stop.value
            result = yield statement
            self.rows += len(result.rows)

    async def close(self):
        await self._inner.close()


def imports():
    """Every module that our packages import, with the file that does."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from ((alias.name, path) for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    yield node.module or "", path


async def test_d30_deleting_one_record_leaves_those_whose_ids_begin_alike():
    medium = MemoryConversations()
    for key in ("abc", "abcd"):
        await medium.for_user(None).save_metadata(ConversationMetadata(conversation_id=key))

    await medium.for_user(None).delete_metadata("abc")

    assert not await medium.for_user(None).exists("abc")
    assert await medium.for_user(None).exists("abcd")


async def test_d31_a_deletion_that_fails_says_so_and_paths_are_refused(tmp_path):
    faults = Faults()
    database = await SqliteDatabase.open(tmp_path / "parley.db", faults.connect)
    store = DatabaseConversationStores(database).for_user(None)
    await store.save_metadata(ConversationMetadata(conversation_id="c"))

    faults.before = ["BEGIN"]
    with pytest.raises(Unavailable):
        await store.delete_metadata("c")
    assert await store.exists("c")
    with pytest.raises(BadKey):
        await store.delete_metadata("../c")
    await database.close()


def test_d32_nothing_is_pickled():
    found = {(name, path) for name, path in imports() if name in ("pickle", "shelve", "marshal")}

    assert found == set()


def test_d33_nothing_is_sent_to_web_hooks_of_others():
    clients = ("requests", "httpx", "aiohttp", "urllib3", "urllib.request", "http.client")
    found = {(name, path.relative_to(ROOT).as_posix()) for name, path in imports()}

    assert {(name, path) for name, path in found if name in clients} == {
        # The command asks the server that holds the directory, and no other.
        ("http.client", "server/cli/transfer.py"),
        # Reads which proxies the environment names.
        ("urllib.request", "runtime_stub/outgoing.py"),
    }


async def test_d70_a_page_of_a_long_list_reads_no_more_than_itself(tmp_path):
    database = CountingDatabase(await SqliteDatabase.open(tmp_path / "parley.db"))
    store = DatabaseConversationStores(database).for_user(None)
    for number in range(400):
        repository = "acme/rocket" if number % 10 == 0 else None
        record = ConversationMetadata(conversation_id=f"c{number}", selected_repository=repository)
        await store.save_metadata(record)

    await store.search(limit=20)
    assert database.rows == 21
    database.rows = 0
    filters = ConversationFilter(selected_repository="acme/rocket")
    page = await store.search(limit=20, filters=filters)

    assert len(page.results) == 20
    assert database.rows == 21
    await database.close()
