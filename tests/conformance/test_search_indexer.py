"""The indexer and what it finds, over every back-end of logs and of the index."""

import asyncio
from contextlib import asynccontextmanager
from shutil import copytree

import orjson
import pytest

from events.event import StoredEvent
from events.search.finder import Finder
from events.search.indexer import EVENTS, LOGS, Indexer
from events.search.said import time_of
from events.summary import fold
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.errors import Unavailable
from storage.search.base import TITLE_ID, EntryKind, SearchQuery
from storage.search.words import phrases_of
from tests.support.backends import DURABLE, EVENT_STORES, open_stores
from tests.support.search import HeldIndex, make_search_index

pytestmark = pytest.mark.asyncio

SECONDS = 30.0


class World:
    """Logs, records, an index and its indexer."""

    def __init__(self, opened, index, indexer):
        self.events, self.records = opened.events, opened.conversations
        self.index, self.indexer = index, indexer
        self.finder = Finder(indexer, self.events, self.records)
        self.ends: dict[str, int] = {}

    async def create(self, conversation_id, owner="ann", title=None):
        record = ConversationMetadata(conversation_id=conversation_id, title=title)
        await self.records.for_user(owner).save_metadata(record)
        self.indexer.note(conversation_id, owner)

    async def say(self, conversation_id, *payloads, owner="ann", note=True):
        start = (await self.events.head(conversation_id)).next_id
        change, events = None, []
        for number, given in enumerate(payloads, start):
            payload = (
                {"action": "message", "args": {"content": given}}
                if isinstance(given, str)
                else given
            )
            one = {
                "id": number,
                "timestamp": f"2026-03-02T09:15:{number % 60:02}.{number:06}Z",
                "source": "user",
                **payload,
            }
            change = fold(change, number, one)
            events.append(StoredEvent(number, 0, orjson.dumps(one)))
        await self.events.append(conversation_id, start, events, summary=change)
        if note:
            self.indexer.note(conversation_id, owner, len(events))

    async def delete(self, conversation_id, owner="ann", *, note=True):
        await self.events.delete(conversation_id)
        await self.records.for_user(owner).delete_metadata(conversation_id)
        if note:
            self.indexer.note(conversation_id, owner)

    async def rename(self, conversation_id, title, owner="ann", *, note=True):
        change = MetadataChange(title=title)
        await self.records.for_user(owner).update_metadata(conversation_id, change)
        if note:
            self.indexer.note(conversation_id, owner)

    async def level(self):
        async with asyncio.timeout(SECONDS):
            await self.indexer.level()

    async def find(self, text, owner="ann", limit=100, **more):
        page = await self.finder.find(SearchQuery(owner, phrases_of(text), **more), limit)
        return [(one.record.conversation_id, one.entry.event_id) for one in page.results]


@asynccontextmanager
async def opened_world(kind, folder, index_kind="memory", held=None, **options):
    async with (
        open_stores(kind, folder) as opened,
        working(opened, folder, index_kind, held, **options) as world,
    ):
        yield world


def indexer_of(opened, held, **options):
    async def open_index():
        return held

    return Indexer(
        open_index, opened.events, opened.conversations, gather_seconds=0.0, rest=0.0, **options
    )


@asynccontextmanager
async def working(opened, folder, index_kind="memory", held=None, **options):
    index = await make_search_index(index_kind, folder) if held is None else held
    async with indexer_of(opened, index, **options) as indexer:
        yield World(opened, await indexer.index(), indexer)


@pytest.fixture(params=EVENT_STORES)
async def world(request, tmp_path):
    async with opened_world(request.param, tmp_path, "sqlite") as opened:
        yield opened


async def test_what_was_said_is_found_with_its_place_and_the_text_around_it(world):
    await world.create("c1", title="The quarterly report")
    await world.say("c1", "Where is the crème brûlée?", "nowhere")
    await world.level()

    page = await world.finder.find(SearchQuery("ann", phrases_of("creme")), 10)

    (result,) = page.results
    assert (result.record.title, result.entry.event_id) == ("The quarterly report", 0)
    assert [tuple(piece) for piece in result.snippet] == [
        ("Where is the ", False),
        ("crème", True),
        (" brûlée?", False),
    ]
    assert page.below is None
    assert await world.find("report") == [("c1", TITLE_ID)]


async def test_a_time_without_a_date_in_utc_is_the_first_of_all(world):
    times = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z")
    said = {"action": "message", "args": {"content": "word"}}
    await world.create("c1")
    await world.say("c1", *({**said, "timestamp": time} for time in times))
    await world.level()

    page = await world.finder.find(SearchQuery("ann", phrases_of("word")), 10)

    found = [(one.entry.event_id, time_of(one.entry.moment).year) for one in page.results]
    assert found == [(2, 9999), (1, 1970), (0, 1970)]


async def test_messages_thoughts_and_outputs_are_found_and_nothing_else(world):
    await world.create("c1")
    await world.say(
        "c1",
        "word said",
        {"action": "think", "args": {"thought": "word thought"}, "source": "agent"},
        {"action": "run", "args": {"command": "x", "thought": "word before"}, "source": "agent"},
        {
            "observation": "run",
            "content": "out",
            "extras": {"command": "grep word"},
            "source": "environment",
        },
        {"action": "finish", "args": {"final_thought": "word at last"}, "source": "agent"},
        {"action": "message", "args": {"content": "word", "hidden": True}},
        {"action": "system", "args": {"content": "word"}},
        {
            "observation": "agent_state_changed",
            "content": "word",
            "extras": {"agent_state": "word"},
        },
        {"action": "recall", "args": {"query": "word"}},
        {"observation": "null", "content": "word"},
    )
    await world.level()

    assert await world.find("word") == [("c1", number) for number in (4, 3, 2, 1, 0)]
    assert await world.find("word", kind=EntryKind.THOUGHT) == [("c1", 2), ("c1", 1)]
    assert await world.find("word", kind=EntryKind.OUTPUT) == [("c1", 3)]
    assert await world.find("word", source="agent") == [("c1", 4), ("c1", 2), ("c1", 1)]


async def test_a_new_title_takes_the_place_of_the_old_one(world):
    await world.create("c1", title="first")
    await world.level()
    await world.rename("c1", "second")
    await world.level()

    assert await world.find("first") == []
    assert await world.find("second") == [("c1", TITLE_ID)]


async def test_a_deleted_conversation_leaves_nothing_in_the_index(world):
    for name in ("c1", "c2"):
        await world.create(name, title="canary title")
        await world.say(name, "canary")
    await world.level()
    await world.delete("c1")
    await world.level()

    assert await world.find("canary") == [("c2", TITLE_ID), ("c2", 0)]
    assert await world.index.conversations("", 10) == ["c2"]
    found = await world.index.find(SearchQuery("ann", phrases_of("canary")), 10)
    assert {one.conversation_id for one in found} == {"c2"}


async def test_a_deleted_conversation_is_not_shown_before_the_index_knows(world):
    await world.create("c1", title="canary title")
    await world.say("c1", "canary")
    await world.level()
    await world.delete("c1", note=False)

    assert await world.find("canary") == []
    assert await world.index.conversations("", 10) == ["c1"]


async def test_nobody_finds_what_is_of_another_owner(world):
    for owner in ("ann", "bob", None):
        await world.create(f"c-{owner}", owner, title=f"canary of {owner}")
        await world.say(f"c-{owner}", "canary", owner=owner)
    await world.level()

    for owner in ("ann", "bob", None):
        found = await world.find("canary", owner)
        assert found == [(f"c-{owner}", TITLE_ID), (f"c-{owner}", 0)]
    assert await world.find("canary", "eve") == []
    assert await world.find("canary", "ann", conversation_id="c-bob") == []


async def test_pages_follow_each_other_while_more_is_said(world):
    await world.create("c1")
    await world.say("c1", *(f"word {number}" for number in range(10)))
    await world.level()

    page = await world.finder.find(SearchQuery("ann", phrases_of("word")), 4)
    await world.say("c1", "word of now")
    await world.level()
    ids = [one.entry.event_id for one in page.results]
    while page.below is not None:
        page = await world.finder.find(SearchQuery("ann", phrases_of("word"), below=page.below), 4)
        ids += [one.entry.event_id for one in page.results]

    assert ids == [*range(9, -1, -1)]


async def test_a_page_is_full_though_much_of_what_is_found_is_gone(world):
    for number in range(12):
        await world.create(f"c{number:02}")
        await world.say(f"c{number:02}", "word")
    await world.level()
    for number in range(4, 12):
        await world.delete(f"c{number:02}", note=False)

    assert len(await world.find("word", limit=3)) == 3


@pytest.mark.parametrize("kind", sorted(DURABLE))
async def test_what_was_said_and_deleted_while_no_indexer_ran_is_caught_up(tmp_path, kind):
    held = HeldIndex()
    async with opened_world(kind, tmp_path, held=held) as world:
        for name in ("c1", "c2", "c3"):
            await world.create(name, title=f"title of {name}")
            await world.say(name, "early")
        await world.level()

    async with open_stores(kind, tmp_path) as opened:
        world = World(opened, held, indexer_of(opened, held))
        await world.say("c1", "late", note=False)
        await world.delete("c2", note=False)
        await world.rename("c3", "renamed", note=False)

    async with opened_world(kind, tmp_path, held=held) as world:
        await world.level()

        assert await world.find("late") == [("c1", 1)]
        assert sorted(await world.find("early")) == [("c1", 0), ("c3", 0)]
        assert await world.find("renamed") == [("c3", TITLE_ID)]
        assert await held.conversations("", 10) == ["c1", "c3"]


async def test_a_log_of_many_parts_is_indexed_to_its_end(world):
    await world.create("c1")
    count = 2 * EVENTS + 1
    await world.say("c1", *(f"word{number}" for number in range(count)))
    await world.level()

    assert await world.find(f"word{count - 1}") == [("c1", count - 1)]
    states = await world.index.states(["c1"])
    assert states["c1"].next_id == count


async def test_when_too_many_conversations_wait_all_logs_are_compared(tmp_path):
    async with opened_world("memory", tmp_path, max_due=3) as world:
        await world.level()
        for number in range(20):
            await world.create(f"c{number}")
            await world.say(f"c{number}", "word")
        await world.level()

        assert len(await world.find("word")) == 20


class Noting(HeldIndex):
    """Writes down in which order it is called, and has `say` called once, at a call that `at` names."""

    def __init__(self, at):
        super().__init__()
        self.at = at
        self.say = None
        self.calls = []

    async def called(self, call):
        self.calls.append(call)
        if self.at == call[0] and self.say is not None:
            say, self.say = self.say, None
            await say()

    async def write(self, changes):
        await self.called(("write", *(one.conversation_id for one in changes)))
        return await super().write(changes)

    async def conversations(self, after, limit):
        await self.called(("conversations", after))
        return await super().conversations(after, limit)


async def calls_of_a_start(folder, at):
    """Start over many conversations, and have one more made at a call of the index; the calls."""
    held = Noting(at)
    async with open_stores("memory", folder) as opened:
        world = World(opened, held, indexer_of(opened, held))
        for number in range(2 * LOGS + 1):
            await world.create(f"c{number:03}")

        async def say():
            await world.create("new")
            await world.say("new", "word")

        held.say = say
        async with world.indexer:
            await world.level()
            assert await world.find("word") == [("new", 0)]
    return held.calls


async def test_what_is_said_while_all_logs_are_compared_does_not_wait_for_that(tmp_path):
    calls = await calls_of_a_start(tmp_path, "write")

    writes = [call for call in calls if call[0] == "write"]
    assert [len(call) - 1 for call in writes] == [LOGS, 1, LOGS, 1]
    assert writes[1] == ("write", "new")


async def test_what_is_said_while_deletions_are_looked_for_does_not_wait_for_that(tmp_path):
    calls = await calls_of_a_start(tmp_path, "conversations")

    found = [call[0] for call in calls[calls.index(("conversations", "")) :]]
    assert found == ["conversations", "write", "conversations", "conversations", "conversations"]
    assert ("write", "new") in calls


async def test_an_index_that_fails_is_caught_up_when_it_works_again(tmp_path):
    held = HeldIndex(failures=3)
    async with opened_world("memory", tmp_path, held=held, retry_seconds=0.01) as world:
        await world.create("c1")
        await world.say("c1", "word")
        await world.level()

        assert held.failures == 0
        assert await world.find("word") == [("c1", 0)]


async def test_while_the_index_cannot_be_opened_searches_say_so(tmp_path):
    async def cannot():
        raise Unavailable("no disk")

    async with open_stores("memory", tmp_path) as opened:
        made = Indexer(
            cannot, opened.events, opened.conversations, retry_seconds=0.01, open_seconds=0.01
        )
        async with made as indexer:
            finder = Finder(indexer, opened.events, opened.conversations)
            with pytest.raises(Unavailable, match="not open"):
                await finder.find(SearchQuery("ann", phrases_of("word")), 10)


async def test_a_log_that_was_put_back_is_indexed_anew(tmp_path):
    held, data, backup = HeldIndex(), tmp_path / "data", tmp_path / "backup"
    data.mkdir()
    async with opened_world("sqlite", data, held=held) as world:
        await world.create("c1")
        await world.say("c1", "one")
        await world.level()
    copytree(data, backup)
    async with opened_world("sqlite", data, held=held) as world:
        await world.say("c1", "two")
        await world.level()
        assert await world.find("two") == [("c1", 1)]
    async with open_stores("sqlite", backup) as opened:
        late = World(opened, held, indexer_of(opened, held))
        await late.say("c1", "three", "four", note=False)

    async with opened_world("sqlite", backup, held=held) as world:
        await world.level()

        assert await world.find("two") == []
        for number, text in enumerate(("one", "three", "four")):
            assert await world.find(text) == [("c1", number)]
    assert await held.find(SearchQuery("ann", phrases_of("two")), 10) == []
