"""The conformance suite of a SearchIndex, as tests of pytest and pytest-asyncio."""

from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from storage.errors import Unavailable
from storage.search.base import (
    MAX_PLACE,
    TIE_BITS,
    TITLE_ID,
    Entry,
    EntryKind,
    LogChange,
    LogState,
    SearchIndex,
    SearchQuery,
    first_place,
)
from storage.search.words import phrases_of

NOON = 1_770_000_000_000_000
"""Microseconds since 1970."""

TEXTS = (
    "Crème brûlée à la carte",
    "die Straße nach ÖDE",
    "Ελληνικά ΚΑΦΈΣ",
    "ещё раз: всё хорошо",
    "東京都庁の展望台で待つ",
    "ﾊﾞﾅﾅとリンゴ",
    "서울에서 만나요",
    "ฉันรักกรุงเทพมหานคร",
    "שָׁלוֹם עולם",
    "نُور القَمَر",
    "नमस्ते दुनिया",
    "soft\u00adware zero\u200bwidth",
    "snake_case and kebab-case v1.2.3 foo.bar(baz)",
    'say "AND" OR NOT NEAR(a b)* ^text: {x y} - +',
    "a\0b nul within",
    "½ of ①② ™ 🎉 emoji🎉between",
    "Ærø Łódź đak İstanbul \N{LATIN SMALL LETTER DOTLESS I}stakoz",
)
"""Each is found by each of its words and by itself."""
SAME = (
    ("creme BRULEE", 0),
    ("Crème", 0),
    ("strasse", 1),
    ("öde", 1),
    ("ode", 1),
    ("ΕΛΛΗΝΙΚΑ καφες", 2),
    ("еще", 3),
    ("京都", 4),
    ("東京", 4),
    ("台", 4),
    ("バナナ", 5),
    ("りんご", None),
    ("서울", 6),
    ("서울에서", 6),
    ("กรุงเทพ", 7),
    ("שלום", 8),
    ("نور", 9),
    ("दुनिया", 10),
    ("software", 11),
    ("zerowidth", 11),
    ("snake", 12),
    ("snake_case", 12),
    ("case snake", 12),
    ('"case snake"', None),
    ('"kebab case"', 12),
    ("foo.bar", 12),
    ("bar.foo", None),
    ("v1.2", 12),
    ("1.2.3", None),
    ("near", 13),
    ("NOT AND or", 13),
    ("nul", 14),
    ("lodz", 16),
    ("aero", 16),
    ("aerø istanbul", 16),
    ("ÆRØ istanbul", 16),
    ("istakoz", 16),
    ("stras", None),
)
"""A query, and the text that it finds among all of TEXTS."""


def state(owner: str | None = "ann", next_id: int = 0, **more: object) -> LogState:
    """Return a state."""
    return LogState(owner, next_id, "epoch", **more)  # type: ignore[arg-type]


def entry(event_id: int, text: str, moment: int | None = None, **more: object) -> Entry:
    """Return a message of the user, of the second of its id."""
    given = {"source": "user", "kind": EntryKind.MESSAGE} | more
    at = NOON + event_id * 1_000_000 if moment is None else moment
    return Entry(event_id, at, text=text, **given)  # type: ignore[arg-type]


async def put(index: SearchIndex, conversation_id: str, *entries: Entry, owner: str | None = "ann"):
    """Make these the only entries of a conversation."""
    change = LogChange(conversation_id, None, state(owner, len(entries)), entries)
    assert await index.write([change]) == 1


async def ids(index: SearchIndex, text: str, limit: int = 100, **more: object) -> list[int]:
    """Return the ids of events found, in order."""
    return [found.event_id for found in await found_by(index, text, limit, **more)]


async def found_by(index: SearchIndex, text: str, limit: int = 100, **more: object):
    """Return what is found for a text, for ann unless another owner is named."""
    prefix = bool(more.pop("prefix", False))
    asked = {"owner": "ann", "phrases": phrases_of(text, prefix=prefix)} | more
    return await index.find(SearchQuery(**asked), limit)  # type: ignore[arg-type]


class SearchIndexSuite:
    """The contract of a SearchIndex; a subclass says how one is opened."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[SearchIndex]:
        """Yield the index in `folder`, closed with the block; it is empty in a new folder."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def index(self, tmp_path):
        async with self.open(tmp_path) as opened:
            yield opened

    async def test_a_new_index_knows_nothing(self, index):
        assert await index.states(["c1"]) == {}
        assert await index.conversations("", 10) == []
        assert await ids(index, "anything") == []

    @pytest.mark.parametrize("place", range(len(TEXTS)))
    async def test_a_text_is_found_by_itself_and_by_each_of_its_words(self, index, place):
        await put(index, "c1", *(entry(number, text) for number, text in enumerate(TEXTS)))

        for asked in (TEXTS[place], *TEXTS[place].split()):
            if phrases_of(asked):
                assert place in await ids(index, asked), asked

    @pytest.mark.parametrize(("asked", "place"), SAME)
    async def test_case_accents_width_and_marks_make_no_difference(self, index, asked, place):
        await put(index, "c1", *(entry(number, text) for number, text in enumerate(TEXTS)))

        assert await ids(index, asked) == ([] if place is None else [place])

    async def test_words_of_a_query_stand_anywhere_and_those_in_quotes_side_by_side(self, index):
        await put(
            index, "c1", entry(0, "the red fox and the red hen"), entry(1, "red hen, red fox")
        )

        assert await ids(index, "fox red") == [1, 0]
        assert await ids(index, '"red fox and"') == [0]
        assert await ids(index, '"red fox" hen') == [1, 0]
        assert await ids(index, '"hen red"') == [1]
        assert await ids(index, "red cow") == []

    async def test_a_word_is_no_part_of_a_word_unless_it_is_asked_for_as_its_beginning(self, index):
        await put(index, "c1", entry(0, "kubernetes cluster"), entry(1, "cube netes"))

        assert await ids(index, "kuber") == []
        assert await ids(index, "cluster kuber", prefix=True) == [0]
        assert await ids(index, "kuber cluster", prefix=True) == []
        assert await ids(index, '"cluster" "kuber"', prefix=True) == []

    async def test_a_word_of_any_length_is_found_by_itself_and_by_its_beginning(self, index):
        for number, tail in enumerate(("one", "two", "", "\N{GREEK SMALL LETTER ALPHA}" * 9_000)):
            await put(index, f"c{number}", entry(number, f"begin {'long' * 500}{tail} end"))

        assert await ids(index, "long" * 500) == [2]
        assert await ids(index, f"begin {'long' * 500}two end") == [1]
        assert await ids(index, f'"{"long" * 500}one end"') == [0]
        assert await ids(index, "long" * 50, prefix=True) == [3, 2, 1, 0]
        assert await ids(index, "long" * 50) == []

    async def test_a_phrase_is_found_wherever_it_stands_in_a_text_of_any_length(self, index):
        many = " ".join(f"word{number}" for number in range(20_000))
        await put(
            index,
            "c1",
            entry(0, f"{many} red fox {many}"),
            entry(1, f"{many} fox red"),
            entry(2, "\N{CJK UNIFIED IDEOGRAPH-6771}\N{CJK UNIFIED IDEOGRAPH-90FD}" * 20_000),
            entry(3, "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM} " * 50_000),
        )

        assert await ids(index, '"red fox"') == [0]
        assert await ids(index, '"word19999 fox red"') == [1]
        assert await ids(index, '"word9999 word10000"') == [1, 0]
        assert await ids(index, "\N{CJK UNIFIED IDEOGRAPH-90FD}\N{CJK UNIFIED IDEOGRAPH-6771}") == [
            2
        ]
        assert await ids(index, "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}") == [3]

    async def test_a_query_without_a_word_finds_nothing(self, index):
        await put(index, "c1", entry(0, "text"))

        for asked in ("", " ", '""', "*", "!?", '"', "\u200b"):
            assert await ids(index, asked) == []

    async def test_the_newest_are_found_first_whenever_they_were_written(self, index):
        for number, moment in enumerate((30, 10, 40, 20)):
            await put(index, f"c{number}", entry(moment, "word"))

        assert await ids(index, "word") == [40, 30, 20, 10]
        assert await ids(index, "word", limit=2) == [40, 30]

    async def test_events_of_one_log_and_moment_are_in_the_order_of_their_ids(self, index):
        await put(index, "c1", *(entry(number, "word", NOON) for number in range(9)))

        assert await ids(index, "word") == [*range(8, -1, -1)]

    async def test_what_was_written_since_moves_nothing_of_the_pages_that_follow(self, index):
        for number in range(10):
            await put(index, f"c{number}", entry(number, "word"))
        first = await found_by(index, "word", 4)
        await put(index, "new", entry(99, "word"))
        await index.erase(["c3"])

        rest = await found_by(index, "word", below=first[-1].place)

        assert [one.event_id for one in first] == [9, 8, 7, 6]
        assert [one.event_id for one in rest] == [5, 4, 2, 1, 0]

    async def test_entries_of_the_last_moments_have_places_as_well(self, index):
        last = next(f"c{n}" for n in count() if first_place(f"c{n}", 0) == 2**TIE_BITS - 1)
        await put(index, last, *(entry(number, "word", 2**60) for number in range(3)))

        found = await found_by(index, "word")

        assert [one.event_id for one in found] == [2, 1, 0]
        assert all(0 <= one.place <= MAX_PLACE for one in found)
        assert await found_by(index, "word", since=2**60) == found
        assert await found_by(index, "word", below=MAX_PLACE) == found

    async def test_entries_of_one_moment_each_have_a_place(self, index):
        for number in range(50):
            await put(index, f"c{number}", entry(0, "word", NOON), entry(1, "word", NOON))

        found = await found_by(index, "word")

        assert len({one.place for one in found}) == len(found) == 100
        walked, below = [], None
        while page := await found_by(index, "word", 7, below=below):
            walked += page
            below = page[-1].place
        assert walked == found

    @pytest.mark.parametrize("moment", [-1, 0, 2**52, 2**63])
    async def test_a_moment_out_of_all_time_is_no_obstacle(self, index, moment):
        await put(index, "c1", entry(0, "word", moment))

        assert await ids(index, "word") == [0]

    async def test_filters_are_applied_together(self, index):
        await put(index, "c1", entry(0, "word"), entry(1, "word", source="agent"))
        await put(
            index,
            "c2",
            entry(2, "word", kind=EntryKind.THOUGHT, source="agent"),
            entry(3, "word", kind=EntryKind.OUTPUT, source="environment"),
            entry(TITLE_ID, "word", NOON + 9_000_000, kind=EntryKind.TITLE, source=""),
        )

        assert await ids(index, "word") == [TITLE_ID, 3, 2, 1, 0]
        assert await ids(index, "word", conversation_id="c1") == [1, 0]
        assert await ids(index, "word", source="agent") == [2, 1]
        assert await ids(index, "word", kind=EntryKind.TITLE) == [TITLE_ID]
        assert await ids(index, "word", since=NOON + 2_000_000) == [TITLE_ID, 3, 2]
        assert await ids(index, "word", source="agent", conversation_id="c2") == [2]
        assert await ids(index, "word", source="user", kind=EntryKind.OUTPUT) == []

    async def test_words_of_filters_are_not_words_of_texts(self, index):
        await put(index, "c1", entry(0, "plain"))

        for asked in ("suser", "kmessage", "facets", "text:plain", "facets:kmessage"):
            assert await ids(index, asked) == []

    @pytest.mark.parametrize("other", ["bob", None, "", "Ann", "ann "])
    async def test_an_owner_finds_nothing_of_another(self, index, other):
        await put(index, "c1", entry(0, "canary"))
        await put(index, "c2", entry(1, "canary"), owner=other)

        assert await ids(index, "canary") == [0]
        assert await ids(index, "canary", owner=other) == [1]
        assert await ids(index, "canary", conversation_id="c2") == []

    async def test_a_change_is_applied_once(self, index):
        await put(index, "c1", entry(0, "one"))
        change = LogChange("c1", state(next_id=1), state(next_id=2), [entry(1, "two")])

        assert [await index.write([change]) for _ in range(2)] == [1, 0]

        assert await index.states(["c1", "c2"]) == {"c1": state(next_id=2)}
        assert await ids(index, "two") == [1]
        assert await ids(index, "one") == [0]

    async def test_changes_are_applied_in_order_and_those_of_another_state_passed_over(self, index):
        first = LogChange("c1", None, state(next_id=1), [entry(0, "one")])
        second = LogChange("c1", state(next_id=1), state(next_id=2), [entry(1, "two")])
        stale = LogChange("c1", state(next_id=1), state(next_id=9), [entry(8, "stale")])
        unknown = LogChange("c2", state(next_id=1), state(next_id=2), [entry(1, "unknown")])

        assert await index.write([first, second, stale, unknown]) == 2

        assert await index.states(["c1", "c2"]) == {"c1": state(next_id=2)}
        assert await ids(index, "one") + await ids(index, "two") == [0, 1]
        assert await ids(index, "stale") + await ids(index, "unknown") == []

    async def test_a_change_from_nothing_begins_anew(self, index):
        await put(index, "c1", entry(0, "old"), entry(1, "old"))
        again = [LogChange("c1", None, state(next_id=1), [entry(0, "new")])] * 2

        assert await index.write(again) == 2

        assert await ids(index, "old") == []
        assert await ids(index, "new") == [0]

    async def test_an_entry_replaces_the_one_of_its_event(self, index):
        await put(index, "c1", entry(TITLE_ID, "first title"), entry(0, "body"))
        after = state(next_id=2, title="second")
        change = LogChange("c1", state(next_id=2), after, [entry(TITLE_ID, "second title")])

        assert await index.write([change]) == 1

        assert await ids(index, "first") == []
        assert await ids(index, "second") == [TITLE_ID]
        assert await ids(index, "body") == [0]
        assert (await index.states(["c1"]))["c1"].title == "second"

    async def test_withdrawn_events_are_not_found_any_more(self, index):
        await put(index, "c1", *(entry(number, "word") for number in range(5)))
        change = LogChange("c1", state(next_id=5), state(next_id=5), (), withdrawn={1, 3, 77})

        assert await index.write([change]) == 1

        assert await ids(index, "word") == [4, 2, 0]

    async def test_what_is_erased_is_gone_and_can_be_written_anew(self, index):
        await put(index, "c1", entry(0, "word"))
        await put(index, "c2", entry(1, "word"))

        await index.erase(["c1", "unknown"])
        await index.erase(["c1"])

        assert await ids(index, "word") == [1]
        assert await index.states(["c1"]) == {}
        await put(index, "c1", entry(0, "word"))
        assert await ids(index, "word") == [1, 0]

    async def test_a_cleared_index_is_as_new(self, index):
        await put(index, "c1", entry(0, "word"))

        await index.clear()

        assert await index.conversations("", 10) == []
        assert await ids(index, "word") == []
        await put(index, "c1", entry(0, "word"))
        assert await ids(index, "word") == [0]

    async def test_known_conversations_are_listed_in_order(self, index):
        for name in ("b", "a", "d", "c"):
            await put(index, name)

        assert await index.conversations("", 3) == ["a", "b", "c"]
        assert await index.conversations("c", 3) == ["d"]

    @pytest.mark.parametrize("title", [None, "", "Ünï"])
    @pytest.mark.parametrize("owner", [None, "ann", "Ünï"])
    async def test_a_state_is_kept_as_it_is(self, index, owner, title):
        kept = LogState(owner, 7, "Ünï", 2**32 - 1, title)

        await index.write([LogChange("c1", None, kept)])

        assert await index.states(["c1"]) == {"c1": kept}

    async def test_a_closed_index_says_so(self, tmp_path):
        async with self.open(tmp_path) as index:
            await index.close()

            for call in (
                index.states(["c1"]),
                index.write([]),
                index.find(SearchQuery("ann", phrases_of("word")), 1),
            ):
                with pytest.raises(Unavailable):
                    await call


class SearchIndexRestartSuite:
    """The contract of a durable SearchIndex over a restart."""

    pytestmark = pytest.mark.asyncio

    def open(self, folder: Path) -> AbstractAsyncContextManager[SearchIndex]:
        """Yield the index in `folder`, closed with the block."""
        raise NotImplementedError

    async def test_an_index_outlives_the_process(self, tmp_path):
        async with self.open(tmp_path) as index:
            await put(index, "c1", entry(0, "word"))

        async with self.open(tmp_path) as index:
            assert await index.states(["c1"]) == {"c1": state(next_id=1)}
            assert await ids(index, "word") == [0]
