"""Masking a text piece by piece shows at any time a prefix of the masked whole."""

from itertools import pairwise

from hypothesis import example, given, settings, strategies as st

from events.piece_mask import PieceMask
from events.redaction import Redactor
from events.secret_patterns import HEAD_BYTES
from events.strictness import whole_text

LETTERS = st.sampled_from('ab1 é_=;,-+/\n"')
KNOWN = (
    "abab",
    "ababab1",
    "1b1b1b1b1b",
    "pass1",
    "base64",
    "é1éa",
    "a1B2c3D4e5F6g7H8",
    "bbbbbbbb",
    "password=abcdabcd",
    'ab\nab"1',
)
SECRETS = st.one_of(
    st.sampled_from(KNOWN),
    st.text(LETTERS, min_size=4, max_size=12),
    st.text(LETTERS, min_size=HEAD_BYTES, max_size=HEAD_BYTES + 20),
)
SURROUNDINGS = ("A" * 99, "Z" * 120, "/" + "A" * 94, ";base64,", ";base64", "\ud83d", "\ude00")


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Secrets, and a text in pieces that holds them, parts of them and what stands around them."""
    secrets = draw(st.lists(SECRETS, max_size=5))
    some = st.sampled_from(secrets or [""])
    part = st.one_of(
        st.text(LETTERS, max_size=6),
        some,
        some.flatmap(lambda one: st.integers(0, len(one)).map(lambda end: one[:end])),
        st.sampled_from((*KNOWN, *SURROUNDINGS)),
    )
    text = "".join(draw(st.lists(part, max_size=12)))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=10)))
    places = [0, *cuts, len(text)]
    return secrets, [text[one:other] for one, other in pairwise(places)]


@settings(max_examples=300)
@given(texts())
@example((["pass1"], ["the pass1/", "A" * 60, "A" * 60]))
@example((["pass1"], ["the pass1", "2"]))
@example((["base64"], ["data:;base64", ",", "QUJD"]))
@example((["abab"], ["abab", "abab"]))
@example((["secret-of-mine"], ["secret-of", "-yours"]))
def test_what_is_shown_is_a_prefix_of_the_masked_whole_and_at_last_equal(
    written: tuple[list[str], list[str]],
) -> None:
    secrets, pieces = written
    redactor = Redactor({str(name): value for name, value in enumerate(secrets)})
    whole = redactor.redact_text(whole_text("".join(pieces)))
    mask = PieceMask(redactor)
    shown = ""
    for piece in pieces:
        shown += mask.feed(piece)
        assert whole.startswith(shown)
    assert shown + mask.feed("", last=True) == whole


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


def test_a_secret_learnt_meanwhile_is_masked_from_then_on() -> None:
    redactor = Redactor()
    mask = PieceMask(redactor)
    assert mask.feed("the key is hunter2-hunter2, ") == "the key is hunter2-hunter2, "
    redactor.update({"KEY": "hunter2-hunter2"})
    assert mask.feed("again: hunter2-hunter2.") == "again: <secret_hidden>."
