"""The conformance suite of an EventStore for deletion, restarts, and the records beside the log."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio

from events.conformance.records import append, key, record, records
from events.errors import ConversationDeleted, Fenced, MasksChanged
from events.fence import Fence
from events.stores.base import MEMORY, NO_KEYS, PARTIALS, Aside, EventStore
from events.summary import SummaryChange
from storage.conversations.base import ConversationStores
from storage.conversations.metadata import FOLDED_FIELDS, ConversationMetadata

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MOMENTS = ("last_updated_at", "last_message_at")
CHANGE = SummaryChange(1, "2026-05-04T13:00:00.000001Z", 1.5, 10, 3, 13, None)


class Stores(Protocol):
    """The stores of one medium."""

    @property
    def conversations(self) -> ConversationStores:
        """The records."""

    @property
    def events(self) -> EventStore:
        """The logs."""


class EventStoreLifetimeSuite:
    """The contract of an EventStore for deletion and for the metadata beside the log."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[Stores]:
        """Both stores over one medium, empty; closed with the block."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def stores(self, tmp_path):
        async with self.open(tmp_path) as opened:
            yield opened

    @pytest.fixture
    def store(self, stores):
        return stores.events

    async def test_asides_are_replaced_as_a_whole_and_lag_behind_nothing(self, store):
        await append(store, "c", records(0, 1))
        await append(store, "d", records(0, 1))

        await store.put_asides([Aside("c", PARTIALS, b"1"), Aside("d", PARTIALS, b"2")])
        await store.put_asides([Aside("c", MEMORY, bytes(range(256)) * 4096)])
        await store.put_asides([Aside("c", PARTIALS, b"3"), Aside("d", PARTIALS, None)])
        await store.put_asides([Aside("d", MEMORY, None)])
        await store.put_asides([])

        assert dict(await store.asides("c")) == {PARTIALS: b"3", MEMORY: bytes(range(256)) * 4096}
        assert dict(await store.asides("d")) == {}
        head = await store.head("c")
        assert (head.next_id, head.asides) == (1, True)

    async def test_a_log_that_is_not_there_keeps_no_asides(self, store):
        await append(store, "c", records(0, 1))
        await store.put_asides([Aside("c", MEMORY, b"1"), Aside("none", MEMORY, b"2")])
        await store.delete("c")

        await store.put_asides([Aside("c", PARTIALS, b"3")])

        assert dict(await store.asides("c")) == {}
        assert dict(await store.asides("none")) == {}
        assert (await store.head("none")).epoch == ""
        assert (await store.head("c")).deleted

    async def test_a_deleted_log_reads_as_empty_and_says_so(self, store):
        await append(store, "c", records(0, 30), keys={3: key("a")})

        await store.delete("c")

        assert (await store.head("c")).deleted
        assert await store.read("c", 0, 30) == []
        assert await store.find("c", key("a")) is None

    @pytest.mark.parametrize("first_id", [0, 3, 99])
    async def test_a_late_append_is_told_of_the_deletion_and_the_id_is_never_used_again(
        self, store, first_id
    ):
        await append(store, "c", records(0, 3))
        await store.delete("c")

        for keys in (NO_KEYS, {0: key("a")}):
            with pytest.raises(ConversationDeleted):
                await append(store, "c", records(first_id, 1), keys=keys)

        assert await store.read("c", 0, 100) == []
        assert (await store.head("c")).deleted

    async def test_deleting_again_is_no_error(self, store):
        await append(store, "c", records(0, 1))

        await store.delete("c")
        await store.delete("c")

        assert (await store.head("c")).deleted

    async def test_deleting_what_never_existed_spends_its_id(self, store):
        await store.delete("c")

        with pytest.raises(ConversationDeleted):
            await append(store, "c", records(0, 1))

    async def test_a_deletion_leaves_the_neighbours_whole(self, store):
        for name in ("b", "c", "d"):
            await append(store, name, records(0, 5, name), keys={0: key("a")})

        await store.delete("c")

        for name in ("b", "d"):
            assert await store.read(name, 0, 5) == records(0, 5, name)
            assert await store.find(name, key("a")) == 0

    async def test_a_log_longer_than_one_purge_is_dropped_whole(self, store):
        for first_id in range(0, 4500, 500):
            await append(store, "c", records(first_id, 500))

        await store.delete("c")

        assert await store.read("c", 0, 4500) == []

    async def test_appends_racing_a_deletion_are_written_before_it_or_refused(self, store):
        async def write():
            for event_id in range(50):
                await append(store, "c", [record(event_id)])

        writing = asyncio.ensure_future(write())
        while (await store.head("c")).next_id < 5:
            await asyncio.sleep(0)
        await store.delete("c")
        outcome = (await asyncio.gather(writing, return_exceptions=True))[0]

        assert outcome is None or isinstance(outcome, ConversationDeleted)
        assert await store.read("c", 0, 50) == []

    async def test_the_record_agrees_with_the_log_where_the_store_folds_metadata(self, stores):
        users = stores.conversations.for_user("ann")
        saved = ConversationMetadata(conversation_id="c", user_id="ann", created_at=NOON, title="t")
        await users.save_metadata(saved)

        await stores.events.append("c", 0, records(0, 2), summary=CHANGE)
        await stores.events.append("c", 2, records(2, 1), summary=SummaryChange(2))

        folded = {
            "last_updated_at": datetime(2026, 5, 4, 13, 0, 0, 1, tzinfo=UTC),
            "accumulated_cost": 1.5,
            "prompt_tokens": 10,
            "completion_tokens": 3,
            "total_tokens": 13,
        }
        expected = saved.model_copy(update=folded) if stores.events.folds_metadata else saved
        assert await users.get_metadata("c") == expected
        assert (await users.search()).results == [expected]

    async def test_every_folded_field_survives_a_save_by_one_who_knows_older_values(self, stores):
        users = stores.conversations.for_user("ann")
        saved = ConversationMetadata(conversation_id="c", user_id="ann", created_at=NOON)
        await users.save_metadata(saved)
        change = CHANGE._replace(last_message_at="2026-05-04T13:00:00.000002Z")
        await stores.events.append("c", 0, records(0, 2), summary=change)
        folded = (await users.get_metadata("c")).model_dump(include=set(FOLDED_FIELDS))
        others = {
            name: (value or NOON) + timedelta(1) if name in MOMENTS else value + 1
            for name, value in folded.items()
        }
        stale = saved.model_copy(update={**others, "title": "new"})

        await users.save_metadata(stale)

        folds = stores.events.folds_metadata
        expected = stale.model_copy(update=folded) if folds else stale
        assert await users.get_metadata("c") == expected
        assert (await users.search()).results == [expected]

    async def test_an_append_that_is_refused_leaves_the_record_as_it_is(self, stores):
        users = stores.conversations.for_user("ann")
        saved = ConversationMetadata(conversation_id="c", user_id="ann", created_at=NOON)
        await users.save_metadata(saved)
        await append(stores.events, "c", records(0, 1), keys={0: key("a")})
        before = await users.get_metadata("c")

        for first_id, keys in ((7, NO_KEYS), (1, {0: key("a")})):
            refused = stores.events.append(
                "c", first_id, records(first_id, 1), summary=CHANGE, keys=keys
            )
            assert isinstance((await asyncio.gather(refused, return_exceptions=True))[0], Exception)

        assert await users.get_metadata("c") == before


class EventStoreRestartSuite:
    """The contract of an EventStore over a restart."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[Stores]:
        """Both stores over the medium in `folder`, as it was left; closed with the block."""
        raise NotImplementedError

    async def test_a_restart_keeps_events_keys_heads_fences_and_tombstones(self, tmp_path):
        async with self.open(tmp_path) as opened:
            named = {"keys": {2: key("a")}, "fence": Fence(3, 1), "masks": 4}
            await append(opened.events, "c", records(0, 5), **named)
            await append(opened.events, "gone", records(0, 5))
            await opened.events.put_asides([Aside(one, MEMORY, b"m") for one in ("c", "gone")])
            await opened.events.delete("gone")
            heads = [await opened.events.head(name) for name in ("c", "gone")]

        async with self.open(tmp_path) as opened:
            store = opened.events
            assert [await store.head(name) for name in ("c", "gone")] == heads
            assert await store.read("c", 0, 5) == records(0, 5)
            assert await store.find("c", key("a")) == 2
            assert [dict(await store.asides(one)) for one in ("c", "gone")] == [{MEMORY: b"m"}, {}]
            with pytest.raises(ConversationDeleted):
                await append(store, "gone", records(0, 1))
            with pytest.raises(Fenced):
                await append(store, "c", records(5, 1), fence=Fence(2, 1))
            with pytest.raises(MasksChanged):
                await append(store, "c", records(5, 1), masks=3)
            await append(store, "c", records(5, 1), fence=Fence(3, 1))
            assert (await store.head("c")).epoch == heads[0].epoch
