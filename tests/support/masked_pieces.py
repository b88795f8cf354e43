"""Texts that arrive in pieces, with secrets in them, and what may be shown of them at any time."""

from itertools import pairwise

from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st

from events.piece_mask import PieceMask
from events.redaction import Redactor
from events.secret_patterns import BASE64_RUN, HEAD_BYTES
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


def check_pieces(secrets: list[str], pieces: list[str]) -> None:
    """Check that what is shown is a prefix of the masked whole and at last equal, and little held back."""
    redactor = Redactor({str(name): value for name, value in enumerate(secrets)})
    whole = redactor.redact_text(whole_text("".join(pieces)))
    mask = PieceMask(redactor)
    most = most_held(secrets)
    shown = ""
    for piece in pieces:
        shown += mask.feed(piece)
        assert whole.startswith(shown)
        assert mask.held_bytes <= most
    assert shown + mask.feed("", last=True) == whole


def most_held(secrets: list[str]) -> int:
    """Return the bytes that may be held back: in JSON a character of the basic plane has up to 6."""
    return max(BASE64_RUN, *(6 * len(one) for one in secrets), 0)


def run_masked_pieces(examples: int, chosen_seed: int) -> int:
    """Check so many random texts, and return how many had pieces that a secret goes across.

    Raises AssertionError.
    """
    across = 0

    @seed(chosen_seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(texts())
    def check(written: tuple[list[str], list[str]]) -> None:
        nonlocal across
        secrets, pieces = written
        check_pieces(secrets, pieces)
        whole = "".join(pieces)
        across += any(one in whole and not any(one in piece for piece in pieces) for one in secrets)

    check()
    return across
