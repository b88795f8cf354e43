"""Where to look for a text in titles: the three letters at each of their places."""

from collections.abc import Iterable

LETTERS = 3
"""A text shorter than this is looked up as the beginning of so many letters, or as a part."""
ASKED = 32
"""Of a long text no more threes are looked up: what they find is looked at again."""


def threes_of(text: str) -> set[str]:
    """Every run of three letters; of a shorter text the whole."""
    return {text[place : place + LETTERS] for place in range(max(len(text) - LETTERS, 0) + 1)}


def match_all(threes: Iterable[str]) -> str:
    """The expression of a full-text search for titles that have all of them; of none, for no title.

    No expression can name the letter that ends a C string, so threes with it are left out.
    """
    return " AND ".join(_quoted(three) for three in threes if "\0" not in three) or _quoted("")


def match_any(threes: Iterable[str]) -> str:
    """The expression for titles that have one of them; of none, for no title."""
    return " OR ".join(map(_quoted, threes)) or _quoted("")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
