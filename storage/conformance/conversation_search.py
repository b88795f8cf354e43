"""The conformance suite for lists of a ConversationStore, as tests of pytest and pytest-asyncio."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from storage.conformance.opened import StoresSuite
from storage.conversations.base import ConversationStores
from storage.conversations.metadata import (
    ConversationMetadata,
    ConversationTrigger,
    MetadataChange,
)
from storage.conversations.paging import ConversationFilter, ListOrder, ListPosition
from storage.errors import BadCursor, BadValue
from storage.result_set import encode_cursor
from storage.unicode_text import fold_case

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


async def fill(store, **minutes: int) -> None:
    for key, minute in minutes.items():
        created_at = NOON + timedelta(minutes=minute)
        await store.save_metadata(ConversationMetadata(conversation_id=key, created_at=created_at))


BY_MESSAGE = ConversationFilter(order=ListOrder.LAST_MESSAGE)


async def say(store, **minutes: int) -> None:
    """Note messages at those minutes, one after the other."""
    for key, minute in minutes.items():
        change = MetadataChange(last_message_at=NOON + timedelta(minutes=minute))
        await store.update_metadata(key, change)


async def keys_of(store, filters: ConversationFilter | None = None, limit: int = 20) -> list[str]:
    keys: list[str] = []
    page_id: str | None = None
    while True:
        page = await store.search(page_id, limit, filters=filters)
        keys += [metadata.conversation_id for metadata in page.results]
        page_id = page.next_page_id
        assert len(page.results) == limit or page_id is None
        if page_id is None:
            return keys


TITLES = (
    "a",
    "Ab",
    "aBC",
    "Straße nach ÖDE und öde",
    "\u0130\u0131 \u212a \u017f K s",
    'say "AND" OR NOT NEAR(a b)*',
    "100%_of it^{-+}:'",
    "before\0behind\0",
    "\0",
    "\x01\x01a\x01",
    "tab\tand\nline\r\n",
    "\U0001f600\U0010ffff\U0001f600",
    "e\u0301 e \u00e9",
    "a\u00adb c\u034f\u0301 \u1100\u200d\u1161 me\ufe0fta\u00ad",
    "Cafe\u0301 \u00c4RGER \ufb01ne \uff21\uff22 \u03a3\u03a3\u03c2",
    "on and on and on, " * 9,
)


async def title(store, *names: str | None, first: int = 0) -> None:
    """Save records with those titles, each a second newer than the one before it."""
    records = (
        ConversationMetadata(
            conversation_id=f"t{number}", title=name, created_at=NOON + timedelta(seconds=number)
        )
        for number, name in enumerate(names, first)
    )
    await asyncio.gather(*map(store.save_metadata, records))


def parts_of(names: Sequence[str]) -> set[str]:
    """Return parts of up to five letters, the whole texts, and each with its case swapped."""
    parts = {
        name[place : place + length]
        for name in names
        for place in range(len(name))
        for length in (1, 2, 3, 4, 5, len(name))
    }
    return parts | {part.swapcase() for part in parts} | {"", "no such text", "zq"}


class ConversationSearchSuite(StoresSuite[ConversationStores]):
    """The contract of a ConversationStore's lists; a subclass says how a medium is opened."""

    async def test_the_newest_record_comes_first_and_equal_moments_are_ordered_by_id(self, store):
        await fill(store, old=0, new=2, twin_a=1, twin_b=1)

        assert await keys_of(store) == ["new", "twin_b", "twin_a", "old"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
    async def test_pages_of_any_size_list_every_record_once(self, store, limit):
        await fill(store, a=3, b=3, c=3, d=1, e=2, f=2)

        assert await keys_of(store, limit=limit) == ["c", "b", "a", "f", "e", "d"]

    async def test_the_last_page_names_no_next_one_even_when_it_is_full(self, store):
        await fill(store, a=0, b=1)

        first = await store.search(limit=1)
        second = await store.search(first.next_page_id, 1)

        assert [len(first.results), len(second.results)] == [1, 1]
        assert second.next_page_id is None

    async def test_no_records_give_an_empty_page(self, store):
        page = await store.search()

        assert (page.results, page.next_page_id) == ([], None)

    async def test_an_empty_page_id_means_the_first_page(self, store):
        await fill(store, a=0)

        assert await store.search("") == await store.search(None)

    async def test_records_made_and_deleted_between_two_pages_shift_nothing(self, store):
        await fill(store, a=1, b=2, c=3, d=4)
        first = await store.search(limit=2)

        await fill(store, newer=9)
        await store.delete_metadata("c")
        await store.delete_metadata("b")
        second = await store.search(first.next_page_id, 2)

        assert [metadata.conversation_id for metadata in first.results] == ["d", "c"]
        assert [metadata.conversation_id for metadata in second.results] == ["a"]

    async def test_a_record_saved_again_is_listed_at_its_new_moment_only(self, store):
        await fill(store, a=1, b=2)
        await fill(store, a=3)

        assert await keys_of(store) == ["a", "b"]

    async def test_the_record_with_the_latest_message_comes_first_where_that_order_is_asked_for(
        self, store
    ):
        await fill(store, silent=5, a=0, b=1, c=2, twin=2)
        await say(store, a=9, b=3, twin=3)

        assert await keys_of(store, BY_MESSAGE, limit=2) == ["a", "silent", "twin", "b", "c"]
        assert await keys_of(store, limit=2) == ["silent", "twin", "c", "b", "a"]
        await say(store, c=10, b=11)
        assert await keys_of(store, BY_MESSAGE) == ["b", "c", "a", "silent", "twin"]

    async def test_other_changes_of_a_record_leave_its_place_by_message(self, store):
        await fill(store, a=1, b=2)
        await say(store, a=4, b=3)

        await store.update_metadata("b", MetadataChange(title="new", last_updated_at=NOON))
        await fill(store, c=0)

        assert await keys_of(store, BY_MESSAGE) == ["a", "b", "c"]

    async def test_a_message_between_two_pages_makes_no_record_appear_twice(self, store):
        await fill(store, a=1, b=2, c=3, d=4, e=5)
        first = await store.search(limit=2, filters=BY_MESSAGE)

        await say(store, e=9, b=8)
        await store.delete_metadata("d")
        second = await store.search(first.next_page_id, 2, filters=BY_MESSAGE)

        assert [metadata.conversation_id for metadata in first.results] == ["e", "d"]
        assert [metadata.conversation_id for metadata in second.results] == ["c", "a"]
        assert second.next_page_id is None

    async def test_filters_apply_in_the_order_of_messages_too(self, store):
        for index in range(6):
            await store.save_metadata(
                ConversationMetadata(
                    conversation_id=f"c{index}",
                    created_at=NOON + timedelta(minutes=index),
                    title="Even one" if index % 2 == 0 else "Odd one",
                    selected_repository="o/r" if index < 3 else None,
                    trigger=ConversationTrigger.SLACK if index > 3 else None,
                    last_updated_at=NOON + timedelta(minutes=index),
                )
            )
        await say(store, c0=9, c1=8, c5=7)

        for filters, expected in (
            ({"title_contains": "even"}, ["c0", "c4", "c2"]),
            ({"title_contains": "e"}, ["c0", "c1", "c5", "c4", "c3", "c2"]),
            ({"selected_repository": "o/r"}, ["c0", "c1", "c2"]),
            ({"trigger": ConversationTrigger.SLACK}, ["c5", "c4"]),
            ({"updated_since": NOON + timedelta(minutes=2)}, ["c5", "c4", "c3", "c2"]),
        ):
            wanted = ConversationFilter(order=ListOrder.LAST_MESSAGE, **filters)
            assert await keys_of(store, wanted, limit=1) == expected

    async def test_a_page_id_of_one_order_is_refused_by_the_other(self, store):
        await fill(store, a=1, b=2)
        created = (await store.search(limit=1)).next_page_id
        messaged = (await store.search(limit=1, filters=BY_MESSAGE)).next_page_id

        with pytest.raises(BadCursor):
            await store.search(created, filters=BY_MESSAGE)
        with pytest.raises(BadCursor):
            await store.search(messaged)

    async def test_everybody_lists_his_own_records_and_no_owner_means_the_ownerless_ones(
        self, stores
    ):
        await fill(stores.for_user("ann"), a=0)
        await fill(stores.for_user("bob"), b=0)
        await fill(stores.for_user(None), n=0)

        assert await keys_of(stores.for_user("ann")) == ["a"]
        assert await keys_of(stores.for_user("bob")) == ["b"]
        assert await keys_of(stores.for_user(None)) == ["n"]

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"selected_repository": "o/r"}, ["c0", "c3", "c6"]),
            ({"trigger": ConversationTrigger.SLACK}, ["c1", "c4", "c7"]),
            ({"title_contains": "TASK 2"}, ["c2"]),
            ({"title_contains": "é"}, ["c5"]),
            ({"title_contains": "%"}, []),
            ({"updated_since": NOON + timedelta(minutes=6)}, ["c4", "c6", "c7"]),
            ({"selected_repository": "o/r", "title_contains": "task 3"}, ["c3"]),
            ({"selected_repository": "nobody/nothing"}, []),
        ],
    )
    async def test_filters_apply_before_paging(self, store, filters, expected):
        for index in range(8):
            metadata = ConversationMetadata(
                conversation_id=f"c{index}",
                created_at=NOON + timedelta(minutes=index),
                title=None if index == 1 else f"Task {index}{'é' if index == 5 else ''}",
                selected_repository="o/r" if index % 3 == 0 else None,
                trigger=ConversationTrigger.SLACK if index % 3 == 1 else None,
                last_updated_at=NOON + timedelta(hours=1) if index == 4 else None,
            )
            await store.save_metadata(metadata)

        found = await keys_of(store, ConversationFilter(**filters), limit=1)

        assert found == expected[::-1]

    async def test_a_part_of_a_title_is_found_whatever_letters_it_has(self, store):
        await title(store, *TITLES)

        for text in sorted(parts_of(TITLES)):
            expected = [name for name in TITLES if fold_case(text) in fold_case(name)]
            found = await store.search(limit=100, filters=ConversationFilter(title_contains=text))
            assert [record.title for record in found.results] == expected[::-1], repr(text)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("Caf\u00e9 in Paris", "cafe\u0301"),
            ("Cafe\u0301 in Paris", "CAF\u00c9"),
            ("GRO\u00dfER \u00c4RGER", "gr\u00f6\u00dfer"[:2]),
            ("GRO\u00dfER \u00c4RGER", "\u00e4rger"),
            ("GRO\u00dfER \u00c4RGER", "GROSSER"),
            ("\u0414\u041e\u041c", "\u0434\u043e\u043c"),
            ("\uff34\uff45\uff53\uff54 \u2460", "test 1"),
            ("\u1100\u1161\u11a8", "\uac01"),
            ("\u039f\u03a3\u039f\u03a3", "\u03bf\u03c3\u03bf\u03c2"),
            ("a\u00adb", "ab"),
            ("ab", "a\u00adb"),
            ("Donau\u00addampf\u00adschiff", "DAMPFSCHIFF"),
            ("\u0645\u06cc\u200c\u0631\u0648\u0645", "\u0645\u06cc\u0631\u0648\u0645"),
            ("\u2764\ufe0f hearts", "\u2764 h"),
            ("zero\u200bwidth\u2060\ufeff\u034f\u061c\u180e\u3164words", "zerowidthwords"),
            ("c\u034f\u0327a", "\u00e7"),
        ],
    )
    async def test_a_title_is_found_however_its_letters_are_written(self, store, name, text):
        await title(store, name, "something else")

        assert await keys_of(store, ConversationFilter(title_contains=text)) == ["t0"]
        await store.update_metadata("t0", MetadataChange(title="changed"))
        assert await keys_of(store, ConversationFilter(title_contains=text)) == []

    async def test_an_accent_makes_another_letter(self, store):
        await title(store, "caf\u00e9", "cafe")

        assert await keys_of(store, ConversationFilter(title_contains="cafe")) == ["t1"]

    async def test_a_title_is_found_as_it_is_now_and_no_longer_as_it_was(self, store):
        await title(store, "first words", None, "given away", "soon without")

        await store.update_metadata("t0", MetadataChange(title="second"))
        await store.give_title("t1", "first of all")
        await store.delete_metadata("t2")
        await store.save_metadata(ConversationMetadata(conversation_id="t3", created_at=NOON))

        texts = ("first", "words", "SECOND", "second", "away", "soon", "on", "w")
        found = {
            text: await keys_of(store, ConversationFilter(title_contains=text)) for text in texts
        }
        assert found == {
            "first": ["t1"],
            "words": [],
            "SECOND": ["t0"],
            "second": ["t0"],
            "away": [],
            "soon": [],
            "on": ["t0"],
            "w": [],
        }

    async def test_titles_of_others_are_not_found(self, stores, store):
        await title(stores.for_user("bob"), "of bob")
        await title(stores.for_user(None), "of nobody", first=1)

        for text in ("of bob", "of", "o"):
            assert await keys_of(store, ConversationFilter(title_contains=text)) == []

    @pytest.mark.parametrize("limit", [0, -1, 101])
    async def test_a_limit_out_of_range_is_refused(self, store, limit):
        with pytest.raises(BadValue, match="between 1 and 100"):
            await store.search(limit=limit)

    @pytest.mark.parametrize(
        "page_id",
        [
            "NQ==",
            "garbage",
            "\x00",
            "é",
            encode_cursor("others", (0, "a")),
            encode_cursor("conversations", (2**62, "a")),
            encode_cursor("conversations", (0, "../a")),
            encode_cursor("conversations", ("0", "a")),
        ],
    )
    async def test_a_page_id_that_no_page_gave_is_refused(self, store, page_id):
        with pytest.raises(BadCursor):
            await store.search(page_id)

    async def test_a_page_id_survives_the_record_it_was_made_from(self, store):
        await fill(store, a=0)

        page_id = ListPosition(NOON + timedelta(minutes=1), "gone").to_page_id()

        assert [found.conversation_id for found in (await store.search(page_id)).results] == ["a"]
