"""Any history of talk, titles, deletions, ends of the indexer and failures is found as a plain list tells."""

import asyncio
from collections import Counter
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from events.event import StoredEvent
from events.search.finder import Finder
from events.search.indexer import Indexer
from events.stores.memory import MemoryEventStore
from events.summary import fold
from storage.conversations.memory import MemoryConversations
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.errors import Unavailable
from storage.search.base import TITLE_ID, SearchQuery
from storage.search.sqlite import INDEX_NAME, SqliteSearchIndex
from storage.search.words import phrases_of
from tests.support.histories import short_of, try_histories
from tests.support.report import counted

OWNERS = ("ann", "bob", None)
WORDS = ("red", "fox", "Émile", "東京", "foo_bar")
ASKED = (*WORDS, "red fox", '"red fox"', "京", "emile 東", "bar")
TEXTS = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
OWNER = st.sampled_from(OWNERS)
BOUND_SECONDS = 60.0


class Failing(SqliteSearchIndex):
    """Fails at the next write, before or after it was done, if it is told to."""

    fails: ClassVar[list[str]] = []

    async def write(self, changes):
        how = self.fails.pop() if self.fails else None
        if how == "before":
            raise Unavailable("planned")
        applied = await super().write(changes)
        if how == "after":
            raise Unavailable("planned")
        return applied


class SearchMachine(RuleBasedStateMachine):
    """Conversations of three owners, an indexer that comes and goes, and the list of their texts."""

    figures: ClassVar[Counter[str]]

    @initialize()
    def begin(self):
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.records = MemoryConversations()
        self.events = MemoryEventStore(self.records.fold)
        self.clock = 0
        self.model: dict[str, tuple[str | None, str | None, int, list[tuple[int, str]]]] = {}
        """Owner, title, time of creation, and the time and text of each event, by conversation."""
        self.count = 0
        self.indexer: Any = None
        self.start()

    def run(self, work):
        async def bounded():
            async with asyncio.timeout(BOUND_SECONDS):
                return await work

        return self.runner.run(bounded())

    def teardown(self):
        if hasattr(self, "runner"):
            Failing.fails.clear()
            self.end()
            self.runner.close()
            self.folder.cleanup()

    def tick(self) -> str:
        self.clock += 1
        return f"2026-03-02T09:{self.clock // 60:02}:{self.clock % 60:02}.000000Z"

    def note(self, conversation_id, events=0):
        if self.indexer is not None:
            self.indexer.note(conversation_id, self.model[conversation_id][0], events)

    @precondition(lambda self: self.indexer is None)
    @rule()
    def start(self):
        path = Path(self.folder.name) / INDEX_NAME

        async def begin():
            indexer = Indexer(
                lambda: Failing.open(path),
                *(self.events, self.records),
                gather_seconds=0.0,
                rest=0.0,
                max_due=2,
                retry_seconds=0.001,
            )
            return await indexer.__aenter__()

        self.indexer = self.run(begin())

    @precondition(lambda self: self.indexer is not None)
    @rule(loses_index=st.booleans())
    def end(self, *, loses_index=False):
        """End wherever the indexer is, as a kill would: what it had noted is lost."""
        if self.indexer is None:
            return
        self.run(self.indexer.__aexit__())
        self.indexer = None
        self.figures["ends"] += 1
        if loses_index:
            for suffix in ("", "-wal", "-shm"):
                (Path(self.folder.name) / (INDEX_NAME + suffix)).unlink(missing_ok=True)
            self.figures["losses"] += 1

    @precondition(lambda self: self.indexer is not None)
    @rule(how=st.sampled_from(["before", "after"]))
    def fail(self, how):
        Failing.fails.append(how)
        self.figures["failures"] += 1

    @rule(owner=OWNER, title=st.none() | TEXTS)
    def create(self, owner, title):
        conversation_id = f"c{self.count}"
        self.count += 1
        created = self.tick()
        record = ConversationMetadata(
            conversation_id=conversation_id, title=title, created_at=datetime.fromisoformat(created)
        )
        self.run(self.records.for_user(owner).save_metadata(record))
        self.model[conversation_id] = owner, title, self.clock, []
        self.note(conversation_id)

    @rule(owner=OWNER, data=st.data(), texts=st.lists(TEXTS, min_size=1, max_size=3))
    def say(self, owner, data, texts):
        if not self.model:
            self.create(owner, None)
        conversation_id = data.draw(st.sampled_from(sorted(self.model)))
        said = self.model[conversation_id][-1]
        change, events, start = None, [], len(said)
        for number, text in enumerate(texts, start):
            payload = {
                "id": number,
                "timestamp": self.tick(),
                "source": "user",
                "action": "message",
                "args": {"content": text},
            }
            change = fold(change, number, payload)
            events.append(StoredEvent(number, 0, orjson.dumps(payload)))
            said.append((self.clock, text))
        self.run(self.appended(conversation_id, start, events, change))
        self.note(conversation_id, len(events))
        self.figures["events"] += len(events)

    async def appended(self, conversation_id, start, events, change):
        await self.events.append(conversation_id, start, events, summary=change)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), title=st.none() | TEXTS)
    def rename(self, data, title):
        conversation_id = data.draw(st.sampled_from(sorted(self.model)))
        owner, _, created, said = self.model[conversation_id]
        change = MetadataChange(title=title)
        self.run(self.records.for_user(owner).update_metadata(conversation_id, change))
        self.model[conversation_id] = owner, title, created, said
        self.note(conversation_id)
        self.figures["renames"] += 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data):
        conversation_id = data.draw(st.sampled_from(sorted(self.model)))
        owner = self.model[conversation_id][0]
        self.run(self.events.delete(conversation_id))
        self.run(self.records.for_user(owner).delete_metadata(conversation_id))
        self.note(conversation_id)
        del self.model[conversation_id]
        self.figures["deletions"] += 1

    @precondition(lambda self: self.indexer is not None and self.model)
    @rule(limit=st.sampled_from([1, 2, 50]))
    def find(self, limit):
        for owner in OWNERS:
            for asked in ASKED:
                found = self.run(self.found(owner, asked, limit))
                assert found == self.expected(owner, asked)
                self.figures["found"] += len(found)

    async def found(self, owner, asked, limit):
        await self.indexer.level()
        finder = Finder(self.indexer, self.events, self.records)
        query = SearchQuery(owner, phrases_of(asked))
        found = []
        while True:
            page = await finder.find(query, limit)
            found += [(one.record.conversation_id, one.entry.event_id) for one in page.results]
            if page.below is None:
                return found
            query = query._replace(below=page.below)

    def expected(self, owner, asked):
        entries = []
        for conversation_id, (kept_by, title, created, said) in self.model.items():
            if kept_by == owner:
                entries.append((created, conversation_id, TITLE_ID, title or ""))
                entries += [
                    (when, conversation_id, number, text)
                    for number, (when, text) in enumerate(said)
                ]
        found = [one for one in entries if self.says(one[-1], asked)]
        return [one[1:3] for one in sorted(found, reverse=True)]

    @staticmethod
    def says(text, asked):
        """Tell it in a way of its own: the words between spaces are all there are."""
        plain = f" {text} ".replace("Émile", "emile").replace("_", " ").replace("東京", "東 京")
        wanted = asked.lower().replace("émile", "emile").replace("_", " ").replace("東京", "東 京")
        parts = [wanted] if wanted.startswith('"') else wanted.split(" ")
        if "foo_bar" in asked or "東京" in asked:
            parts = [wanted]
        return all(f" {part.strip(chr(34))} " in plain for part in parts)

    @invariant()
    def nothing_of_a_deleted_one_is_shown(self):
        if getattr(self, "indexer", None) is None:
            return
        shown = self.run(self.shown_now("red"))
        assert shown <= self.model.keys()

    async def shown_now(self, asked):
        finder = Finder(self.indexer, self.events, self.records)
        shown = set()
        for owner in OWNERS:
            page = await finder.find(SearchQuery(owner, phrases_of(asked)), 50)
            assert {one.record.user_id for one in page.results} <= {owner}
            shown |= {one.record.conversation_id for one in page.results}
        return shown


def test_any_history_of_a_search_index_agrees_with_a_plain_list(record_property):
    histories = 60
    floors = {
        "events": histories,
        "found": histories,
        "deletions": histories / 4,
        "failures": histories / 4,
    }

    figures = try_histories(SearchMachine, floors, histories=histories, steps=25)

    record_property("figures", counted(figures))
    assert short_of(floors, figures) == {}
