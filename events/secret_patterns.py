"""The search for secret values in text: their spellings, the parts that are secret by themselves.

Everything is searched for as UTF-8, in time linear in the text, whatever the number of values.
"""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote
from weakref import WeakValueDictionary

import orjson
from ahocorasick_rs import BytesAhoCorasick, MatchKind

MIN_CHARACTERS = 4
"""Shorter values are not looked for: they would be found everywhere."""
SHORT_CHARACTERS = 8
WORD_CHARACTERS = 16
"""Values shorter than the first, and words and numbers shorter than the second, are weak: they also
occur by chance."""
MIN_PART_CHARACTERS = 8
MIN_RANDOM_CHARACTERS = 16
"""Minimum lengths, within a longer value, of a part named as a password and of one that looks
random."""
RANDOM_DIGITS = 2
RANDOM_CHANGES = 0.25
"""Of a random part's neighbours, the share that is of another class (upper, lower, digit)."""
MAX_PARTS = 5000
"""Parts looked for by themselves, of all values together; values as a whole are always."""
HEAD_BYTES = 64
"""Of a longer spelling only so much is in the automaton; the rest is compared where that is found."""
MAX_OVERLAPS = 100
"""Occurrences of a long spelling that are searched at every byte; later ones only side by side."""
MAX_COMPARED = 200
"""Weak spellings that are compared with each other; of more, any may begin within any."""
LONG_CHARACTERS = 4096
"""Values of so many characters are compiled alone."""
MAX_ALONE = 4
"""The most of them; each costs every text a search."""
MAX_LOOKS = 200_000
"""Overlapping hits examined in one text; beyond that more is masked than necessary."""

_NAMED = re.compile(
    r"""(?:export\s+)?[-\s]*["']?(?P<name>[\w.\- ]{1,64}?)["']?\s*[:=]\s*(?P<value>\S.*)"""
)
_SECRET_NAME = re.compile(
    r"(?:pass|passwd|password|passphrase|passcode|pwd|(?<![a-z])pw|secret|token|credentials?|(?:api|access|private|secret"
    r"|encryption|signing|auth|account|client)[_.\- ]?key|key[_.\- ]data|connection[_.\- ]?string)$",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"://(?P<user>[^/\s:@]*):(?P<value>[^/\s@]+)@")
"""A password in an address, of a database or of a git host for instance."""
_IN_NETRC = re.compile(r"\blogin\s+\S+\s+password\s+(?P<value>\S+)")
_REFERENCE = re.compile(r"[$/~<*]|\.{1,2}/|\{\{|file:|env:|vault:")
"""Matches the prefix of a value that only names the location of a secret."""
_WORD_SEPARATORS = re.compile(r"[-_. ]")
_WORDS = re.compile(r"[A-Za-z0-9+/_.~-]{12,}={0,2}")
_SEPARATORS = re.compile(r"[^A-Za-z0-9]+")
BASE64_RUN = 100
"""Characters of base64 side by side that are taken for data even where nothing announces it."""
_BASE64_RUNS = re.compile(
    rb";[Bb][Aa][Ss][Ee]64,[A-Za-z0-9+/=_-]+|[A-Za-z0-9+/=_-]{%d,}" % BASE64_RUN
)
_BASE64_AT_END = re.compile(
    rb"(?P<announced>;[Bb][Aa][Ss][Ee]64,)[A-Za-z0-9+/=_-]+\Z"
    rb"|;(?:[Bb](?:[Aa](?:[Ss](?:[Ee](?:6(?:4,?)?)?)?)?)?)?\Z"
    rb"|[A-Za-z0-9+/=_-]*\Z"
)
DECIDING_BYTES = 128
"""Bytes before a value that decide whether it stands within a word or within base64."""
_FIRST_NOT_ASCII = 0x80
_WORD_BYTES = frozenset(b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LAST_SPACED_SCRIPT = "\u0e00"
_HANGUL = ("\uac00", "\ud7a3")


class Span(NamedTuple):
    """A span of a text, in bytes."""

    start: int
    end: int


class SecretPatterns:
    """The compiled search for a set of values; immutable, and shared by all who have that set.

    A value is looked for as it is, without the white space around it, with either kind of line
    break, and as Python and JSON spell it in quotes. Parts that are secret by themselves (what
    stands behind a name such as `password`, or looks random) are looked for alone. Weak values
    match whole words only, and nothing within base64; the others match anywhere, and their base64
    is looked for, too.
    """

    __slots__ = (
        "__weakref__",
        "_any",
        "_beginnings",
        "_bodies",
        "_groups",
        "count",
        "longest",
        "shortest",
        "values",
    )

    def __init__(self, values: frozenset[str]) -> None:
        self.values = values
        strong, weak, longer = _spellings_by_kind(values)
        heads: dict[bytes, list[bytes]] = {}
        for spelling in sorted(longer):
            heads.setdefault(spelling[:HEAD_BYTES], []).append(spelling)
        every = sorted(strong | weak | heads.keys())
        self.count = len(every)
        self.shortest = min((len(_text_before(one)) for one in every), default=0)
        """Characters of the shortest spelling: no shorter text holds one."""
        self.longest = max(map(len, (*strong, *weak, *longer)), default=0)
        """Bytes of the longest spelling."""
        self._any = _Automaton(every)
        self._bodies = _Automaton(sorted({orjson.dumps(_text_before(one))[1:-1] for one in every}))
        self._beginnings: _Beginnings | None = None
        weakest = sorted(weak - strong)
        self._groups = _Groups(
            _Automaton(sorted(strong)),
            _Automaton(weakest),
            _Automaton([*heads]),
            heads,
            [_edges_of(one) for one in weakest],
            _nested_in(weakest),
        )

    def may_be_in(self, body: bytes) -> bool:
        """Return whether any string of a JSON text may hold a value; False is certain."""
        return bool(self._bodies.hits(body))

    def find(self, text: bytes) -> list[Span]:
        """Return where values stand in a text, in order; those that touch or overlap are one."""
        return _Search(text, self._groups).spans() if self._any.hits(text) else []

    def undecided_from(self, text: bytes, start: int) -> int:
        """Return the first byte from `start` on at which text to come may change what `find` returns.

        What `find` returns of the bytes before it holds whatever follows `text`; only that spans
        which touch are one is the caller's to see to. It is `len(text)` if nothing is undecided.
        Of the text before `start`, which is decided, DECIDING_BYTES are enough.
        """
        if self._beginnings is None:  # only texts that are shown while they are written need it
            groups = self._groups
            longer = (one for spellings in groups.longer.values() for one in spellings)
            self._beginnings = _Beginnings(
                (*groups.strong.patterns, *groups.weak.patterns, *longer)
            )
        begins = self._beginnings.first_in(text, start)
        return min(begins, self._weak_undecided_from(text, start)) if self._groups.edges else begins

    def _weak_undecided_from(self, text: bytes, start: int) -> int:
        """Return the first byte of a weak value whose end is not seen, or that may stand within base64."""
        first = max(start, len(text) - HEAD_BYTES)
        run = _BASE64_AT_END.search(text, max(0, start - DECIDING_BYTES))
        doubtful = len(text)
        if run is not None and not run["announced"] and run.end() - run.start() < BASE64_RUN:
            doubtful = max(start, run.start())
        hits = self._groups.weak.hits_from(text, min(first, doubtful), len(text))
        begins = (begin for _, begin, end in hits if begin >= doubtful or end == len(text))
        return min(begins, default=len(text))


Hit = tuple[int, int, int]
"""A pattern's number, and where it begins and ends."""


class _Automaton:
    """Finds any of a list of patterns: the leftmost longest ones, or all."""

    __slots__ = ("_all", "_leftmost", "patterns")

    def __init__(self, patterns: list[bytes]) -> None:
        self.patterns = patterns
        self._leftmost = BytesAhoCorasick(patterns, matchkind=MatchKind.LeftmostLongest)
        self._all: BytesAhoCorasick | None = None

    def hits(self, text: bytes) -> list[Hit]:
        """Return hits that do not overlap."""
        return self._leftmost.find_matches_as_indexes(text) if self.patterns else []

    def hits_from(self, text: bytes, first: int, last: int) -> list[Hit]:
        """Return all hits that begin in [first, last)."""
        if self._all is None:  # few texts hold a secret
            self._all = BytesAhoCorasick(self.patterns)
        window = text[first : last + HEAD_BYTES - 1]
        return [
            (which, first + start, first + stop)
            for which, start, stop in self._all.find_matches_as_indexes(window, overlapping=True)
            if first + start < last
        ]


class _Beginnings:
    """Tells whether the end of a text begins a spelling."""

    __slots__ = ("_first_two", "_longest", "_spellings")

    def __init__(self, spellings: Iterable[bytes]) -> None:
        self._spellings = sorted(spellings)
        self._longest = max(map(len, self._spellings), default=0)
        self._first_two = frozenset(one[:2] for one in self._spellings) | frozenset(
            one[:1] for one in self._spellings
        )

    def first_in(self, text: bytes, start: int) -> int:
        """Return the first place from `start` on from which the rest begins, but is not, a spelling."""
        for at in range(max(start, len(text) - self._longest + 1), len(text)):
            if text[at : at + 2] not in self._first_two:
                continue
            rest = text[at:]
            # Spellings that begin with it follow it in the order; it may be one itself.
            place = bisect_right(self._spellings, rest)
            if place < len(self._spellings) and self._spellings[place].startswith(rest):
                return at
        return len(text)


class _Groups(NamedTuple):
    """The searched patterns: strong spellings, weak ones, and the heads of long ones."""

    strong: _Automaton
    weak: _Automaton
    heads: _Automaton
    longer: Mapping[bytes, list[bytes]]
    edges: Sequence[tuple[bool, bool]]
    """Whether each weak one begins, and ends, with a character of a word."""
    nested: frozenset[int]
    """Weak ones in which another one begins."""


class _Search:
    """One text's search.

    An automaton passes over what begins within a hit. Strong hits are all right, so that only what
    reaches beyond a run of them matters; weak ones may be wrong, and what begins in those is
    looked at again; heads only tell which long spellings are worth a search of their own.
    """

    def __init__(self, text: bytes, groups: _Groups) -> None:
        self._text = text
        self._groups = groups
        self._runs: list[Span] | None = None
        self._looks = MAX_LOOKS

    def spans(self) -> list[Span]:
        """Return the spans of values."""
        found = self._strong()
        weak = list(self._weak())
        longer = list(self._longer())
        return merged((*found, *weak, *longer)) if weak or longer else found

    def _strong(self) -> list[Span]:
        joined: list[Span] = []
        for _, start, stop in self._groups.strong.hits(self._text):
            if joined and start > joined[-1].end:
                self._extend(joined, start)
            if joined and start <= joined[-1].end:
                joined[-1] = Span(joined[-1].start, max(stop, joined[-1].end))
            else:
                joined.append(Span(start, stop))
        if joined:
            self._extend(joined, len(self._text))
        return joined

    def _extend(self, joined: list[Span], limit: int) -> None:
        """Lengthen the last span by values that begin in it, up to where the next one begins."""
        while joined[-1].end < limit:
            start, end = joined[-1]
            if self._looks <= 0:
                joined[-1] = Span(start, min(limit, end + HEAD_BYTES))
                return
            hits = self._groups.strong.hits_from(self._text, max(start, end - HEAD_BYTES + 1), end)
            self._looks -= len(hits)
            further = max((stop for _, _, stop in hits), default=end)
            if further <= end:
                return
            joined[-1] = Span(start, further)

    def _weak(self) -> Iterator[Span]:
        weak = self._groups.weak
        for hit in weak.hits(self._text):
            if self._is_word(hit):
                yield Span(*hit[1:])
            elif hit[0] in self._groups.nested and self._looks > 0:
                again = weak.hits_from(self._text, *hit[1:])
                self._looks -= len(again)
                yield from (Span(*one[1:]) for one in again if self._is_word(one))

    def _longer(self) -> Iterator[Span]:
        heads = self._groups.heads
        seen: set[int] = set()
        for which, start, stop in heads.hits(self._text):
            if which not in seen or self._looks > 0:
                again = heads.hits_from(self._text, start, stop)
                self._looks -= len(again)
                seen.update(one for one, _, _ in again)
        for which in seen:
            for spelling in self._groups.longer[heads.patterns[which]]:
                yield from self._occurrences(spelling)

    def _occurrences(self, spelling: bytes) -> Iterator[Span]:
        count = 0
        at = self._text.find(spelling)
        while at >= 0:
            count += 1
            self._looks -= HEAD_BYTES  # a search costs as much as many looks
            if self._looks <= 0:
                yield Span(at, len(self._text))
                return
            yield Span(at, at + len(spelling))
            at = self._text.find(spelling, at + (1 if count < MAX_OVERLAPS else len(spelling)))

    def _is_word(self, hit: Hit) -> bool:
        """Return whether a weak value is not part of a longer word, and not within base64."""
        which, start, stop = hit
        text = self._text
        begins, ends = self._groups.edges[which]
        if begins and start > 0:
            before = text[start - 1]
            if before in _WORD_BYTES or (
                before >= _FIRST_NOT_ASCII
                and _joins_words(_last_character(text[max(0, start - 4) : start]))
            ):
                return False
        if ends and stop < len(text):
            after = text[stop]
            if after in _WORD_BYTES or (
                after >= _FIRST_NOT_ASCII and _joins_words(_first_character(text[stop : stop + 4]))
            ):
                return False
        return not self._in_base64(start, stop)

    def _in_base64(self, start: int, stop: int) -> bool:
        if self._runs is None:
            self._runs = [Span(*run.span()) for run in _BASE64_RUNS.finditer(self._text)]
        place = bisect_right(self._runs, Span(start, len(self._text) + 1)) - 1
        return place >= 0 and stop <= self._runs[place].end


_compiled: WeakValueDictionary[frozenset[str], SecretPatterns] = WeakValueDictionary()


def groups_of(values: frozenset[str]) -> tuple[frozenset[str], ...]:
    """Return the values as they are compiled: long ones alone, so that a change costs one of them."""
    long = sorted(
        (value for value in values if len(value) >= LONG_CHARACTERS),
        key=lambda value: (-len(value), value),
    )
    alone = [frozenset((value,)) for value in long[:MAX_ALONE]]
    rest = values.difference(*alone)
    return (rest, *alone) if rest else (*alone,)


def compiled_patterns(values: frozenset[str]) -> SecretPatterns | None:
    """Return the search for these values if one is in use."""
    return _compiled.get(values)


def patterns_of(values: frozenset[str], compiled: SecretPatterns | None = None) -> SecretPatterns:
    """Return the search for these values, compiled once while it is in use.

    `compiled` is a search compiled elsewhere in the meantime.
    """
    found = _compiled.get(values)
    if found is None:
        found = _compiled[values] = compiled or SecretPatterns(values)
    return found


def _spellings_by_kind(values: Iterable[str]) -> tuple[set[bytes], set[bytes], set[bytes]]:
    """Return all spellings as strong ones, weak ones, and those longer than HEAD_BYTES."""
    strong: set[bytes] = set()
    weak: set[bytes] = set()
    longer: set[bytes] = set()
    parts: set[str] = set()
    wholes: set[str] = set()
    for value in sorted(values):
        wholes |= _forms_of(value)
        parts.update(islice(_secret_parts_of(value), MAX_PARTS - len(parts)))
    for one in _with_composed_forms(wholes | parts):
        kind = weak if is_weak(one) else strong
        for spelling in _spellings_of(one):
            encoded = spelling.encode("utf-8", "replace")
            (longer if len(encoded) > HEAD_BYTES else kind).add(encoded)
    return strong, weak, longer


def _forms_of(value: str) -> set[str]:
    """Return the forms in which a whole value may occur: shells drop its last line break."""
    unix = value.replace("\r\n", "\n")
    forms = {value, unix}
    if "\n" in unix:
        forms.add(unix.replace("\n", "\r\n"))
    forms |= {form.strip() for form in forms}
    return {form for form in forms if len(form) >= MIN_CHARACTERS and form.strip()}


def _with_composed_forms(values: set[str]) -> set[str]:
    """Return the values, and those with accents as programs and file systems may write them."""
    others = [value for value in values if not value.isascii()]
    return values.union(normalize(form, one) for form in ("NFC", "NFD") for one in others)


def is_weak(value: str) -> bool:
    """Return whether a value may occur by chance: it is short, or a plain word or number."""
    if len(value) < SHORT_CHARACTERS:
        return True
    bare = _WORD_SEPARATORS.sub("", value)
    return len(value) < WORD_CHARACTERS and (bare.isalpha() or bare.isdecimal())


def _spellings_of(value: str) -> set[str]:
    """Return the forms of a value in texts that quote it, such as a derived message."""
    spellings = {
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
    }
    encoded = value.encode("utf-8", "replace")
    if not is_weak(value):
        return spellings | _in_base64(encoded)
    if len(value) >= SHORT_CHARACTERS:
        # Alone, with or without a line break: anywhere in a picture it would be a guess.
        wholes = (encoded, encoded + b"\n")
        spellings |= {b64encode(whole).decode().rstrip("=") for whole in wholes}
    return spellings


def _in_base64(value: bytes) -> set[str]:
    """Return what of a value's base64 does not depend on what stands before and after it."""
    found = set()
    for before in range(3):
        # A character holds 6 bits: the first that are the value's alone, and the last.
        start, stop = -(-8 * before // 6), 8 * (before + len(value)) // 6
        for encode in (b64encode, urlsafe_b64encode):
            found.add(encode(b"\0" * before + value).decode()[start:stop])
    return found


def _secret_parts_of(value: str) -> Iterator[str]:
    """Yield what of a value is secret by itself: programs print single lines and fields."""
    texts = [value]
    if value.lstrip()[:1] in ("{", "["):
        with suppress(orjson.JSONDecodeError):
            texts += _strings_in(orjson.loads(value))
    for text in texts:
        yield from _passwords_in(text)
        for line in text.splitlines():
            named = _NAMED.match(line.strip())
            if named and _SECRET_NAME.search(named["name"]):
                part = named["value"].strip().rstrip(",;").strip().strip("\"'")
                if part != value and not _REFERENCE.match(part):
                    if len(part) >= MIN_PART_CHARACTERS:
                        yield part
                    elif len(part) >= MIN_CHARACTERS:
                        yield line.strip()  # by itself it might be any word
            for word in _WORDS.findall(line):
                if _is_random(word) and word != value:
                    yield word.rstrip("=") or word


def _passwords_in(text: str) -> Iterator[str]:
    """Yield passwords that stand in addresses and in files of the form of .netrc."""
    for found in _IN_ADDRESS.finditer(text):
        password = found["value"]
        if _REFERENCE.match(password):
            continue
        if len(password) >= MIN_PART_CHARACTERS:
            yield password
            yield unquote(password)
        else:
            yield f"{found['user']}:{password}@"  # by itself it might be any word
    for found in _IN_NETRC.finditer(text):
        if len(found["value"]) >= MIN_PART_CHARACTERS:
            yield found["value"]


def _strings_in(value: object) -> Iterator[str]:
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, str):
            yield current
        elif isinstance(current, dict):
            for name, item in current.items():
                if isinstance(item, str):
                    yield f"{name}={item}"
                pending.append(item)
        elif isinstance(current, list):
            pending.extend(current)


def _is_random(word: str) -> bool:
    bare = _SEPARATORS.sub("", word)
    if len(bare) < MIN_RANDOM_CHARACTERS or sum(map(str.isdigit, bare)) < RANDOM_DIGITS:
        return False
    classes = [(one.isdigit(), one.isupper()) for one in bare]
    changes = sum(one != other for one, other in pairwise(classes))
    return changes >= RANDOM_CHANGES * len(bare)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, those that touch or overlap as one."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def _text_before(head: bytes) -> str:
    """Return a head as text, without a character that is cut at its end."""
    return head.decode("utf-8", "ignore")


def _edges_of(value: bytes) -> tuple[bool, bool]:
    return _joins_words(_first_character(value)), _joins_words(_last_character(value))


def _nested_in(patterns: Sequence[bytes]) -> frozenset[int]:
    """Return the places of patterns within which another one may begin."""
    if len(patterns) > MAX_COMPARED:
        return frozenset(range(len(patterns)))
    return frozenset(
        place
        for place, one in enumerate(patterns)
        if any(
            other != one and (other.startswith(one[at:]) or one.startswith(other, at))
            for other in patterns
            for at in range(len(one))
        )
    )


def _first_character(text: bytes) -> str:
    return text[:4].decode("utf-8", "ignore")[:1]


def _last_character(text: bytes) -> str:
    return text[-4:].decode("utf-8", "ignore")[-1:]


def _joins_words(character: str) -> bool:
    """Return whether a character next to a word belongs to it; many scripts have no spaces."""
    if character == "_":
        return True
    spaced = character < _LAST_SPACED_SCRIPT or _HANGUL[0] <= character <= _HANGUL[1]
    return character.isalnum() and spaced
