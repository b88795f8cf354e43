"""Keeps the open streams of a process up with what other processes append, by its doorbell."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from events.follower import Follower
from events.stream import EventStream
from server.cluster.wire import LOOK, Kind


def _pass_over(*_: object) -> None:
    """Do nothing."""


class Following:
    """The hearer of a doorbell: translates numbers of logs into streams that are open here.

    Enter a stream before its head is read, or look at it after. `changed` is called with the
    conversation whose head somebody else has changed otherwise than by appending, if it is open: on
    a ring, and where a look finds its log deleted.
    """

    def __init__(
        self,
        follower: Follower,
        number_of: Callable[[str], int],
        *,
        changed: Callable[[str], None] = _pass_over,
        told: Callable[[Kind, Sequence[int], Sequence[int]], None] = _pass_over,
        noticed: Callable[[str, Mapping[str, Any]], None] = _pass_over,
    ) -> None:
        self._follower = follower
        follower.on_deleted = changed
        self._number_of = number_of
        self._names: dict[int, str] = {}
        self._changed = changed
        self._told = told
        self._noticed = noticed

    def add(self, stream: EventStream) -> None:
        """Follow the log of a stream; there is one of each log."""
        self._follower.add(stream)
        self._names[self._number_of(stream.conversation_id)] = stream.conversation_id

    def discard(self, stream: EventStream) -> None:
        """Stop following a stream; unknown ones are ignored."""
        self._follower.discard(stream)
        self._names.pop(self._number_of(stream.conversation_id), None)

    def rung(self, numbers: Sequence[int], positions: Sequence[int]) -> None:
        """See Hearer."""
        names = self._names
        known = [
            (names[number], position)
            for number, position in zip(numbers, positions, strict=True)
            if number in names
        ]
        self._follower.rung([one for one in known if one[1] != LOOK])
        for name, position in known:
            if position == LOOK:
                self._changed(name)

    def told(self, kind: Kind, numbers: Sequence[int], values: Sequence[int]) -> None:
        """See Hearer."""
        self._told(kind, numbers, values)

    def noticed(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """See Hearer."""
        self._noticed(conversation_id, payload)

    def heard(self, *, hears: bool) -> None:
        """See Hearer."""
        self._follower.heard(hears=hears)

    def missed(self) -> None:
        """See Hearer."""
        self._follower.look_soon()
