"""The SearchIndex contract: words of titles and events, found newest first."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

from storage.errors import Unavailable
from storage.search.words import Phrase

TITLE_ID = -1
"""The place of a title among the event ids of its conversation."""
MAX_FOUND = 200
"""Maximum number of entries that one call of `find` returns."""

TIE_BITS = 11
MAX_PLACE = 2**63 - 1
MAX_MOMENT = 2**52 - 2**32
"""Microseconds since 1970 of the last moment that a place can name, in the year 2112.

Later ones share its places and those behind it, of which there are enough for every entry.
"""


class EntryKind(StrEnum):
    """The kinds of entries: titles, and events by who speaks in them and how."""

    TITLE = "title"
    MESSAGE = "message"
    THOUGHT = "thought"
    OUTPUT = "output"


class Entry(NamedTuple):
    """A text of a conversation: an event's by its id, or the title by TITLE_ID.

    `moment` is in microseconds since 1970, `source` is the author, "" for a title.
    """

    event_id: int
    moment: int
    source: str
    kind: EntryKind
    text: str


@dataclass(frozen=True, slots=True)
class LogState:
    """The part of a conversation that an index holds: its events below `next_id`, and its title.

    `mark` is the checksum of the event before `next_id`, `epoch` the log's. Both tell whether the
    log is still the one that was indexed.
    """

    owner: str | None
    next_id: int = 0
    epoch: str = ""
    mark: int = 0
    title: str | None = None


class LogChange(NamedTuple):
    """A step of a conversation from one state to the next, with its new entries.

    A `before` of None begins anew: whatever the index held of the conversation is dropped. An
    entry replaces the one with its event id; those of the ids in `withdrawn` are dropped.
    """

    conversation_id: str
    before: LogState | None
    after: LogState
    entries: Sequence[Entry] = ()
    withdrawn: Collection[int] = ()


class SearchQuery(NamedTuple):
    """Entries of one owner that contain every phrase, and fit every filter that is not None.

    `below` is a place: only older entries are found. `since` is in microseconds since 1970, included.
    """

    owner: str | None
    phrases: Sequence[Phrase]
    conversation_id: str | None = None
    source: str | None = None
    kind: EntryKind | None = None
    since: int | None = None
    below: int | None = None


class Found(NamedTuple):
    """The place of an entry in the order of results, its conversation and its event id."""

    place: int
    conversation_id: str
    event_id: int


class SearchIndex(ABC):
    """An index of what conversations say, written by one indexer and read by many searches.

    It may be dropped and made anew from logs and records at any time. Every call may raise
    Unavailable; a write that raises it changed nothing. Texts are compared in the form of
    `storage.search.words.fold`.
    """

    @abstractmethod
    async def states(self, conversation_ids: Sequence[str]) -> Mapping[str, LogState]:
        """Return the states of those conversations that the index knows."""

    @abstractmethod
    async def conversations(self, after: str, limit: int) -> list[str]:
        """Return the next ids of known conversations, ascending, that sort behind `after`."""

    @abstractmethod
    async def write(self, changes: Sequence[LogChange]) -> int:
        """Apply changes in one step, and return how many; others are passed over.

        Passed over are changes whose `before` is not the state that the index has, as those of
        another indexer that was overtaken. Applying a change twice leaves what applying it once
        does.
        """

    @abstractmethod
    async def erase(self, conversation_ids: Sequence[str]) -> None:
        """Drop all entries and states of those conversations; unknown ids are ignored."""

    @abstractmethod
    async def clear(self) -> None:
        """Drop everything."""

    @abstractmethod
    async def find(self, query: SearchQuery, limit: int) -> list[Found]:
        """Return at most `limit` (1..MAX_FOUND) entries, the newest first, each at a place of its own.

        Entries written between two calls do not move others. No phrase finds nothing. Raises
        SearchTooSlow, SearchBusy.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish what is being written and release everything."""


def first_place(conversation_id: str, moment: int) -> int:
    """Return where an entry stands unless that place is taken: then it is the next free one.

    Places are in the order of moments. Those of one moment are told apart by their conversations.
    """
    tie = int.from_bytes(blake2b(conversation_id.encode(), digest_size=2).digest()) >> 5
    return place_at(moment) | tie


def place_at(moment: int) -> int:
    """Return the first place of a moment."""
    return min(max(moment, 0), MAX_MOMENT) << TIE_BITS


def closed() -> Unavailable:
    """Return the error of an index that is closed."""
    return Unavailable("the search index is closed")
