"""The throttle of the indexer, which leaves the machine to requests, and above all to appends."""

import asyncio
import time
from collections.abc import Callable

BUSY_RATE = 2_000.0
"""Events a second above which the appends go first."""
RATE_SECONDS = 0.4
"""Seconds over which the rate is measured, at least."""
BUSY_REST, REST = 80.0, 4.0
"""The rest after each work, while they do and otherwise, in parts of the time that the work took."""
LONGEST_REST = 5.0
"""Seconds of the longest rest."""


class Throttle:
    """Rests after each work, for longer while many events are committed.

    A rest is `rest` times as long as the work, and BUSY_REST times while more than BUSY_RATE events
    a second are committed. The rate is measured during a rest as well, so that a long one ends soon
    after a burst has. `clock` returns seconds.
    """

    def __init__(self, rest: float = REST, clock: Callable[[], float] = time.monotonic) -> None:
        self._usual = rest
        self.clock = clock
        self._noted = 0
        self._noted_since = clock()
        self._were_many = False

    def note(self, events: int) -> None:
        """Report that so many events were committed."""
        self._noted += events

    async def rest_since(self, began: float) -> None:
        """Rest after work that began at `began` by the clock."""
        work_seconds = self.clock() - began
        rested = 0.0
        while (left := self._rest_after(work_seconds) - rested) > 0:
            seconds = min(left, RATE_SECONDS)
            await asyncio.sleep(seconds)
            rested += seconds

    def _rest_after(self, work_seconds: float) -> float:
        rest = BUSY_REST if self._are_many() else self._usual
        return min(work_seconds * rest, LONGEST_REST)

    def _are_many(self) -> bool:
        """Return whether many events are committed now; what was measured holds until it is again."""
        seconds = self.clock() - self._noted_since
        many = self._noted > BUSY_RATE * max(seconds, RATE_SECONDS)
        if seconds < RATE_SECONDS:
            return many or self._were_many
        self._were_many = many
        self._noted, self._noted_since = 0, self.clock()
        return many
