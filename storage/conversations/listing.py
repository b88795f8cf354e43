"""The lists of conversations in memory, in their order, and their blocks on the medium."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import TypeAlias

import orjson

from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter, ListPosition, fold_case
from storage.errors import Damaged
from storage.files.checked import checked_body, with_checksum

BLOCK = 500
"""Entries of a block, by the order in which they came: those in use together lie together."""
SLICE = 5_000
"""Entries looked at in one go."""

_KIND = "list"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_POSITION = attrgetter("position")

_List: TypeAlias = tuple[str | None, str, str | None]
EVERYBODY: _List = (None, "everybody", None)


class Entry:
    """What lists know of a record: its place, and what filters ask for. `title` is case-folded."""

    __slots__ = ("block", "owner", "position", "repository", "title", "trigger", "updated")

    def __init__(
        self,
        block: int,
        position: ListPosition,
        owner: str | None,
        repository: str | None,
        trigger: str | None,
        title: str | None,
        updated: datetime,
    ) -> None:
        self.block = block
        self.position = position
        self.owner = owner
        self.repository = repository
        self.trigger = trigger
        self.title = title
        self.updated = updated

    @classmethod
    def of(cls, record: ConversationMetadata, block: int) -> "Entry":
        """The entry of a record, in that block."""
        title = None if record.title is None else fold_case(record.title)
        updated = record.last_updated_at or record.created_at
        place = ListPosition.of(record)
        trigger = None if record.trigger is None else record.trigger.value
        return cls(
            block, place, record.user_id, record.selected_repository, trigger, title, updated
        )

    def lists(self) -> Iterable[_List]:
        """The lists it stands in."""
        yield EVERYBODY
        yield self.owner, "all", None
        if self.repository is not None:
            yield self.owner, "repository", self.repository
        if self.trigger is not None:
            yield self.owner, "trigger", self.trigger


class Listing:
    """Every record's entry; for each owner a list of all, of each repository, of each trigger.

    `dirty` holds the blocks that are not on the medium as they are here.
    """

    def __init__(self) -> None:
        self.dirty: set[int] = set()
        self._entries: dict[str, Entry] = {}
        self._blocks: defaultdict[int, dict[str, Entry]] = defaultdict(dict)
        self._newest = 0
        self._lists: defaultdict[_List, list[Entry]] = defaultdict(list)

    def get(self, conversation_id: str) -> Entry | None:
        """The entry of a record that is there."""
        return self._entries.get(conversation_id)

    def everybodys(self) -> Iterable[Entry]:
        """All entries, in no order; nothing may be entered or struck meanwhile."""
        return self._entries.values()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, record: ConversationMetadata) -> None:
        """Enter a record, or enter it anew."""
        key = record.conversation_id
        known = self._entries.get(key)
        self.remove(key)
        if known is None and len(self._blocks[self._newest]) >= BLOCK:
            self._newest += 1
        entry = Entry.of(record, self._newest if known is None else known.block)
        self._place(key, entry)
        self.dirty.add(entry.block)
        for name in entry.lists():
            insort(self._lists[name], entry, key=_POSITION)

    def touch(self, conversation_id: str, moment: datetime | None) -> None:
        """Note when a record was updated; None and absent records are fine."""
        entry = self.get(conversation_id)
        if entry is not None and moment is not None:
            entry.updated = moment
            self.dirty.add(entry.block)

    def remove(self, conversation_id: str) -> None:
        """Strike a record; absent is fine."""
        entry = self._entries.pop(conversation_id, None)
        if entry is None:
            return
        del self._blocks[entry.block][conversation_id]
        self.dirty.add(entry.block)
        for name in entry.lists():
            entries = self._lists[name]
            del entries[bisect_left(entries, entry.position, key=_POSITION)]
            if not entries:
                del self._lists[name]

    def scan(
        self,
        owner: str | None,
        filters: ConversationFilter,
        after: ListPosition | None,
        count: int,
        *,
        everybody: bool = False,
    ) -> tuple[list[ListPosition], ListPosition | None]:
        """Up to `count` positions of an owner's records that pass, newest first, behind `after`.

        With `everybody` those of all owners.

        Looks at a bounded number of entries; the second value is where to go on, None at the end.
        """
        which = EVERYBODY if everybody else _list_for(owner, filters)
        entries = self._lists.get(which, [])
        end = len(entries) if after is None else bisect_left(entries, after, key=_POSITION)
        begin = max(end - SLICE, 0)
        passes = _test_of(filters)
        passing = (entry.position for entry in reversed(entries[begin:end]) if passes(entry))
        found = list(islice(passing, count))
        if len(found) == count:
            return found, found[-1]
        return found, entries[begin].position if begin else None

    def encode(self, block: int) -> bytes:
        """The file of a block."""
        rows = (
            (
                key,
                entry.owner,
                _number(entry.position.created_at),
                entry.repository,
                entry.trigger,
                entry.title,
                _number(entry.updated),
            )
            for key, entry in self._blocks[block].items()
        )
        return with_checksum(_KIND, b"".join(orjson.dumps(row) + b"\n" for row in rows))

    def load(self, contents: Iterable[tuple[str, bytes]]) -> list[str]:
        """Take in files of blocks, given by key; the keys of those that are damaged."""
        damaged: list[str] = []
        for key, content in contents:
            self._newest = max(self._newest, int(key.rpartition("/")[2]))
            try:
                self._load(self._newest, checked_body(_KIND, content, key))
            except Damaged:
                damaged.append(key)
        return damaged

    def sort(self) -> None:
        """Bring the lists in order after `load`, before anything else."""
        for entries in self._lists.values():
            entries.sort(key=_POSITION)

    def _load(self, block: int, body: bytes) -> None:
        for line in body.splitlines():
            key, owner, created, repository, trigger, title, updated = orjson.loads(line)
            position = ListPosition(_EPOCH + created * _MICROSECOND, key)
            moment = _EPOCH + updated * _MICROSECOND
            entry = Entry(block, position, owner, repository, trigger, title, moment)
            self._place(key, entry)
            for name in entry.lists():
                self._lists[name].append(entry)

    def _place(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self._blocks[entry.block][key] = entry


def _list_for(owner: str | None, filters: ConversationFilter) -> _List:
    if filters.selected_repository is not None:
        return owner, "repository", filters.selected_repository
    if filters.trigger is not None:
        return owner, "trigger", filters.trigger.value
    return owner, "all", None


def _test_of(filters: ConversationFilter) -> Callable[[Entry], bool]:
    trigger = None if filters.trigger is None else filters.trigger.value
    title = None if filters.title_contains is None else fold_case(filters.title_contains)
    since = filters.updated_since

    repository = filters.selected_repository

    def passes(entry: Entry) -> bool:
        return (
            (repository is None or entry.repository == repository)
            and (trigger is None or entry.trigger == trigger)
            and (title is None or (entry.title is not None and title in entry.title))
            and (since is None or entry.updated >= since)
        )

    return passes


def _number(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
