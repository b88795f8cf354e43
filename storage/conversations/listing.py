"""Lists of conversations in memory, in their order."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TypeAlias

from storage.conversations.entries import EVERYBODY, MESSAGED, POSITION, ListEntry, ListName
from storage.conversations.metadata import ConversationMetadata
from storage.conversations.paging import ConversationFilter, ListOrder, ListPosition
from storage.conversations.title_index import TitleIndexes
from storage.unicode_text import fold_case

Hours: TypeAlias = dict[datetime, dict[str, ListEntry]]


class UpdateHours:
    """For each owner the entries of every hour; an entry moves once an hour at most."""

    def __init__(self) -> None:
        self._owners: defaultdict[str | None, Hours] = defaultdict(dict)

    def add(self, entry: ListEntry) -> None:
        """Enter an entry."""
        hours = self._owners[entry.owner]
        hours.setdefault(_hour_of(entry.updated), {})[entry.position.conversation_id] = entry

    def remove(self, entry: ListEntry) -> None:
        """Strike an entry that is there."""
        hours, hour = self._owners[entry.owner], _hour_of(entry.updated)
        del hours[hour][entry.position.conversation_id]
        if not hours[hour]:
            del hours[hour]

    def touch(self, entry: ListEntry, moment: datetime) -> None:
        """Record a new update time of an entry."""
        if _is_same_hour(moment, entry.updated):
            entry.updated = moment
            return
        self.remove(entry)
        entry.updated = moment
        self.add(entry)

    def since(self, owner: str | None, moment: datetime, limit: int) -> list[ListEntry] | None:
        """Return all updated since then, and others of the same hour, in the list's order.

        None when those are more than `limit`.
        """
        hours, first = self._owners.get(owner, {}), _hour_of(moment)
        found = [entries for hour, entries in hours.items() if hour >= first]
        if sum(map(len, found)) > limit:
            return None
        return sorted((entry for entries in found for entry in entries.values()), key=POSITION)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _is_same_hour(one: datetime, other: datetime) -> bool:
    """Return whether both times are in the same hour; called for every batch of events."""
    return (
        one.hour == other.hour
        and one.tzinfo is other.tzinfo
        and one.toordinal() == other.toordinal()
    )


SLICE = 5_000
"""Entries examined per step."""
FEW_UPDATES = 5_000
"""Maximum number of entries sorted for one page of entries updated since a time."""


class Listing:
    """Every record's entry; for each owner a list of all, of each repository, of each trigger.

    These are in the order of creation; one more of each owner is in that of the last messages.
    """

    def __init__(self) -> None:
        self._entries: dict[str, ListEntry] = {}
        self._lists: defaultdict[ListName, list[ListEntry]] = defaultdict(list)
        self._messages: defaultdict[str | None, list[ListEntry]] = defaultdict(list)
        self._titles = TitleIndexes()
        self._updates = UpdateHours()

    def get(self, conversation_id: str) -> ListEntry | None:
        """Return the entry of an existing record."""
        return self._entries.get(conversation_id)

    def all_owners(self) -> Iterable[ListEntry]:
        """Return all entries, unordered; the listing must not change during the iteration."""
        return self._entries.values()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, record: ConversationMetadata) -> None:
        """Add or replace the entry of a record."""
        self.remove(record.conversation_id)
        self._insert(record.conversation_id, ListEntry.of(record))

    def touch(
        self, conversation_id: str, moment: datetime | None, message: datetime | None
    ) -> None:
        """Note when a record was updated, and its last message; None and absent are fine."""
        entry = self._entries.get(conversation_id)
        if entry is None:
            return
        if moment is not None:
            self._updates.touch(entry, moment)
        if message is not None and message != entry.messaged.moment:
            self._move(entry, ListPosition(message, conversation_id))

    def remove(self, conversation_id: str) -> None:
        """Strike a record; absent is fine."""
        entry = self._entries.pop(conversation_id, None)
        if entry is None:
            return
        for name in entry.lists():
            entries = self._lists[name]
            del entries[bisect_left(entries, entry.position, key=POSITION)]
            if not entries:
                del self._lists[name]
        self._strike_message(entry)
        self._titles.remove(entry)
        self._updates.remove(entry)

    def preparing(self, owner: str | None, filters: ConversationFilter) -> Iterator[None]:
        """Build the indexes for such a scan; the caller yields to the event loop after each step."""
        if filters.title_contains:
            name = (owner, "all", None)
            while not self._titles.prepare(owner, self._lists.get(name, [])):
                yield

    def scan(
        self,
        owner: str | None,
        filters: ConversationFilter,
        after: ListPosition | None,
        count: int,
        *,
        everybody: bool = False,
    ) -> tuple[list[ListPosition], ListPosition | None]:
        """Return up to `count` positions of an owner's matching records, newest first, after `after`.

        With `everybody` those of all owners, in the order of creation only. Examines a bounded
        number of entries; the second value is where to continue, None at the end.
        """
        whole = self._lists.get(EVERYBODY, [])
        entries = whole if everybody else self._shortest(owner, filters)
        place = POSITION
        if filters.order is ListOrder.LAST_MESSAGE and not everybody:
            place = MESSAGED
            all_of_owner = self._messages.get(owner, [])
            few = len(entries) < len(all_of_owner) and len(entries) <= FEW_UPDATES
            entries = sorted(entries, key=place) if few else all_of_owner
        end = len(entries) if after is None else bisect_left(entries, after, key=place)
        begin = max(end - SLICE, 0)
        passes = _test_of(filters)
        passing = (place(entry) for entry in reversed(entries[begin:end]) if passes(entry))
        found: list[ListPosition] = list(islice(passing, count))
        if len(found) == count:
            return found, found[-1]
        return found, place(entries[begin]) if begin else None

    def _insert(self, key: str, entry: ListEntry) -> None:
        self._entries[key] = entry
        for name in entry.lists():
            insort(self._lists[name], entry, key=POSITION)
        insort(self._messages[entry.owner], entry, key=MESSAGED)
        self._titles.add(entry)
        self._updates.add(entry)

    def _move(self, entry: ListEntry, place: ListPosition) -> None:
        """Move an entry in the list by last message, usually to the end."""
        entries = self._messages[entry.owner]
        newest = entries[-1]
        if place < newest.messaged:
            del entries[bisect_left(entries, entry.messaged, key=MESSAGED)]
            entry.messaged = place
            insort(entries, entry, key=MESSAGED)
        else:
            if newest is not entry:
                del entries[bisect_left(entries, entry.messaged, key=MESSAGED)]
                entries.append(entry)
            entry.messaged = place

    def _strike_message(self, entry: ListEntry) -> None:
        entries = self._messages[entry.owner]
        del entries[bisect_left(entries, entry.messaged, key=MESSAGED)]
        if not entries:
            del self._messages[entry.owner]

    def _shortest(self, owner: str | None, filters: ConversationFilter) -> Sequence[ListEntry]:
        """Return the shortest list that contains all matches."""
        names: list[ListName] = [(owner, "all", None)]
        if filters.selected_repository is not None:
            names.append((owner, "repository", filters.selected_repository))
        if filters.trigger is not None:
            names.append((owner, "trigger", filters.trigger.value))
        shortest: Sequence[ListEntry] = min((self._lists.get(name, []) for name in names), key=len)
        if filters.title_contains:
            text = fold_case(filters.title_contains)
            found = self._titles.having(owner, text, len(shortest))
            shortest = shortest if found is None else found
        if filters.updated_since is not None:
            few = min(len(shortest), FEW_UPDATES)
            recent = self._updates.since(owner, filters.updated_since, few)
            shortest = shortest if recent is None else recent
        return shortest


def _test_of(filters: ConversationFilter) -> Callable[[ListEntry], bool]:
    repository = filters.selected_repository
    trigger = None if filters.trigger is None else filters.trigger.value
    title = None if filters.title_contains is None else fold_case(filters.title_contains)
    since = filters.updated_since

    def passes(entry: ListEntry) -> bool:
        return (
            (repository is None or entry.repository == repository)
            and (trigger is None or entry.trigger == trigger)
            and (title is None or (entry.title is not None and title in entry.title))
            and (since is None or entry.updated >= since)
        )

    return passes
