"""The logs this process has lately had to do with, one object each."""

from asyncio import Lock, Task
from weakref import WeakValueDictionary

from events.pages import PageCache
from events.stores.log_state import LogState


class KnownLog:
    """One log; `state` is None when it must be read.

    Appends and deletions hold the lock. `sealing` is the task that seals pages, which needs none;
    after a failure the next one waits until the log has reached `seal_at`.
    """

    __slots__ = ("__weakref__", "id", "lock", "seal_at", "sealing", "state")

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self.lock = Lock()
        self.state: LogState | None = None
        self.sealing: Task[None] | None = None
        self.seal_at = 0


class KnownLogs:
    """Keeps the last `limit` of them, and every one that somebody holds."""

    def __init__(self, limit: int) -> None:
        self._held: WeakValueDictionary[str, KnownLog] = WeakValueDictionary()
        self._recent: PageCache[str, KnownLog] = PageCache(limit)

    def get(self, conversation_id: str) -> KnownLog:
        """The one object of that log."""
        log = self._recent.get(conversation_id) or self._held.get(conversation_id)
        if log is None:
            log = self._held[conversation_id] = KnownLog(conversation_id)
        self._recent.put(conversation_id, log, 1)
        return log
