"""Masking a text piece by piece shows at any time a prefix of the masked whole."""

import pytest
from hypothesis import example, given, settings, strategies as st

from events.piece_mask import PieceMask
from events.redaction import MASK, Redactor
from tests.support.masked_pieces import check_pieces, texts

TAIL = "tail-of-it-1234"
LONG = "0123456789abcdefg" * 10 + TAIL


@settings(max_examples=300)
@given(texts())
@example((["pass1"], ["the pass1/", "A" * 60, "A" * 60]))
@example((["pass1"], ["the pass1", "2"]))
@example((["base64"], ["data:;base64", ",", "QUJD"]))
@example((["abab"], ["abab", "abab"]))
@example((["ababab1"], ["ababab1", "ababab", "1", "abab", "-"]))
@example((["secret-of-mine"], ["secret-of", "-yours"]))
@example(([LONG, f"{TAIL}-and-more"], [LONG, ", no more"]))
@example(([LONG, f"{TAIL}-and-more"], [LONG, "-and-more"]))
def test_what_is_shown_is_a_prefix_of_the_masked_whole_and_at_last_equal(
    written: tuple[list[str], list[str]],
) -> None:
    check_pieces(*written)


@given(st.text(st.characters(codec="utf-8"), max_size=50))
def test_a_text_without_a_secret_is_shown_at_once(text: str) -> None:
    assert PieceMask(Redactor()).feed(text) == text
    assert PieceMask(Redactor({"KEY": "q" * 40})).feed(f"{text}.") == f"{text}."


def test_no_more_is_held_back_than_the_longest_secret() -> None:
    secret = "0123456789abcdef" * 8
    mask = PieceMask(Redactor({"KEY": secret}))
    held = []
    for _ in range(100):
        mask.feed(secret[:100])
        held.append(mask.held_bytes)
        mask.feed(" and on. ")
        assert mask.held_bytes == 0
    assert max(held) == 100


@pytest.mark.parametrize("secret", ["12345678a", "aaaaaaaa1a", "0123456789abcdef" * 8])
def test_a_run_of_secrets_is_one_mask_of_which_nothing_is_held_back(secret: str) -> None:
    mask = PieceMask(Redactor({"KEY": secret}))
    shown = [mask.feed("It is: ")]
    for _ in range(200):
        shown.append(mask.feed(secret))
        assert mask.held_bytes < len(secret)
    shown.append(mask.feed(". The end", last=True))
    assert "".join(shown) == f"It is: {MASK}. The end"


def test_a_secret_learnt_meanwhile_is_masked_from_then_on() -> None:
    redactor = Redactor()
    mask = PieceMask(redactor)
    assert mask.feed("the key is hunter2-hunter2, ") == "the key is hunter2-hunter2, "
    redactor.update({"KEY": "hunter2-hunter2"})
    assert mask.feed("again: hunter2-hunter2.") == "again: <secret_hidden>."
