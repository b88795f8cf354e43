"""Words of any language: how texts and queries are taken apart, compared and quoted.

A word is a run of letters, digits and marks. In scripts that are written without spaces (Chinese,
Japanese, Thai and others, and Korean, whose particles are joined to words) each character is a
word, so that any part of a text is found as a phrase. Case, width, accents and characters that are
not shown make no difference.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from unicodedata import normalize

import regex

from storage.unicode_text import fold_case

MAX_PHRASES = 16
MAX_TOKENS = 200
"""Maximum number of words of a query, in all its phrases together."""
SNIPPET_CHARACTERS = 240

_JAMO = r"\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff"
_SPACELESS = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\uff70\p{Hangul}\p{Bopomofo}"
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
)
_WORD = r"\p{L}\p{M}\p{N}\p{Default_Ignorable_Code_Point}"
_UNIT = regex.compile(
    rf"[{_JAMO}]+|[{_SPACELESS}][\p{{M}}\uff9e\uff9f]*|(?:(?![{_SPACELESS}{_JAMO}])[{_WORD}])+"
)
"""A word, or a character of a script without spaces."""
_ASCII_UNIT = regex.compile("[a-z0-9]+")
_MARKS = regex.compile(
    r"[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670]+"
)
"""Accents of Latin, Greek and Cyrillic letters, points of Hebrew and Arabic ones."""
_LETTERS = str.maketrans(
    {
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "ł": "l",
        "ħ": "h",
        "ŧ": "t",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
        "æ": "ae",
        "œ": "oe",
    }
)
"""Letters with strokes and joined ones, which Unicode does not take apart."""
_CHUNK = regex.compile(r'"([^"]*)(?:"|$)|([^\s"]+)')
_SINGLE = regex.compile(rf"[{_SPACELESS}]")
_BLANKS = regex.compile(r"\s+")


class Token(NamedTuple):
    """A word in its folded form, and where it stands in the text."""

    word: str
    start: int
    end: int


class Phrase(NamedTuple):
    """Words that follow each other; of a phrase with `prefix` the last is the beginning of a word."""

    words: tuple[str, ...]
    prefix: bool = False


class Piece(NamedTuple):
    """Part of a snippet; `found` where it is what was searched for."""

    text: str
    found: bool


def fold(text: str) -> str:
    """Return the words of a text in their folded form, with ASCII punctuation or a space between."""
    if text.isascii():
        return text.lower().replace("\0", " ")
    return " ".join(token.word for token in tokens_of(text))


def words_of(text: str) -> Sequence[str]:
    """Return the words of a text in order."""
    if text.isascii():
        return _ASCII_UNIT.findall(text.lower())
    return [token.word for token in tokens_of(text)]


def tokens_of(text: str) -> Iterator[Token]:
    """Yield the words of a text in order."""
    if text.isascii():
        for unit in _ASCII_UNIT.finditer(text.lower()):
            yield Token(unit[0], unit.start(), unit.end())
        return
    for unit in _UNIT.finditer(text):
        for word in _folded(unit[0]):
            yield Token(word, unit.start(), unit.end())


def _folded(unit: str) -> Sequence[str]:
    """Return the words of a unit: none for one that is not shown, several for jamo or a fraction."""
    if unit.isascii():
        return (unit.lower(),)
    bare = _MARKS.sub("", normalize("NFD", fold_case(unit)))
    return _UNIT.findall(normalize("NFC", bare).translate(_LETTERS))


def phrases_of(query: str, *, prefix: bool = False) -> list[Phrase]:
    """Return what a query asks for: each word, and each text in double quotes as a whole.

    With `prefix` the last word may go on, unless quotes end it. Nothing in a query is an operator;
    a word with marks within (`foo.bar`) is a phrase. What is beyond MAX_PHRASES or MAX_TOKENS is
    left out, and so is what contains no word.
    """
    phrases: list[Phrase] = []
    left = MAX_TOKENS
    unquoted_end = False
    for chunk in _CHUNK.finditer(query):
        quoted, bare = chunk.groups()
        words = tuple(token.word for token in tokens_of(quoted if bare is None else bare))[:left]
        unquoted_end = bare is not None and bool(words) and chunk.end() == len(query)
        if words and len(phrases) < MAX_PHRASES:
            phrases.append(Phrase(words))
            left -= len(words)
    if prefix and phrases and unquoted_end and not _SINGLE.match(phrases[-1].words[-1]):
        phrases[-1] = phrases[-1]._replace(prefix=True)
    return phrases


def spans_of(text: str, phrases: Sequence[Phrase]) -> list[tuple[int, int]] | None:
    """Return where the phrases stand in a text, ascending; None unless each is in it."""
    tokens = list(tokens_of(text))
    words = [token.word for token in tokens]
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    spans: set[tuple[int, int]] = set()
    for phrase in phrases:
        found = [
            (tokens[place].start, tokens[place + len(phrase.words) - 1].end)
            for place in _starts(phrase, words, places)
            if is_at(phrase, words, place)
        ]
        if not found:
            return None
        spans.update(found)
    return sorted(spans)


def _starts(phrase: Phrase, words: Sequence[str], places: dict[str, list[int]]) -> Sequence[int]:
    if phrase.prefix and len(phrase.words) == 1:
        return range(len(words))
    return places.get(phrase.words[0], ())


def is_at(phrase: Phrase, words: Sequence[str], place: int) -> bool:
    """Return whether the phrase begins with the word at a place."""
    end = place + len(phrase.words)
    if end > len(words):
        return False
    *first, last = phrase.words
    found = words[end - 1]
    fits = found.startswith(last) if phrase.prefix else found == last
    return fits and list(words[place : end - 1]) == first


def snippet_of(text: str, spans: Sequence[tuple[int, int]]) -> list[Piece]:
    """Return about SNIPPET_CHARACTERS of a text around the first of `spans`, in one line."""
    first = spans[0][0] if spans else 0
    begin = max(0, first - SNIPPET_CHARACTERS // 3)
    if begin and (blank := _BLANKS.search(text, begin, first)):
        begin = blank.end()
    end = min(len(text), begin + SNIPPET_CHARACTERS)
    pieces: list[Piece] = []
    place = begin
    for start, stop in spans:
        if start < place or start >= end:
            continue
        pieces += (
            Piece(text[place:start], found=False),
            Piece(text[start : min(stop, end)], found=True),
        )
        place = min(stop, end)
    pieces.append(Piece(text[place:end], found=False))
    if begin:
        pieces.insert(0, Piece("\N{HORIZONTAL ELLIPSIS}", found=False))
    if end < len(text):
        pieces.append(Piece("\N{HORIZONTAL ELLIPSIS}", found=False))
    return _joined(pieces)


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Put neighbours of one kind together, with one space for white space."""
    joined: list[Piece] = []
    for text, found in pieces:
        line = _BLANKS.sub(" ", text)
        if not line:
            continue
        if joined and joined[-1].found == found:
            joined[-1] = Piece(joined[-1].text + line, found)
        else:
            joined.append(Piece(line, found))
    return joined
