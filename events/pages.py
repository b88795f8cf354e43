"""Page arithmetic, and the byte-bounded cache that all conversations share."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def page_of(event_id: int, page_size: int) -> int:
    """Return the number of the page that holds an id."""
    return event_id // page_size


def page_bounds(page: int, page_size: int) -> tuple[int, int]:
    """Return the first id of a page, and one past its last."""
    return page * page_size, (page + 1) * page_size


class PageCache(Generic[Key, Value]):
    """Least recently used values, bounded by the bytes they say they hold."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self.size_bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: Key) -> Value | None:
        """Return the value, which becomes the most recently used; None when absent."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, value: Value, size_bytes: int) -> None:
        """Cache a value, dropping the least recently used ones beyond the bound.

        A value larger than the whole bound is not cached.
        """
        self.discard(key)
        if size_bytes > self._limit_bytes:
            return
        self._entries[key] = (value, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._limit_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.size_bytes -= dropped

    def discard(self, key: Key) -> None:
        """Forget a value; absent is fine."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry[1]

    def __len__(self) -> int:
        return len(self._entries)
