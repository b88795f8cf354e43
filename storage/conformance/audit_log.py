"""The conformance suite of an AuditLog, as tests of pytest and pytest-asyncio."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from storage.audit.base import TRIM, AuditLog, AuditRecord

NEWEST = 2**62
KEPT = 20
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def call(action: str = "look", *, acting: bool = False) -> AuditRecord:
    """Return a call that is not recorded yet."""
    return AuditRecord(
        at=NOON,
        last_at=NOON,
        who="key:1",
        client="127.0.0.1",
        action=action,
        target="ü",
        outcome="done",
        acting=acting,
    )


class AuditLogSuite:
    """The contract of an AuditLog; a subclass says how a medium is opened."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[AuditLog]:
        """Yield the log in `folder`, with a bound of KEPT of each class, closed with the block."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def log(self, tmp_path):
        async with self.open(tmp_path) as opened:
            yield opened

    async def test_what_is_added_is_listed_newest_first_with_growing_ids(self, log):
        added = [await log.add(call(name)) for name in "abc"]

        assert [one.id for one in added] == sorted({one.id for one in added})
        assert await log.page(NEWEST, 10) == added[::-1]
        assert added[0] == call("a").model_copy(update={"id": added[0].id})

    async def test_pages_follow_each_other_without_a_gap(self, log):
        added = [await log.add(call(name, acting=name in "bd")) for name in "abcde"]

        first = await log.page(NEWEST, 2)
        second = await log.page(first[-1].id, 2)
        third = await log.page(second[-1].id, 2)

        assert [*first, *second, *third] == added[::-1]

    async def test_acts_can_be_listed_alone(self, log):
        for name in "abcde":
            await log.add(call(name, acting=name in "bd"))

        assert [one.action for one in await log.page(NEWEST, 9, only_acts=True)] == ["d", "b"]

    async def test_a_changed_record_keeps_its_place(self, log):
        first, second = await log.add(call("a")), await log.add(call("b"))
        changed = first.model_copy(update={"count": 7, "outcome": "not_found"})

        await log.change(changed)

        assert await log.page(NEWEST, 9) == [second, changed]

    async def test_a_record_that_is_gone_is_not_brought_back_by_a_change(self, log):
        await log.change(call().model_copy(update={"id": 99}))

        assert await log.page(NEWEST, 9) == []

    async def test_looks_never_push_acts_out_and_are_kept_within_a_bound(self, log):
        acts = [await log.add(call(f"act {turn}", acting=True)) for turn in range(3)]

        for turn in range(KEPT + 2 * TRIM):
            await log.add(call(f"look {turn}"))

        kept = await log.page(NEWEST, 1_000)
        assert [one for one in kept if one.acting] == acts[::-1]
        looks = [one.action for one in kept if not one.acting]
        assert KEPT <= len(looks) <= KEPT + TRIM
        assert looks[0] == f"look {KEPT + 2 * TRIM - 1}"


class AuditLogRestartSuite:
    """The contract of a durable AuditLog over a restart."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[AuditLog]:
        """Yield the log in `folder`, closed with the block."""
        raise NotImplementedError

    async def test_records_outlive_the_process_and_ids_go_on(self, tmp_path):
        async with self.open(tmp_path) as log:
            first = await log.add(call("a", acting=True))

        async with self.open(tmp_path) as log:
            second = await log.add(call("b"))
            assert second.id > first.id
            assert await log.page(NEWEST, 9) == [second, first]
