"""Short texts as people see them: blank, one line, cut, compared."""

import pytest
import regex
from hypothesis import given, strategies as st

from storage.unicode_text import beginning, fold_case, is_blank, one_line

FLAG = "\U0001f1e9\U0001f1ea"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
ACCENT = "e\u0301"
ZALGO = "z" + "\u0300" * 100


@pytest.mark.parametrize(
    "text",
    ["", " \t\n", "\u200b", "\u3164", "\ufeff", "\u2800", "\x00", "\u200b\u3000\u00ad\u115f\ufe0f"],
)
def test_a_text_of_which_nothing_can_be_seen_is_blank(text):
    assert is_blank(text)
    assert one_line(text) == ""


@pytest.mark.parametrize("text", ["a", " . ", "\u200bx", FAMILY, "\u0301a", "\ue000"])
def test_a_text_of_which_something_can_be_seen_is_not_blank(text):
    assert not is_blank(text)
    assert one_line(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb", "a b"),
        ("a\r\n\t b\u2028c\u0085d", "a b c d"),
        ("a\x00b\x1b[0m", "ab[0m"),
        ("\ufeffa\u202eb\u2066c", "abc"),
        (FAMILY + ACCENT, FAMILY + ACCENT),
    ],
)
def test_one_line_has_no_controls(text, line):
    assert one_line(text) == line


@pytest.mark.parametrize(
    "one", [FLAG, FAMILY, ACCENT, "\u1100\u1161\u11a8", "\U0001f44d\U0001f3ff"]
)
def test_no_character_is_cut_in_two(one):
    text = one * 20
    for length in range(len(one), 3 * len(one)):
        assert beginning(text, length) == one * (length // len(one))
    assert beginning(text, len(text)) == text


def test_a_character_that_alone_is_too_long_is_cut_all_the_same():
    assert beginning(ZALGO, 30) == ZALGO[:30]


@pytest.mark.parametrize(
    "text", ["Stra\u00dfe", "\u0130I\u0131", "\u212aelvin", "A\u030a", "\ufb01"]
)
def test_a_folded_text_stays_when_it_is_folded_again(text):
    assert fold_case(fold_case(text)) == fold_case(text)


IGNORABLE = regex.findall(
    r"\p{Default_Ignorable_Code_Point}",
    "".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, 0x110000))),
)


def test_a_code_point_that_is_not_shown_makes_no_difference():
    assert len(IGNORABLE) > 4000
    for one in IGNORABLE:
        assert fold_case(f"a{one}b") == "ab"
    assert fold_case("".join(IGNORABLE)) == ""


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_folded_once_and_for_all(text):
    folded = fold_case(text)

    assert fold_case(folded) == folded
    assert not set(IGNORABLE) & set(folded)


@pytest.mark.parametrize("text", ["Stra\u00dfe", "\u212aelvin", "A\u030a", "\ufb01"])
def test_a_text_folds_as_its_upper_case_does(text):
    assert fold_case(text) == fold_case(text.upper())
