"""Locks by key: a lock excludes only callers with the same key."""

import asyncio
from asyncio import Lock
from collections.abc import Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

KeyT = TypeVar("KeyT", bound=Hashable)


class KeyedLocks(Generic[KeyT]):
    """A lock for each key, created on demand and dropped when it is neither held nor awaited.

    One object serves one event loop.
    """

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[KeyT, Lock] = WeakValueDictionary()

    def of(self, key: KeyT) -> Lock:
        """Return the lock of a key, the same object for all concurrent users."""
        return self._locks.setdefault(key, Lock())

    def in_use(self, key: KeyT) -> Lock | None:
        """Return the lock of a key if it is in use."""
        locks = self._locks
        return locks.get(key) if locks else None  # to look into a weak dictionary takes longer


_shared: KeyedLocks[Hashable] = KeyedLocks()


def lock_of(store: type, key: str | None) -> Lock:
    """Return this process's lock for one key of a class of stores.

    Store objects are created for each request and share a medium, so the lock belongs to their
    class and to the running event loop.
    """
    return _shared.of((asyncio.get_running_loop(), store, key))
