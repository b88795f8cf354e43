"""When questions to people expire: each at its time, told by one timer."""

import asyncio
import time
from asyncio import TimerHandle
from collections.abc import Callable
from datetime import UTC, datetime


class Expiry:
    """The moments at which the open approvals of a conversation expire, `seconds` after they were asked.

    Moments are POSIX seconds of the log's timestamps, so that a later process comes to the same ones.
    `tell` is called once with the id of each that expires while it is watched here. Where `seconds`
    is None, nothing expires.
    """

    __slots__ = ("_closed", "_due", "_tell", "_timer", "_untold", "seconds")

    def __init__(self, seconds: float | None, tell: Callable[[int], None]) -> None:
        self.seconds = seconds
        self._tell = tell
        self._due: dict[int, float] = {}
        self._untold: set[int] = set()
        self._timer: TimerHandle | None = None
        self._closed = False

    def begin(self, approval: int, asked: float) -> None:
        """Count from the moment at which an approval was asked, or asked again."""
        if self.seconds is None:
            return
        self._due[approval] = asked + self.seconds
        if self._due[approval] > time.time():
            self._untold.add(approval)
        else:
            self._untold.discard(approval)
        self._arm()

    def end(self, approval: int) -> None:
        """Forget an approval: it is not open any more."""
        if self._due.pop(approval, None) is not None:
            self._untold.discard(approval)
            self._arm()

    def due(self, approval: int) -> float | None:
        """Return the moment at which an approval expires, None if it never does."""
        return self._due.get(approval)

    def is_over(self, approval: int) -> bool:
        """Return whether an approval has expired."""
        due = self._due.get(approval)
        return due is not None and due <= time.time()

    def close(self) -> None:
        """Watch no longer."""
        self._closed = True
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._untold and not self._closed:
            left = min(self._due[one] for one in self._untold) - time.time()
            self._timer = asyncio.get_running_loop().call_later(max(left, 0.0), self._look)

    def _look(self) -> None:
        self._timer = None
        over = sorted(one for one in self._untold if self.is_over(one))
        self._untold.difference_update(over)
        self._arm()
        for approval in over:
            self._tell(approval)


def posix_of(timestamp: str | None) -> float:
    """Return a timestamp of the log in POSIX seconds; one that cannot be read counts as now."""
    try:
        return datetime.fromisoformat(timestamp or "").timestamp()
    except ValueError:
        return time.time()


def timestamp_of(moment: float) -> str:
    """Return POSIX seconds in the form of the log's timestamps."""
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
