"""Committed events that are not moved into `events` yet, held in memory for readers."""

from collections.abc import Sequence

from events.event import StoredEvent

OVERHEAD_BYTES = 150
"""Bytes of memory that an event takes in addition to its JSON."""


class Arrivals:
    """The newest events of every log, in two generations: those being moved, and the rest.

    The events returned of a log are consecutive. An event of an unreported commit is never held, so
    that older ones are dropped and read from the tables.
    """

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        """Bytes of the generation that is not being placed."""
        self._fresh: dict[str, list[StoredEvent]] = {}
        self._placing: dict[str, list[StoredEvent]] = {}

    def add(self, conversation_id: str, events: Sequence[StoredEvent]) -> None:
        """Add committed events; their ids continue those of the log."""
        known = self._fresh.get(conversation_id)
        if known is None or known[-1].id + 1 != events[0].id:
            self._fresh[conversation_id] = list(events)
        else:
            known.extend(events)
        self.count += len(events)
        for event in events:
            self.size += len(event.body) + OVERHEAD_BYTES

    def of(self, conversation_id: str) -> list[StoredEvent]:
        """Return a log's newest events; the list must be read at once and not changed."""
        placing = self._placing.get(conversation_id)
        fresh = self._fresh.get(conversation_id)
        if placing is None or fresh is None:
            return placing or fresh or []
        return placing + fresh if placing[-1].id + 1 == fresh[0].id else fresh

    def begin(self) -> None:
        """Mark everything known now as being moved."""
        self._placing, self._fresh = self._fresh, {}
        self.count = self.size = 0

    def placed(self) -> None:
        """Forget the events that were moved."""
        self._placing = {}

    def failed(self) -> None:
        """Keep the events that were not moved for the next move."""
        for conversation_id in self._placing:
            self._fresh[conversation_id] = self.of(conversation_id)
        self._placing = {}
        everything = [event for events in self._fresh.values() for event in events]
        self.count = len(everything)
        self.size = sum(len(event.body) + OVERHEAD_BYTES for event in everything)

    def forget(self, conversation_id: str) -> None:
        """Forget the events of a deleted log."""
        self._fresh.pop(conversation_id, None)
        self._placing.pop(conversation_id, None)
