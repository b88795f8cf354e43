"""PieceMask: masks a text that is shown while it is written, piece by piece."""

from bisect import bisect_left

from events.redaction import MASK, Redactor
from events.secret_patterns import DECIDING_BYTES, Span
from events.strictness import whole_text

FIRST_HIGH, LAST_HIGH = "\ud800", "\udbff"
"""The high surrogates, which a low surrogate must follow."""
CONTINUATION = 0b1000_0000
CONTINUATION_BITS = 0b1100_0000


class PieceMask:
    """Masks a text that arrives in pieces, as far as its masked form is already certain.

    All that `feed` has returned, joined, is at any time a prefix of what `Redactor.redact_text`
    returns for the whole text, and with `last` equal to it. Held back is only what text to come
    may still mask or unmask: the beginning of a spelling, a weak secret whose end is not seen; that
    is less than the longest spelling or than BASE64_RUN. Where the Redactor learns a secret
    meanwhile, what was returned before stays as it is.
    """

    __slots__ = ("_cut", "_half", "_masking", "_redactor", "_window")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._window = b""
        """The text held back, behind some bytes of what was returned last, unmasked."""
        self._cut = 0
        """The first byte of the window that was not returned yet."""
        self._masking = False
        """Whether a mask was returned last: a secret that touches or overlaps its own is part of it."""
        self._half = ""
        """Half of a character outside the basic plane, as some decoders of JSON give it."""

    @property
    def held_bytes(self) -> int:
        """Bytes of UTF-8 that are held back."""
        return len(self._window) - self._cut

    def feed(self, piece: str, *, last: bool = False) -> str:
        """Take the next piece and return what may be shown now; with `last`, all that is left."""
        window = self._window + self._whole(piece, last=last).encode()
        spans = self._redactor.find(window)
        start, end = self._cut, len(window)
        if not last:
            end = self._redactor.undecided_from(window, start)
        if self._masking and (span := _span_at(spans, start)) is not None:
            start = min(span.end, end)
        shown = _masked(window, start, end, spans) if start < end else ""
        if self._cut < end:
            self._masking = _span_at(spans, end) is not None
        self._keep(window, end)
        return shown

    def _keep(self, window: bytes, cut: int) -> None:
        """Keep what is held back, and as much before it as decides about it."""
        before = self._redactor.longest_bytes if self._masking else 0
        first = max(0, cut - max(before, DECIDING_BYTES))
        while first < cut and window[first] & CONTINUATION_BITS == CONTINUATION:
            first += 1
        self._window, self._cut = window[first:], cut - first

    def _whole(self, piece: str, *, last: bool) -> str:
        """Put halves of a character together where two pieces bring them."""
        piece = self._half + piece
        self._half = ""
        if not last and piece and FIRST_HIGH <= piece[-1] <= LAST_HIGH:
            self._half, piece = piece[-1], piece[:-1]
        return whole_text(piece)


def _span_at(spans: list[Span], place: int) -> Span | None:
    """Return the span that begins before a place and ends there or behind it."""
    at = bisect_left(spans, place, key=lambda span: span.end)
    return spans[at] if at < len(spans) and spans[at].start < place else None


def _masked(text: bytes, start: int, end: int, spans: list[Span]) -> str:
    pieces: list[str] = []
    for span in spans:
        if span.end <= start or span.start >= end:
            continue
        pieces += (text[start : span.start].decode(), MASK)
        start = span.end
    return "".join((*pieces, text[start:end].decode()))
