"""Counters of one opened storage, advanced where the work happens and cheap enough to leave on."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What was done since the storage was opened; only the event loop's thread adds to it."""

    events: int = 0
    """Events appended."""
    commits: int = 0
    commit_writes: int = 0
    """Writes in all commits; by `commits`, the mean size of one."""
    largest_commit: int = 0
    commit_seconds: float = 0.0
    """Time in which a commit was under way."""
    waiting_writes: int = 0
    """Writes taken and not yet told, now."""
    subscriptions_lagged: int = 0
    """How often a subscriber's queue was full, so that it read on from the log."""
    clients_behind: int = 0
    """How often a live client fell behind and read on from the log."""
    replayed_bytes: int = 0
    """Bytes of frames sent to clients from the log instead of live."""

    def committed(self, writes: int, seconds: float) -> None:
        """Note a commit."""
        self.commits += 1
        self.commit_writes += writes
        self.commit_seconds += seconds
        self.largest_commit = max(self.largest_commit, writes)
