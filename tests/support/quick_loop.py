"""An event loop whose clock leaps over waiting, so that deadlines cost no time."""

import asyncio
import math
import selectors


class QuickLoop(asyncio.SelectorEventLoop):
    """Waits `speed` times shorter than it says; its clock shows the time it said.

    At infinite speed nothing outside the loop is waited for: when neither a callback nor a timer
    is left, whoever still waits would do so for ever, and RuntimeError tells.
    """

    speed = math.inf

    def __init__(self) -> None:
        self.skipped = 0.0
        super().__init__(_LeapingSelector(self))

    def time(self) -> float:
        """Seconds on the loop's clock; at infinite speed they pass in waiting only."""
        return self.skipped if self.speed == math.inf else super().time() + self.skipped


class FastLoop(QuickLoop):
    """For back-ends with threads or processes of their own: a second takes 20 ms."""

    speed = 50.0


LOOPS = {
    "memory": QuickLoop,
    "sqlite": FastLoop,
    "files": QuickLoop,
    "local": FastLoop,
    "postgres": FastLoop,
    "pgbouncer": FastLoop,
    "s3": FastLoop,
}
"""By the kind of store a test's loop waits for."""


class _LeapingSelector(selectors.SelectSelector):
    def __init__(self, loop: QuickLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            if self._loop.speed == math.inf:
                raise RuntimeError("everybody waits, and nothing can happen any more")
            return super().select(None)
        begun = self._loop.time()
        ready = super().select(timeout / self._loop.speed)
        if not ready:
            self._loop.skipped += max(0.0, timeout - (self._loop.time() - begun))
        return ready
