"""The two clocks of a turn: how long it may take, and how long it may be silent."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runtime_stub.turn import Reason


class Clocks:
    """Calls `expired` once, with the reason, when a turn is late or silent for too long.

    Both clocks stand still while an action is carried out or a person is waited for.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        turn_seconds: float,
        quiet_seconds: float,
        expired: Callable[[Reason], None],
    ) -> None:
        self._loop = loop
        self._quiet_seconds = quiet_seconds
        self._expired = expired
        self._deadline = loop.time() + turn_seconds
        self._heard = loop.time()
        self._held = 0
        self._held_since = 0.0
        self._timer: TimerHandle | None = None
        self._arm()

    @property
    def deadline(self) -> float:
        """When the turn times out, on the loop's clock."""
        return self._deadline + (self._loop.time() - self._held_since if self._held else 0.0)

    def touch(self) -> None:
        """Note that something was heard of the turn. Cheap: the timer is set anew when it fires."""
        self._heard = self._loop.time()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop both clocks for as long as the block lasts; blocks may overlap."""
        if not self._held:
            self._held_since = self._loop.time()
            self._disarm()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if not self._held:
                self._deadline += self._loop.time() - self._held_since
                self.touch()
                self._arm()

    def stop(self) -> None:
        """End both clocks; nobody is called any more."""
        self._held += 1
        self._expired = _ignore
        self._disarm()

    def _arm(self) -> None:
        due = min(self._deadline, self._heard + self._quiet_seconds)
        self._timer = self._loop.call_at(due, self._fire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now >= self._deadline:
            self._expired(Reason.TIMED_OUT)
        elif now >= self._heard + self._quiet_seconds:
            self._expired(Reason.SILENT)
        else:
            self._arm()


def _ignore(reason: Reason) -> None:
    """Do nothing."""
