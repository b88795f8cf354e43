"""Which records were updated when, by the hour, so that the newest are found without the others."""

from collections import defaultdict
from datetime import datetime
from typing import TypeAlias

from storage.conversations.entries import POSITION, Entry

Hours: TypeAlias = dict[datetime, dict[str, Entry]]


class UpdateHours:
    """For each owner the entries of every hour; an entry moves once an hour at most."""

    def __init__(self) -> None:
        self._owners: defaultdict[str | None, Hours] = defaultdict(dict)

    def add(self, entry: Entry) -> None:
        """Enter an entry."""
        hours = self._owners[entry.owner]
        hours.setdefault(_hour_of(entry.updated), {})[entry.position.conversation_id] = entry

    def remove(self, entry: Entry) -> None:
        """Strike an entry that is there."""
        hours, hour = self._owners[entry.owner], _hour_of(entry.updated)
        del hours[hour][entry.position.conversation_id]
        if not hours[hour]:
            del hours[hour]

    def touch(self, entry: Entry, moment: datetime) -> None:
        """Note that an entry was updated at another moment."""
        if _hour_of(moment) == _hour_of(entry.updated):
            entry.updated = moment
            return
        self.remove(entry)
        entry.updated = moment
        self.add(entry)

    def since(self, owner: str | None, moment: datetime, limit: int) -> list[Entry] | None:
        """All that were updated since then, and others of the same hour, in the list's order.

        None when those are more than `limit`.
        """
        hours, first = self._owners.get(owner, {}), _hour_of(moment)
        found = [entries for hour, entries in hours.items() if hour >= first]
        if sum(map(len, found)) > limit:
            return None
        return sorted((entry for entries in found for entry in entries.values()), key=POSITION)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
