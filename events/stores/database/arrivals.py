"""Committed events that are not in their place yet, held in memory for readers."""

from collections.abc import Sequence

from events.event import StoredEvent

OVERHEAD_BYTES = 150
"""Bytes an event costs beside its JSON."""


class Arrivals:
    """The newest events of every log, in two generations: those being placed, and the rest.

    What is given of a log is consecutive. An event whose commit was told to nobody is never here,
    so older ones than it are given up: they are read from the tables.
    """

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        """Bytes of the generation that is not being placed."""
        self._fresh: dict[str, list[StoredEvent]] = {}
        self._placing: dict[str, list[StoredEvent]] = {}

    def add(self, conversation_id: str, events: Sequence[StoredEvent]) -> None:
        """Note what was committed; ids go on where the log's last ones ended."""
        known = self._fresh.get(conversation_id)
        if known is None or known[-1].id + 1 != events[0].id:
            self._fresh[conversation_id] = list(events)
        else:
            known.extend(events)
        self.count += len(events)
        for event in events:
            self.size += len(event.body) + OVERHEAD_BYTES

    def of(self, conversation_id: str) -> list[StoredEvent]:
        """A log's newest events; to be read at once and not changed."""
        placing = self._placing.get(conversation_id)
        fresh = self._fresh.get(conversation_id)
        if placing is None or fresh is None:
            return placing or fresh or []
        return placing + fresh if placing[-1].id + 1 == fresh[0].id else fresh

    def begin(self) -> None:
        """Everything known now is being placed."""
        self._placing, self._fresh = self._fresh, {}
        self.count = self.size = 0

    def placed(self) -> None:
        """It is in its place."""
        self._placing = {}

    def failed(self) -> None:
        """It was not placed: it will be with the next."""
        for conversation_id in self._placing:
            self._fresh[conversation_id] = self.of(conversation_id)
        self._placing = {}
        everything = [event for events in self._fresh.values() for event in events]
        self.count = len(everything)
        self.size = sum(len(event.body) + OVERHEAD_BYTES for event in everything)

    def forget(self, conversation_id: str) -> None:
        """The log is deleted."""
        self._fresh.pop(conversation_id, None)
        self._placing.pop(conversation_id, None)
