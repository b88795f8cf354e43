"""The lists of conversations in memory, in their order, and their form on the medium."""

import zlib
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import orjson

from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter, ListPosition, fold_case
from storage.errors import Damaged
from storage.files.checked import checked_body, with_checksum

SHARDS = 256
"""Files that hold the entries, by a checksum of the conversation's id; part of the format."""
SLICE = 5_000
"""Entries looked at in one go."""

_KIND = "list"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_List: TypeAlias = tuple[str | None, str, str | None]


class Entry:
    """What lists know of a record: its place, and what filters ask for. `title` is case-folded."""

    __slots__ = ("owner", "position", "repository", "title", "trigger", "updated")

    def __init__(
        self,
        position: ListPosition,
        owner: str | None,
        repository: str | None,
        trigger: str | None,
        title: str | None,
        updated: datetime,
    ) -> None:
        self.position = position
        self.owner = owner
        self.repository = repository
        self.trigger = trigger
        self.title = title
        self.updated = updated

    @classmethod
    def of(cls, record: ConversationMetadata) -> "Entry":
        """The entry of a record."""
        title = None if record.title is None else fold_case(record.title)
        updated = record.last_updated_at or record.created_at
        place = ListPosition.of(record)
        trigger = None if record.trigger is None else record.trigger.value
        return cls(place, record.user_id, record.selected_repository, trigger, title, updated)

    def lists(self) -> Iterable[_List]:
        """The lists it stands in."""
        yield self.owner, "all", None
        if self.repository is not None:
            yield self.owner, "repository", self.repository
        if self.trigger is not None:
            yield self.owner, "trigger", self.trigger


class Listing:
    """Every record's entry; for each owner a list of all, of each repository, of each trigger."""

    def __init__(self) -> None:
        self._shards: list[dict[str, Entry]] = [{} for _ in range(SHARDS)]
        self._lists: defaultdict[_List, list[ListPosition]] = defaultdict(list)

    def get(self, conversation_id: str) -> Entry | None:
        """The entry of a record that is there."""
        return self._shards[shard_of(conversation_id)].get(conversation_id)

    def put(self, record: ConversationMetadata) -> None:
        """Enter a record, or enter it anew."""
        self.remove(record.conversation_id)
        entry = Entry.of(record)
        self._shards[shard_of(record.conversation_id)][record.conversation_id] = entry
        for name in entry.lists():
            insort(self._lists[name], entry.position)

    def touch(self, conversation_id: str, moment: datetime | None) -> None:
        """Note when a record was updated; None and absent records are fine."""
        entry = self.get(conversation_id)
        if entry is not None and moment is not None:
            entry.updated = moment

    def remove(self, conversation_id: str) -> None:
        """Strike a record; absent is fine."""
        entry = self._shards[shard_of(conversation_id)].pop(conversation_id, None)
        if entry is None:
            return
        for name in entry.lists():
            positions = self._lists[name]
            del positions[bisect_left(positions, entry.position)]
            if not positions:
                del self._lists[name]

    def scan(
        self,
        owner: str | None,
        filters: ConversationFilter,
        after: ListPosition | None,
        count: int,
    ) -> tuple[list[ListPosition], ListPosition | None]:
        """Up to `count` positions of an owner's records that pass, newest first, behind `after`.

        Looks at a bounded number of entries; the second value is where to go on, None at the end.
        """
        positions = self._lists.get(_list_for(owner, filters), [])
        end = len(positions) if after is None else bisect_left(positions, after)
        found: list[ListPosition] = []
        passes = _test_of(filters)
        for place in range(end - 1, max(end - SLICE, 0) - 1, -1):
            entry = self.get(positions[place].conversation_id)
            if entry is not None and passes(entry):
                found.append(entry.position)
                if len(found) == count:
                    return found, entry.position if place else None
        return found, positions[end - SLICE] if end > SLICE else None

    def encode(self, shard: int) -> bytes:
        """The file of a shard."""
        rows = [
            (
                key,
                entry.owner,
                _number(entry.position.created_at),
                entry.repository,
                entry.trigger,
                entry.title,
                _number(entry.updated),
            )
            for key, entry in self._shards[shard].items()
        ]
        return with_checksum(_KIND, b"".join(orjson.dumps(row) + b"\n" for row in rows))

    def load(self, contents: Iterable[tuple[str, bytes]]) -> list[str]:
        """Take in files of shards, given by key; the keys of those that are damaged."""
        damaged: list[str] = []
        for key, content in contents:
            try:
                self._load(checked_body(_KIND, content, key))
            except Damaged:
                damaged.append(key)
        for positions in self._lists.values():
            positions.sort()
        return damaged

    def _load(self, body: bytes) -> None:
        for line in body.splitlines():
            key, owner, created, repository, trigger, title, updated = orjson.loads(line)
            position = ListPosition(_EPOCH + created * _MICROSECOND, key)
            moment = _EPOCH + updated * _MICROSECOND
            entry = Entry(position, owner, repository, trigger, title, moment)
            self._shards[shard_of(key)][key] = entry
            for name in entry.lists():
                self._lists[name].append(position)


def shard_of(conversation_id: str) -> int:
    """The shard a conversation's entry is in."""
    return zlib.crc32(conversation_id.encode()) % SHARDS


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

    def passes(entry: Entry) -> bool:
        # The repository, where one is asked for, has chosen the list.
        return (
            (trigger is None or entry.trigger == trigger)
            and (title is None or (entry.title is not None and title in entry.title))
            and (since is None or entry.updated >= since)
        )

    return passes


def _number(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
