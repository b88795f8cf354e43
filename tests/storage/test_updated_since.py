"""Lists of what was updated since a moment, where few are and where many are."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from storage.conversations.database import FEW
from storage.conversations.entries import ListEntry
from storage.conversations.listing import UpdateHours
from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter, ListPosition
from tests.support.backends import LARGE_CONVERSATION_STORES, open_conversation_stores

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
COUNT = FEW + 100
LATER = NOON + timedelta(days=30)


def record(number: int, updated: datetime | None = None) -> ConversationMetadata:
    created = NOON + timedelta(minutes=number)
    return ConversationMetadata(
        conversation_id=f"c{number}", created_at=created, last_updated_at=updated
    )


async def found(store, since: datetime) -> list[str]:
    """The ids of those updated since then, newest first, from pages of 100."""
    ids: list[str] = []
    page_id: str | None = ""
    while page_id is not None:
        page = await store.search(page_id, 100, filters=ConversationFilter(updated_since=since))
        ids += [one.conversation_id for one in page.results]
        page_id = page.next_page_id
    return ids


@pytest.mark.parametrize("kind", LARGE_CONVERSATION_STORES)
async def test_few_and_many_that_were_updated_since_a_moment_are_all_found(kind, tmp_path):
    moments = {number: NOON + timedelta(minutes=number) for number in range(COUNT)}
    async with open_conversation_stores(kind, tmp_path) as stores:
        store = stores.for_user("ann")
        await asyncio.gather(*(store.save_metadata(record(number)) for number in moments))
        for number in (3, 700):
            await store.save_metadata(record(number, LATER + timedelta(minutes=number)))
            moments[number] = LATER + timedelta(minutes=number)
        await stores.for_user("bob").save_metadata(record(COUNT, LATER))

        for since in (
            *(NOON, moments[1], moments[FEW - 1], moments[COUNT - 1]),
            *(LATER, moments[3], moments[3] + timedelta(microseconds=1), LATER + timedelta(days=1)),
        ):
            fitting = [number for number in range(COUNT) if moments[number] >= since]
            assert await found(store, since) == [f"c{number}" for number in reversed(fitting)]


def test_entries_move_between_hours_and_too_many_are_none():
    hours = UpdateHours()
    entries = [
        ListEntry(0, ListPosition(NOON, f"c{number}"), "ann", None, None, None, NOON, NOON)
        for number in range(3)
    ]
    for entry in entries:
        hours.add(entry)

    hours.touch(entries[1], LATER)
    hours.touch(entries[1], LATER + timedelta(minutes=1))

    assert hours.since("ann", LATER, 1) == [entries[1]]
    assert hours.since("ann", NOON, 3) == entries
    assert hours.since("ann", NOON, 2) is None
    assert hours.since("bob", NOON, 2) == []
    hours.remove(entries[1])
    assert hours.since("ann", LATER, 1) == []
