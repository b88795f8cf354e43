"""How many events a connection may still send: a bucket that fills with time."""

from math import inf
from time import monotonic


class Allowance:
    """Whoever takes one lowers `tokens` by one; only when none is left the clock is looked at."""

    __slots__ = ("_at", "_burst", "_rate", "tokens")

    def __init__(self, per_second: float, burst: float) -> None:
        self.tokens = burst
        self._rate = per_second
        self._burst = burst
        self._at = monotonic()

    def lacking(self) -> float:
        """Fill with what time has brought; the seconds until no token is lacking, 0.0 if none is."""
        now = monotonic()
        self.tokens = min(self._burst, self.tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, -self.tokens / self._rate)


UNLIMITED = Allowance(1.0, inf)
"""Never lacks one, and may be shared by all."""
