"""Counters of one opened storage, incremented where the work happens and always on."""

import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

COMMIT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)
"""Upper bounds, in seconds, of the commit histogram."""


@dataclass(slots=True)
class Histogram:
    """A histogram: `counts[i]` counts values up to `bounds[i]`, the last one all others."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    """The sum of the values."""

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Counters:
    """Counters since the storage was opened; only the event loop's thread adds to them."""

    events: int = 0
    """Events appended."""
    commits: int = 0
    commit_writes: int = 0
    """Writes in all commits; divided by `commits`, their mean size."""
    largest_commit: int = 0
    commit_seconds: float = 0.0
    """Seconds spent in commits."""
    waiting_writes: int = 0
    """Writes currently without an outcome."""
    subscriptions_lagged: int = 0
    """Times a subscriber's queue was full, so that it read on from the log."""
    clients_behind: int = 0
    """Number of times that a live client fell behind and read on from the log."""
    replayed_bytes: int = 0
    """Bytes of frames sent to clients from the log instead of live."""
    appends_failed: int = 0
    """Events that were not appended because the storage failed."""
    appends_unknown: int = 0
    """Times the outcome of an append had to be read back."""
    events_lost: int = 0
    """Events that had been acknowledged and are gone from their logs."""
    last_commit_seconds: float = 0.0
    commit_times: Histogram = field(default_factory=lambda: Histogram(COMMIT_BOUNDS))
    failed_at: int | None = None
    """The value of `events` at the last failure; None once a later write has succeeded."""
    failure_seconds: float = 0.0
    """When that was, by the monotonic clock."""

    @property
    def failing(self) -> bool:
        """Whether the last append failed, and nothing has been appended since."""
        return self.failed_at == self.events

    def committed(self, writes: int, seconds: float) -> None:
        """Note a commit."""
        self.commits += 1
        self.commit_writes += writes
        self.commit_seconds += seconds
        self.last_commit_seconds = seconds
        self.commit_times.observe(seconds)
        self.largest_commit = max(self.largest_commit, writes)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Count the block as a commit of one write, unless it raises."""
        began = time.perf_counter()
        yield
        self.committed(1, time.perf_counter() - began)

    def append_failed(self, events: int) -> None:
        """Note events that were not appended."""
        self.appends_failed += events
        self._failed()

    def append_unknown(self) -> None:
        """Note an append whose outcome has to be read back."""
        self.appends_unknown += 1
        self._failed()

    def _failed(self) -> None:
        self.failed_at = self.events
        self.failure_seconds = time.monotonic()
