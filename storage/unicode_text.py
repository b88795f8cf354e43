"""Unicode's rules for short texts that people read and search: one line, blank, cut, compared."""

from unicodedata import normalize

import regex

_INVISIBLE = regex.compile(r"[\s\p{Cc}\p{Cn}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]*")
"""White space, controls, and what has no shape: zero-width marks, fillers, the empty Braille cell."""
_SPACE = regex.compile(r"\s+")
_UNSHOWABLE = regex.compile(r"[\p{Cc}\p{Cn}\p{Cs}\u202a-\u202e\u2066-\u2069\ufeff]+")
"""Controls, and what turns the direction of the text around it."""
_GRAPHEME = regex.compile(r"\X")
LONGEST_GRAPHEME = 64
"""Code points behind a cut that are looked at to see whether it would break a character."""


def fold_case(text: str) -> str:
    """Return the form in which texts that a reader takes for the same are equal.

    It is Unicode's compatibility caseless form (D146), composed: case, width, ligatures and the
    way in which an accent is written make no difference; the accent itself does.
    """
    if text.isascii():
        return text.lower()
    once = normalize("NFKD", normalize("NFD", text).casefold())
    return normalize("NFKC", normalize("NFKD", once.casefold()))


def is_blank(text: str) -> bool:
    """Return whether nothing of the text can be seen."""
    return _INVISIBLE.fullmatch(text) is not None


def one_line(text: str) -> str:
    """Return the text as one line without controls; "" when nothing of it can be seen."""
    line = _UNSHOWABLE.sub("", _SPACE.sub(" ", text)).strip()
    return "" if is_blank(line) else line


def beginning(text: str, length: int) -> str:
    """Return as much of the text's begin as fits into `length` code points.

    No character that people see as one is cut, unless it alone is longer.
    """
    if len(text) <= length:
        return text
    end = 0
    for found in _GRAPHEME.finditer(text[: length + LONGEST_GRAPHEME]):
        if found.end() > length:
            break
        end = found.end()
    return text[: end or length]
