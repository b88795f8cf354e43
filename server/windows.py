"""A storage for the rate limiter: in memory, bounded, without a thread or a task."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from limits.storage.base import MovingWindowSupport, Storage

MAX_KEYS = 20_000
MAX_STAMPS = 400_000
"""Of all keys together; a stamp takes 32 bytes."""


class BoundedWindows(Storage, MovingWindowSupport):
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
        """When the oldest hit in the window was, by `clock`, and how many there are."""
        now = self.clock()
        hits = self._window(key, now - expiry)
        return (hits[0], len(hits)) if hits else (now, 0)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count without a bound; how many hits there are."""
        self.acquire_entry(key, MAX_STAMPS, expiry, amount)
        return self.get(key)

    def get(self, key: str) -> int:
        """How many hits are kept of a key."""
        return len(self._hits.get(key, ()))

    def get_expiry(self, key: str) -> float:
        """When the newest hit was, by `clock`."""
        hits = self._hits.get(key)
        return hits[-1] if hits else self.clock()

    def check(self) -> bool:
        """It is always there."""
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
