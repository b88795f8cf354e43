"""A server that is killed leaves no gap in the search index: what it stored is found when it is back."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from events.search.finder import Finder
from events.search.opening import open_indexer
from events.transfer.contents import open_stores
from storage.config import SqliteStorage
from storage.search.base import SearchQuery
from storage.search.words import phrases_of
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

pytestmark = pytest.mark.asyncio

ROUNDS = 3
MESSAGES = 15


async def found(data_dir, text):
    """Search as a server that is back does, once it has caught up."""
    async with open_stores(SqliteStorage(data_dir=data_dir)) as stores, AsyncExitStack() as stack:
        records = stores.storage.conversations
        indexer = await open_indexer(data_dir, stores.events, records, stack, rest=0.0)
        async with indexer, asyncio.timeout(WAIT_SECONDS):
            await indexer.level()
            query = SearchQuery(None, phrases_of(text), source="user")
            page = await Finder(indexer, stores.events, records).find(query, 100)
            return [one.record.conversation_id for one in page.results]


async def test_what_was_acknowledged_before_a_kill_is_found_once_after_it(tmp_path):
    said: list[str] = []
    for number in range(ROUNDS):
        async with server_process(tmp_path) as server:
            async with httpx.AsyncClient(base_url=server.url) as client:
                for message in range(MESSAGES):
                    text = f"zebra {number} {message}"
                    body = {"initial_user_msg": text}
                    answer = await client.post("/api/conversations", json=body)
                    said.append(answer.json()["conversation_id"])
                    if message == MESSAGES // 2:
                        # Some of it is in the index when the server dies, some is not.
                        await client.get("/api/search", params={"q": "zebra"})
            await server.kill()

        hits = await found(tmp_path, "zebra")

        assert sorted(hits) == sorted(said)
