"""Events of the V0 server as events of a log: moments, causes, and an end of all that was open; sans-IO."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

import orjson

from events.actions import RUNNABLE, MessageAction, RecallAction
from events.damage import DAMAGED_ID
from events.errors import BadEvent
from events.event import Event, EventSource, StoredEvent
from events.observations import (
    AgentStateChangedObservation,
    ErrorObservation,
    NullObservation,
    TurnEndedObservation,
)
from events.redaction import Redactor
from events.serialization import decode, encode, flag_of
from events.strictness import storable
from events.transfer.v0.layout import Found

AT_REST = frozenset(("awaiting_user_input", "finished", "stopped", "paused", "error", "rejected"))
"""States in which an agent waits for its user."""
TORN = "Event {id} could not be read when this conversation was imported."
NOT_EXECUTED = "This action had no result when its conversation was imported, and was not executed."
NOT_EXECUTED_ID = "AGENT_ERROR$STOPPED"
FIRST = datetime(1970, 1, 1, tzinfo=UTC)


class ZoneNeeded(Exception):
    """A moment has no zone, and none was given for those."""

    def __init__(self) -> None:
        super().__init__("moments in it have no time zone: name the one of that server by --zone")


def moment_of(value: object, zone: tzinfo | None) -> datetime | None:
    """Return a moment in UTC; None for what is none. Raises ZoneNeeded."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is None and zone is None:
            raise ZoneNeeded
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class Conversion:
    """One conversation's events, in order. `notes` says what is not as it was.

    `begin` is the moment of events without one before all that have one. Moments never go back: one
    that does is that of the event before. Ids stay; where an id has no event, `null` takes its
    place, and an error that of one that cannot be read.
    """

    def __init__(
        self, zone: tzinfo | None, redactor: Redactor, begin: datetime | None = None
    ) -> None:
        self.notes: list[str] = []
        self._zone = zone
        self._redactor = redactor
        self._begin = begin or FIRST
        self._moment = FIRST
        self._next_id = 0
        self._asked: dict[int, str] = {}
        """User messages that no recall has taken up, with their texts."""
        self._open: dict[int, None] = {}
        """Actions since the last state of rest that have no observation."""
        self._newest_message = self._newest_taken = -1
        self._rests = True
        self._missing = self._torn = 0

    def convert(self, found: Iterable[Found]) -> Iterator[StoredEvent]:
        """Yield the events of all ids, then what ends what is open. Raises ZoneNeeded."""
        for one in found:
            self.notes += one.notes
            yield self._convert(one)
            self._next_id = one.id + 1
        for lost, what in ((self._torn, "cannot be read"), (self._missing, "are missing")):
            if lost:
                self.notes.append(f"{lost} events {what}")
        for event in self._ends():
            yield self._stored(encode(event))
            self._next_id += 1

    def _convert(self, found: Found) -> StoredEvent:
        payload = found.payload
        if payload is not None:
            try:
                return self._stored(self._modern(found.id, payload))
            except BadEvent:
                payload, found = None, found._replace(payload=None, is_torn=True)
        if found.is_torn:
            self._torn += 1
            text = TORN.format(id=found.id)
            return self._stored(self._encoded(ErrorObservation(content=text, error_id=DAMAGED_ID)))
        self._missing += 1
        return self._stored(self._encoded(NullObservation()))

    def _modern(self, event_id: int, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return a payload with its id, a moment in UTC, and the cause of a recall. Raise BadEvent."""
        plain: dict[str, Any] = {str(key): storable(value) for key, value in payload.items()}
        event = decode(plain)
        moment = moment_of(payload.get("timestamp"), self._zone)
        if moment is None or moment < self._moment:
            moment = self._later(payload.get("timestamp"))
        self._moment = moment
        source = event.source or EventSource.ENVIRONMENT
        head = {"id": event_id, "timestamp": _text_of(moment), "source": str(source)}
        rest = {key: value for key, value in plain.items() if key not in head}
        rest.setdefault("message", event.message)
        modern = self._redactor.redact(head | rest)
        if isinstance(event, RecallAction) and event.source is EventSource.USER:
            modern.setdefault("cause", self._taken_up(event.query))
            if modern["cause"] is None:
                del modern["cause"]
        self._note(event_id, event, modern)
        return modern

    def _later(self, timestamp: object) -> datetime:
        """Return the moment of an event whose own is none, or before the last one.

        It is the second one of an hour that came twice, if that is what it names, else the last one.
        """
        if isinstance(timestamp, str):
            try:
                again = datetime.fromisoformat(timestamp)
                if again.tzinfo is None:
                    again = again.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
                    if again >= self._moment:
                        return again
            except (ValueError, OverflowError):
                pass
        return self._begin if self._moment is FIRST else self._moment

    def _taken_up(self, query: str) -> int | None:
        """Return the message that a recall is for: the first open one of that text, else the newest."""
        same = [one for one, text in self._asked.items() if text == query]
        newest = max(self._asked, default=None)
        return same[0] if same else newest

    def _note(self, event_id: int, event: Event, payload: Mapping[str, Any]) -> None:
        """Keep in mind what is open after an event."""
        cause = payload.get("cause")
        state = getattr(event, "agent_state", None)
        if isinstance(event, MessageAction) and event.source is EventSource.USER:
            self._asked[event_id] = event.content
            self._newest_message, self._rests = event_id, False
        elif isinstance(event, RecallAction):
            if isinstance(cause, int):
                self._newest_taken = max(self._newest_taken, cause)
                # No message before one that was taken up is open.
                self._asked = {one: text for one, text in self._asked.items() if one > cause}
            self._rests = False
        elif event.kind in RUNNABLE and "action" in payload:
            self._open[event_id] = None
            self._rests = False
        elif isinstance(event, AgentStateChangedObservation):
            self._rests = str(state) in AT_REST
            if self._rests:
                self._open.clear()
        elif isinstance(cause, int):
            self._open.pop(cause, None)

    def _ends(self) -> Iterator[Event]:
        """Yield what ends what is open, so that nobody begins it again."""
        if not self._next_id or (self._rests and self._newest_taken >= self._newest_message):
            return
        for cause in self._open:
            yield self._event(
                ErrorObservation(content=NOT_EXECUTED, error_id=NOT_EXECUTED_ID, cause=cause)
            )
        yield self._event(AgentStateChangedObservation(agent_state="stopped"))
        ended = TurnEndedObservation(outcome="stopped", open_from=self._next_id)
        yield self._event(ended)
        self.notes.append("what was open at its end was closed")

    def _event(self, event: Event) -> Event:
        facts = {"id": self._next_id, "timestamp": _text_of(self._later(None))}
        return event.model_copy(update={**facts, "source": EventSource.ENVIRONMENT})

    def _encoded(self, event: Event) -> dict[str, Any]:
        return encode(self._event(event))

    def _stored(self, payload: dict[str, Any]) -> StoredEvent:
        return StoredEvent(payload["id"], flag_of(payload), orjson.dumps(payload))


def _text_of(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
