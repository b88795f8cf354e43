"""The check that clients have received a log, and the counts a suite prints and demands."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson

from events.event import StoredEvent
from server.sockets.protocol import project
from tests.support.payloads import Payload, is_error_state, is_state


@dataclass(slots=True)
class Received:
    """The events that one connection received of the log, in order.

    `cursor` is the last id the client had when it joined. `joined_before` bounds where the log
    ended at its joining: states from that id on must not be left out. None: unknown. A cursor
    that may lie past the log's end says nothing: the server begins behind the end it sees.
    """

    cursor: int
    events: list[Payload] = field(default_factory=list)
    joined_before: int | None = None
    is_cursor_known: bool = True

    @property
    def begin(self) -> int:
        """The last id that did not have to come."""
        if self.is_cursor_known:
            return self.cursor
        before = [self.cursor + 1, *(one["id"] for one in self.events)]
        pairs = zip(before, self.events, strict=False)
        told = [one["id"] for last, one in pairs if one["id"] > last or not is_error_state(one)]
        return int(min([self.cursor + 1, *told])) - 1


@dataclass(slots=True)
class Counts:
    """The counts of a suite. `collapsed` and `repeated` are the two liberties a server has."""

    appended: int = 0
    delivered: int = 0
    connections: int = 0
    reconnected: int = 0
    collapsed: int = 0
    repeated: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self, name)}" for name in self.__slots__)


class DeliveryChecker:
    """Compares what clients received with a conversation's final log.

    A state that was older than the newest when the client joined may be left out; a newest state
    `error` may come behind later events, but not later states, and again after another join.
    Nothing else may differ.
    """

    def __init__(self, log: Iterable[StoredEvent], counts: Counts | None = None) -> None:
        self.counts = counts if counts is not None else Counts()
        self._visible: dict[int, Payload] = {}
        self._last_state = -1
        for event in log:
            self.counts.appended += 1
            payload = project(orjson.loads(event.body))
            if payload is not None:
                self._visible[event.id] = payload
                if is_state(payload):
                    self._last_state = event.id

    def check(self, connections: Sequence[Received], *, complete: bool = True) -> None:
        """Check one client's connections in order; `complete`: it has seen the log's end."""
        self.counts.connections += len(connections)
        self.counts.reconnected += len(connections) - 1
        times: Counter[int] = Counter()
        for received in connections:
            self._check_one(received)
            times.update(event["id"] for event in received.events)
        for event_id, number in times.items():
            if number > 1:
                assert is_error_state(self._visible[event_id]), f"{event_id} came {number} times"
                self.counts.repeated += number - 1
        if not complete:
            return
        first = connections[0].begin
        for event_id in self._visible:
            if event_id > first and event_id not in times:
                self._check_left_out(event_id, connections)
                self.counts.collapsed += 1

    def _check_one(self, received: Received) -> None:
        self.counts.delivered += len(received.events)
        newest = received.begin
        newest_state = -1
        late = 0
        for payload in received.events:
            event_id = payload["id"]
            assert self._visible.get(event_id) == payload, f"{event_id} differs from the log"
            if is_state(payload):
                assert event_id > newest_state, f"the state {event_id} came after {newest_state}"
                newest_state = event_id
            if event_id > newest:
                newest = event_id
            else:
                assert is_error_state(payload), f"{event_id} came after {newest}"
                late += 1
        assert late <= 1, "more than one state came late on one connection"

    def _check_left_out(self, event_id: int, connections: Sequence[Received]) -> None:
        assert is_state(self._visible[event_id]), f"{event_id} never came"
        assert event_id < self._last_state, f"the newest state {event_id} never came"
        assert any(
            one.begin < event_id and (one.joined_before is None or event_id < one.joined_before)
            for one in connections
        ), f"the state {event_id} never came, although it was told live"
