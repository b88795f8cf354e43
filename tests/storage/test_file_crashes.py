"""A crash at every single write of the stores over files: nothing lost, doubled or half done."""

from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from events.conformance.records import key, records
from events.errors import ConversationDeleted, EventsError
from events.stores.files.store import FileEventStore
from events.summary import SummaryChange
from storage.conversations.files.store import FileConversationStores
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.errors import ConversationNotFound, StorageError
from storage.files.memory import MemoryFileStore
from tests.support.dying_files import Death, DyingFileStore
from tests.support.report import counted

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
BATCHES = (1, 2, 1, 4, 1, 1, 9, 2, 1, 1, *(1, 2) * 8)
PAGE_EVENTS = 3


class Life:
    """One process over the files: what it tried and what it was told."""

    def __init__(self) -> None:
        self.tried = self.told = 0
        self.title: str | None = None
        self.saved = self.deleting = self.deleted = False

    async def run(self, files: DyingFileStore) -> None:
        stores = await FileConversationStores.open(files)
        events = FileEventStore(files, stores, page_events=PAGE_EVENTS)
        with suppress(StorageError, EventsError):
            await events.repair()
            await self.work(stores, events)
        await events.close()
        with suppress(StorageError):
            await stores.close()

    async def work(self, stores: FileConversationStores, events: FileEventStore) -> None:
        ann = stores.for_user("ann")
        await ann.save_metadata(ConversationMetadata(conversation_id="a", created_at=NOON))
        self.saved = True
        await ann.save_metadata(ConversationMetadata(conversation_id="gone", created_at=NOON))
        await events.append("gone", 0, records(0, 7), summary=summary(7), keys={0: key("gone")})
        for place in range(len(BATCHES)):
            if place == 3:
                await ann.update_metadata("a", MetadataChange(title="named"))
                self.title = "named"
            if place == 7:
                self.deleting = True
                await events.delete("gone")
                await ann.delete_metadata("gone")
                self.deleted = True
            await self.append(events, place)

    async def append(self, events: FileEventStore, place: int) -> None:
        first, size = sum(BATCHES[:place]), BATCHES[place]
        self.tried = first + size
        await events.append(
            "a",
            first,
            records(first, size, "text"),
            summary=summary(self.tried),
            keys={size - 1: key(f"of {self.tried - 1}")},
        )
        self.told = self.tried


def summary(next_id: int) -> SummaryChange:
    moment = NOON + timedelta(seconds=next_id)
    text = moment.isoformat().replace("+00:00", "Z")
    return SummaryChange(next_id - 1, text, next_id / 100, next_id, 1, next_id + 1, None)


@pytest.mark.parametrize("death", Death)
async def test_after_a_crash_at_any_write_all_that_was_told_is_there_once(death, record_property):
    figures: Counter[str] = Counter()
    for writes in count():
        inner, life = MemoryFileStore(), Life()
        files = DyingFileStore(inner, writes, death)
        await life.run(files)
        if not files.dead:
            break
        figures["crashes"] += 1
        figures["events told"] += life.told

        await check(inner, life)
        assert await inner.keys("open/") == []
        await check(inner, life, again=True)

    record_property("figures", counted(figures))
    assert figures["crashes"] > 50


async def check(inner: MemoryFileStore, life: Life, *, again: bool = False) -> None:
    stores = await FileConversationStores.open(inner)
    events = FileEventStore(inner, stores, page_events=PAGE_EVENTS)
    assert (await events.repair() == 0) or not again
    next_id = (await events.head("a")).next_id
    assert next_id in (life.told, life.tried)
    assert await events.read("a", 0, next_id) == records(0, next_id, "text")
    ends = [sum(BATCHES[: place + 1]) for place in range(len(BATCHES))]
    for end in ends:
        expected = end - 1 if end <= next_id else None
        assert await events.find("a", key(f"of {end - 1}")) == expected
    await check_records(stores, life, next_id)
    await check_deletion(stores, events, life)
    if not again and next_id < ends[-1]:
        await life.append(events, 0 if next_id == 0 else ends.index(next_id) + 1)
    await events.close()
    await stores.close()


async def check_records(stores: FileConversationStores, life: Life, next_id: int) -> None:
    ann = stores.for_user("ann")
    listed = {found.conversation_id: found for found in (await ann.search()).results}
    if "a" not in listed:
        assert not life.saved
        assert not await ann.exists("a")
        return
    found = await ann.get_metadata("a")
    assert found == listed["a"]
    assert life.title is None or found.title == life.title
    if next_id:
        expected = summary(next_id)
        assert found.last_updated_at == NOON + timedelta(seconds=next_id)
        assert found.accumulated_cost == expected.accumulated_cost
        assert found.total_tokens == expected.total_tokens


async def check_deletion(
    stores: FileConversationStores, events: FileEventStore, life: Life
) -> None:
    ann = stores.for_user("ann")
    head = await events.head("gone")
    if life.deleted:
        assert head.deleted
    if head.deleted:
        assert life.deleting
        assert await events.read("gone", 0, 9) == []
        with pytest.raises(ConversationNotFound):
            await ann.get_metadata("gone")
        with pytest.raises(ConversationDeleted):
            await events.append("gone", head.next_id, records(head.next_id, 1), summary=summary(9))
        assert [*await stores._files.keys("logs/gone/")] == ["logs/gone/tail/0000000007"]
    elif head.next_id:
        assert await events.read("gone", 0, 9) == records(0, 7)
        assert await ann.exists("gone")
