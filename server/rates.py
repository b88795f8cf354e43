"""How often an address or a user may ask, by what is asked for."""

import math
import time
from collections.abc import Callable
from enum import StrEnum

import limits
from limits.strategies import MovingWindowRateLimiter

from server.addresses import Addresses
from server.bounds import Bounds
from server.errors import RateLimited
from server.windows import BoundedWindows


class RateClass(StrEnum):
    """What is counted together."""

    READS = "reads"
    WRITES = "writes"
    CREATIONS = "creations"
    UPLOADS = "uploads"
    HANDSHAKES = "handshakes"
    POLLS = "polls"
    FAILURES = "failures"
    VIOLATIONS = "violations"


class Rates:
    """A moving window for each class and key. Keys are addresses, and `user:` with a user's id."""

    def __init__(
        self, config: Bounds, addresses: Addresses, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.addresses = addresses
        self.refused = 0
        """How many requests were too many."""
        self._windows = BoundedWindows(clock)
        self._limiter = MovingWindowRateLimiter(self._windows)
        self._limits = {
            kind: limits.parse(getattr(config, f"rate_{kind.value}")) for kind in RateClass
        }

    def spend(self, kind: RateClass, address: str) -> None:
        """Count one of an address. Raises RateLimited."""
        if not self.addresses.is_unlimited(address):
            self._spend(kind, address)

    def spend_user(self, kind: RateClass, user_id: str) -> None:
        """Count one of a user, wherever he asks from. Raises RateLimited."""
        self._spend(kind, f"user:{user_id}")

    def check(self, kind: RateClass, address: str) -> None:
        """Count nothing. Raises RateLimited when the address has no more of this left."""
        if self.addresses.is_unlimited(address):
            return
        if not self._limiter.test(self._limits[kind], kind.value, address):
            raise self._refusal(kind, address)

    def note(self, kind: RateClass, address: str) -> bool:
        """Count one; whether that was too many."""
        try:
            self.spend(kind, address)
        except RateLimited:
            return True
        return False

    def _spend(self, kind: RateClass, key: str) -> None:
        if not self._limiter.hit(self._limits[kind], kind.value, key):
            raise self._refusal(kind, key)

    def _refusal(self, kind: RateClass, key: str) -> RateLimited:
        self.refused += 1
        stats = self._limiter.get_window_stats(self._limits[kind], kind.value, key)
        return RateLimited(max(1, math.ceil(stats.reset_time - self._windows.clock())))
