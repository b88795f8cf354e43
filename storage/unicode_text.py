"""Unicode's rules for short texts that people read and search: one line, blank, cut, compared."""

from unicodedata import normalize

import regex

_INVISIBLE = regex.compile(r"[\s\p{Cc}\p{Cn}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]*")
"""White space, controls, and invisible characters: zero-width marks, fillers, the empty Braille
cell."""
_IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
"""Characters that no renderer shows: soft hyphens, joiners, variation selectors, zero-width marks."""
_SPACE = regex.compile(r"\s+")
_UNSHOWABLE = regex.compile(r"[\p{Cc}\p{Cn}\p{Cs}\u202a-\u202e\u2066-\u2069\ufeff]+")
"""Controls, and characters that change the direction of the surrounding text."""
_GRAPHEME = regex.compile(r"\X")
LONGEST_GRAPHEME = 64
"""Code points after a cut that are examined to see whether it would break a character."""


def fold_case(text: str) -> str:
    """Return a form that is equal for texts that look the same to a reader.

    It is Unicode's compatibility caseless form (D146), composed, without the code points that are
    ignored where they are shown: case, width, ligatures, soft hyphens and the way in which an
    accent is written make no difference; the accent itself does.
    """
    if text.isascii():
        return text.lower()
    once = normalize("NFKD", normalize("NFD", text).casefold())
    twice = normalize("NFKD", once.casefold())
    return normalize("NFKC", _IGNORABLE.sub("", twice))


def is_blank(text: str) -> bool:
    """Return whether nothing of the text can be seen."""
    return _INVISIBLE.fullmatch(text) is not None


def one_line(text: str) -> str:
    """Return the text as one line without controls; "" if nothing in it is visible."""
    if text.isascii() and text.isprintable():  # as almost all titles, of which lists have many
        return " ".join(text.split())
    line = _UNSHOWABLE.sub("", _SPACE.sub(" ", text)).strip()
    return "" if is_blank(line) else line


def beginning(text: str, length: int) -> str:
    """Return the beginning of the text that fits into `length` code points.

    No visible character is cut, unless it alone is longer.
    """
    if len(text) <= length:
        return text
    end = 0
    for found in _GRAPHEME.finditer(text[: length + LONGEST_GRAPHEME]):
        if found.end() > length:
            break
        end = found.end()
    return text[: end or length]
