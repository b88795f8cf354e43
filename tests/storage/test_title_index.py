"""The index of titles in memory, while it is made and when it may not grow."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from storage.conversations.entries import POSITION, ListEntry
from storage.conversations.listing import Listing
from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter
from storage.conversations.title_index import SLICE, WORTH, TitleIndexes

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
WORDS = ("red", "green", "blue", "Reddish", "a", "")
EVERYTHING = 10**9


def record(number: int, title: str | None, user_id: str = "ann") -> ConversationMetadata:
    return ConversationMetadata(
        conversation_id=f"c{number}",
        user_id=user_id,
        title=title,
        created_at=NOON + timedelta(seconds=number),
    )


def entries_of(owner: str, *titles: str) -> list[ListEntry]:
    found = [ListEntry.of(record(number, title, owner)) for number, title in enumerate(titles)]
    return sorted(found, key=POSITION)


def make(indexes: TitleIndexes, owner: str, entries: list[ListEntry]) -> None:
    while not indexes.prepare(owner, entries):
        pass


@pytest.mark.parametrize("seed", range(20))
def test_records_that_come_and_go_between_two_slices_are_found_as_in_the_whole_list(seed):
    random = Random(seed)  # noqa: S311 - it must be repeatable
    listing = Listing()
    titles: dict[int, str] = {}

    def change(number: int) -> None:
        if random.random() < 0.2:
            titles.pop(number, None)
            listing.remove(f"c{number}")
        else:
            titles[number] = " ".join(random.choices(WORDS, k=3))
            listing.put(record(number, titles[number]))

    for number in random.sample(range(3 * SLICE), 2 * SLICE + WORTH):
        change(number)
    for _ in listing.preparing("ann", ConversationFilter(title_contains="x")):
        for _ in range(50):
            change(random.randrange(3 * SLICE))

    for text in ("red", "DISH", "n b", "blue a", "re", "d", " ", "none"):
        wanted = ConversationFilter(title_contains=text)
        found, _ = listing.scan("ann", wanted, None, EVERYTHING)
        expected = [f"c{n}" for n in sorted(titles) if text.lower() in titles[n].lower()]
        assert [position.conversation_id for position in found] == expected[::-1], text


def test_the_titles_of_few_records_are_not_indexed():
    indexes = TitleIndexes()
    make(indexes, "ann", entries_of("ann", *["abc"] * (WORTH - 1)))

    assert indexes.having("ann", "xyz", EVERYTHING) is None


def test_the_index_used_least_lately_makes_room_for_another():
    indexes = TitleIndexes(limit=3 * WORTH)
    for owner in ("ann", "bob"):
        make(indexes, owner, entries_of(owner, *["abcd"] * WORTH))

    assert indexes.having("ann", "abc", EVERYTHING) is None
    assert len(indexes.having("bob", "abc", EVERYTHING) or ()) == WORTH


def test_an_index_that_alone_is_too_large_is_given_up_for_good():
    indexes = TitleIndexes(limit=WORTH)
    entries = entries_of("ann", *["abcd"] * WORTH)
    make(indexes, "ann", entries)

    assert indexes.prepare("ann", entries)
    indexes.add(entries[0])
    indexes.remove(entries[0])
    assert indexes.having("ann", "abc", EVERYTHING) is None


def test_an_index_holds_nothing_of_records_that_are_gone():
    indexes = TitleIndexes()
    entries = entries_of("ann", *["abc"] * WORTH)
    make(indexes, "ann", entries)

    for entry in entries:
        indexes.remove(entry)

    assert list(indexes.having("ann", "abc", EVERYTHING) or ()) == []
    assert sum(index.places for index in indexes._indexes.values()) == 0
