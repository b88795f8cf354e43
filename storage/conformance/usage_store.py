"""The conformance suite of a UsageStore, as tests of pytest and pytest-asyncio."""

from contextlib import AbstractAsyncContextManager
from datetime import date
from pathlib import Path

import pytest
import pytest_asyncio

from storage.errors import Conflict
from storage.usage.base import UsageStore
from storage.usage.model import ConversationUsage, Span, UsageLine

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)


def count(conversation_id: str = "c1", user_id: str | None = "ann", position: int = 3):
    """Return a count of two days."""
    return ConversationUsage(
        conversation_id=conversation_id,
        user_id=user_id,
        position=position,
        cost=0.75,
        prompt_tokens=30,
        completion_tokens=3,
        lines=(
            UsageLine(day=MONDAY, events=1),
            UsageLine(day=TUESDAY, model="m", events=2, prompt_tokens=30, cost=0.75),
        ),
    )


class UsageStoreSuite:
    """The contract of a UsageStore; a subclass says how a medium is opened."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[UsageStore]:
        """Yield the counts in `folder`, closed with the block."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def store(self, tmp_path):
        async with self.open(tmp_path) as opened:
            yield opened

    async def test_all_counted_conversations_are_named_in_pages(self, store):
        for number in range(7):
            await store.save(count(f"c{number}"), 0)
        await store.forget("c3")

        assert await store.counted(limit=4) == ["c0", "c1", "c2", "c4"]
        assert await store.counted(after="c4") == ["c5", "c6"]
        assert await store.counted(after="c6") == []

    async def test_a_conversation_that_was_never_counted_has_no_count(self, store):
        assert await store.load("c1") is None

    @pytest.mark.parametrize("user_id", [None, "ann", "Ünï"])
    async def test_what_is_saved_is_what_is_loaded(self, store, user_id):
        await store.save(count(user_id=user_id), 0)

        assert await store.load("c1") == count(user_id=user_id)

    async def test_a_count_is_replaced_whole(self, store):
        await store.save(count(), 0)
        newer = count(position=5).model_copy(update={"lines": (UsageLine(day=MONDAY, events=5),)})

        await store.save(newer, 3)

        assert await store.load("c1") == newer

    @pytest.mark.parametrize("expected", [0, 2, 4])
    async def test_a_count_from_elsewhere_conflicts_and_changes_nothing(self, store, expected):
        await store.save(count(), 0)

        with pytest.raises(Conflict):
            await store.save(count(position=9), expected)

        assert await store.load("c1") == count()

    async def test_a_forgotten_count_is_gone_and_can_be_made_anew(self, store):
        await store.save(count(), 0)

        await store.forget("c1")
        await store.forget("c1")

        assert await store.load("c1") is None
        assert await store.totals() == []
        await store.save(count(), 0)

    async def test_totals_join_conversations_by_owner_model_and_day_newest_first(self, store):
        for conversation_id, user_id in (("c1", "ann"), ("c2", "ann"), ("c3", None)):
            await store.save(count(conversation_id, user_id), 0)

        lines = await store.totals()

        assert [(one.day, one.user_id, one.model, one.events, one.cost) for one in lines] == [
            (TUESDAY, None, "m", 2, 0.75),
            (TUESDAY, "ann", "m", 4, 1.5),
            (MONDAY, None, "", 1, 0.0),
            (MONDAY, "ann", "", 2, 0.0),
        ]
        assert [one.prompt_tokens for one in lines] == [30, 60, 0, 0]

    @pytest.mark.parametrize(
        ("span", "days"),
        [
            (Span(), {MONDAY, TUESDAY}),
            (Span(TUESDAY, None), {TUESDAY}),
            (Span(None, MONDAY), {MONDAY}),
            (Span(TUESDAY, MONDAY), set()),
        ],
    )
    async def test_totals_are_of_the_days_asked_for(self, store, span, days):
        await store.save(count(), 0)

        assert {one.day for one in await store.totals(span)} == days

    async def test_totals_are_at_most_as_many_as_asked_for(self, store):
        await store.save(count(), 0)

        assert [one.day for one in await store.totals(limit=1)] == [TUESDAY]


class UsageStoreRestartSuite:
    """The contract of a durable UsageStore over a restart."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[UsageStore]:
        """Yield the counts in `folder`, closed with the block."""
        raise NotImplementedError

    async def test_counts_outlive_the_process(self, tmp_path):
        async with self.open(tmp_path) as store:
            await store.save(count(), 0)

        async with self.open(tmp_path) as store:
            assert await store.load("c1") == count()
            assert len(await store.totals()) == 2
