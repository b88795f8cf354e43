"""Search in titles where there are so many that a store no longer looks at each."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from storage.conversations.database import FEW_TITLES
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from storage.conversations.paging import ConversationFilter
from storage.conversations.title_index import WORTH
from tests.support.backends import CONVERSATION_STORES, open_conversation_stores

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
COUNT = FEW_TITLES + 100
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


@pytest.mark.parametrize("kind", CONVERSATION_STORES)
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
