"""Request rate limits by address and by user, for each class of request."""

import logging
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from enum import StrEnum
from urllib.parse import parse_qs

import limits
from limits.storage.base import MovingWindowSupport, Storage
from limits.strategies import MovingWindowRateLimiter

from server.access.client_address import Addresses
from server.config.settings import AccessLimits
from server.errors import RateLimited

logger = logging.getLogger(__name__)

MAX_KEYS = 20_000
MAX_STAMPS = 400_000
"""Of all keys together; a stamp takes 32 bytes."""


class MovingWindows(Storage, MovingWindowSupport):
    """The times of the hits of each key, within its window.

    When there are too many, the key that was hit least recently is forgotten.
    """

    STORAGE_SCHEME: list[str] | None = None

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self._hits: OrderedDict[str, deque[float]] = OrderedDict()
        self._stamps = 0

    def __len__(self) -> int:
        return len(self._hits)

    @property
    def base_exceptions(self) -> type[Exception]:
        """Nothing fails here."""
        return Exception

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` hits of a key if its window has room for them."""
        now = self.clock()
        hits = self._window(key, now - expiry)
        if len(hits) + amount > limit:
            return False
        hits.extend([now] * amount)
        self._stamps += amount
        self._hits[key] = hits
        self._hits.move_to_end(key)
        while self._stamps > MAX_STAMPS or len(self._hits) > MAX_KEYS:
            _, forgotten = self._hits.popitem(last=False)
            self._stamps -= len(forgotten)
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002 - the library's
        """Return the time of the oldest hit in the window, by `clock`, and the number of hits."""
        now = self.clock()
        hits = self._window(key, now - expiry)
        return (hits[0], len(hits)) if hits else (now, 0)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count without a bound; how many hits there are."""
        self.acquire_entry(key, MAX_STAMPS, expiry, amount)
        return self.get(key)

    def get(self, key: str) -> int:
        """Return how many hits of a key are remembered."""
        return len(self._hits.get(key, ()))

    def get_expiry(self, key: str) -> float:
        """Return the time of the newest hit, by `clock`."""
        hits = self._hits.get(key)
        return hits[-1] if hits else self.clock()

    def check(self) -> bool:
        """Return True: the storage is always available."""
        return True

    def reset(self) -> int:
        """Forget everything; how many keys there were."""
        number = len(self._hits)
        self._hits.clear()
        self._stamps = 0
        return number

    def clear(self, key: str) -> None:
        """Forget a key."""
        self._stamps -= len(self._hits.pop(key, ()))

    def _window(self, key: str, since: float) -> deque[float]:
        hits = self._hits.get(key)
        if hits is None:
            return deque()
        while hits and hits[0] <= since:
            hits.popleft()
            self._stamps -= 1
        return hits


BAN_SECONDS = 10.0
MAX_BANS = 10_000
"""The oldest is forgotten."""


class RateClass(StrEnum):
    """Requests counted together."""

    READS = "reads"
    WRITES = "writes"
    CREATIONS = "creations"
    UPLOADS = "uploads"
    SEARCHES = "searches"
    HANDSHAKES = "handshakes"
    POLLS = "polls"
    FAILURES = "failures"
    VIOLATIONS = "violations"


class RateLimits:
    """A moving window for each class and key. Keys are addresses, and `user:` with an owner's id."""

    def __init__(
        self,
        config: AccessLimits,
        addresses: Addresses,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.addresses = addresses
        self.refused: Counter[str] = Counter()
        """Requests refused, by class."""
        self._clock = clock
        self._banned: dict[str, float] = {}
        self._windows = MovingWindows(clock)
        self._limiter = MovingWindowRateLimiter(self._windows)
        self._limits = {
            kind: limits.parse(getattr(config, f"rate_{kind.value}")) for kind in RateClass
        }

    def spend(self, kind: RateClass, address: str) -> None:
        """Count one request of an address. Raises RateLimited."""
        if not self.addresses.is_unlimited(address):
            self._spend(kind, address)

    def spend_owner(self, kind: RateClass, owner: str) -> None:
        """Count one request of an owner, from any address. Raise RateLimited."""
        self._spend(kind, f"user:{owner}")

    def check(self, kind: RateClass, address: str) -> None:
        """Count nothing. Raises RateLimited when the address has no more of this left."""
        if self.addresses.is_unlimited(address):
            return
        if not self._limiter.test(self._limits[kind], kind.value, address):
            raise self._refusal(kind, address)

    def note(self, kind: RateClass, address: str) -> bool:
        """Count one event; return whether the limit is exceeded."""
        try:
            self.spend(kind, address)
        except RateLimited:
            return True
        return False

    def violated(self, address: str) -> None:
        """Count a protocol violation; too many of them ban the address for a time."""
        if self.note(RateClass.VIOLATIONS, address):
            if not self.is_banned(address):
                logger.warning(
                    "banned %s for %g s: too many protocol violations", address, BAN_SECONDS
                )
            self._banned.pop(address, None)
            self._banned[address] = self._clock() + BAN_SECONDS
            if len(self._banned) > MAX_BANS:
                del self._banned[next(iter(self._banned))]

    def is_banned(self, address: str) -> bool:
        """Return whether an address is banned now."""
        until = self._banned.get(address)
        return until is not None and self._clock() < until

    def _spend(self, kind: RateClass, key: str) -> None:
        if not self._limiter.hit(self._limits[kind], kind.value, key):
            raise self._refusal(kind, key)

    def _refusal(self, kind: RateClass, key: str) -> RateLimited:
        self.refused[kind.value] += 1
        if kind is RateClass.HANDSHAKES:
            self.violated(key)  # to refuse it costs nearly as much as to serve it
        stats = self._limiter.get_window_stats(self._limits[kind], kind.value, key)
        return RateLimited(max(1, math.ceil(stats.reset_time - self._windows.clock())))


def names_session(query: bytes) -> bool:
    """Return whether a query of Engine.IO names a session to continue, as the library reads it.

    A name that only ends in `sid`, and a blank one, open a new session.
    """
    return b"sid=" in query and "sid" in parse_qs(query.decode("latin-1"))
