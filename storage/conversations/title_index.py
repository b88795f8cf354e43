"""An in-memory trigram index of titles, so that rare texts are found without a scan."""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, defaultdict
from collections.abc import Sequence

from storage.conversations.entries import POSITION, ListEntry
from storage.conversations.paging import LETTERS, ListPosition, trigrams_of

WORTH = 500
"""Number of an owner's records from which titles are indexed; fewer are scanned quickly."""
SLICE = 500
"""Records indexed per step."""
PLACES_LIMIT = 10_000_000
"""Places in all indexes, 8 bytes each: then the least lately used owner's index is given up."""
FEW = 1_000
"""Maximum number of positions sorted for a text shorter than a trigram."""


class TitleIndex:
    """One owner's entries by the trigrams of their titles, in list order.

    It is built from the beginning of the list, a slice at a time, up to `end`.
    """

    __slots__ = ("complete", "end", "places", "threes", "too_large")

    def __init__(self) -> None:
        self.threes: defaultdict[str, list[ListEntry]] = defaultdict(list)
        self.end: ListPosition | None = None
        self.complete = False
        self.places = 0
        self.too_large = False

    def extend(self, entries: Sequence[ListEntry]) -> None:
        """Take in the next slice of the owner's list."""
        begin = 0 if self.end is None else bisect_right(entries, self.end, key=POSITION)
        for entry in entries[begin : begin + SLICE]:
            for three in _trigrams(entry):
                self.threes[three].append(entry)
                self.places += 1
            self.end = entry.position
        self.complete = begin + SLICE >= len(entries)

    def add(self, entry: ListEntry) -> None:
        """Take in an entry that came into the list, unless a later slice will."""
        if self._reaches(entry):
            for three in _trigrams(entry):
                insort(self.threes[three], entry, key=POSITION)
                self.places += 1

    def remove(self, entry: ListEntry) -> None:
        """Strike an entry that left the list."""
        if self._reaches(entry):
            for three in _trigrams(entry):
                entries = self.threes[three]
                del entries[bisect_left(entries, entry.position, key=POSITION)]
                self.places -= 1
                if not entries:
                    del self.threes[three]

    def give_up(self) -> None:
        """Hold nothing, for good."""
        self.threes.clear()
        self.places = 0
        self.end = None
        self.complete = self.too_large = True

    def having(self, text: str, fewer_than: int) -> Sequence[ListEntry] | None:
        """In order, every entry that may have the text in its title; None for too many."""
        if len(text) >= LETTERS:
            nothing: list[ListEntry] = []
            found = min((self.threes.get(three, nothing) for three in trigrams_of(text)), key=len)
            return found if len(found) < fewer_than else None
        lists = [entries for three, entries in self.threes.items() if text in three]
        if sum(map(len, lists)) > min(FEW, fewer_than):
            return None
        return sorted({entry for entries in lists for entry in entries}, key=POSITION)

    def _reaches(self, entry: ListEntry) -> bool:
        if self.too_large:
            return False
        return self.complete or (self.end is not None and entry.position <= self.end)


class TitleIndexes:
    """The indexes of all owners that searched for titles, the least recently used first.

    Together they have at most `limit` positions, plus one slice.
    """

    def __init__(self, limit: int = PLACES_LIMIT) -> None:
        self._limit = limit
        self._indexes: OrderedDict[str | None, TitleIndex] = OrderedDict()

    def prepare(self, owner: str | None, entries: Sequence[ListEntry]) -> bool:
        """Work a little on the index of the owner whose list is given; whether nothing is left."""
        if len(entries) < WORTH:
            return True
        index = self._indexes.setdefault(owner, TitleIndex())
        self._indexes.move_to_end(owner)
        if not index.complete:
            index.extend(entries)
            self._make_room()
        return index.complete

    def having(self, owner: str | None, text: str, fewer_than: int) -> Sequence[ListEntry] | None:
        """See TitleIndex; also None if there is no index."""
        index = self._indexes.get(owner)
        if index is None or index.too_large or not index.complete:
            return None
        return index.having(text, fewer_than)

    def add(self, entry: ListEntry) -> None:
        """Take in an entry."""
        if entry.owner in self._indexes:
            self._indexes[entry.owner].add(entry)

    def remove(self, entry: ListEntry) -> None:
        """Strike an entry."""
        if entry.owner in self._indexes:
            self._indexes[entry.owner].remove(entry)

    def _make_room(self) -> None:
        places = sum(index.places for index in self._indexes.values())
        while places > self._limit:
            owner, index = next(iter(self._indexes.items()))
            places -= index.places
            if len(self._indexes) > 1:
                del self._indexes[owner]
            else:
                index.give_up()


def _trigrams(entry: ListEntry) -> set[str]:
    return set() if entry.title is None else trigrams_of(entry.title)
