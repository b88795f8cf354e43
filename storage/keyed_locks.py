"""Locks by key: whoever holds the lock of a key excludes only those who ask for the same key."""

import asyncio
from asyncio import Lock
from collections.abc import Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

KeyT = TypeVar("KeyT", bound=Hashable)


class KeyedLocks(Generic[KeyT]):
    """A lock for each key, made when it is asked for and gone when nobody holds or awaits it.

    One object serves one event loop.
    """

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[KeyT, Lock] = WeakValueDictionary()

    def of(self, key: KeyT) -> Lock:
        """Return the lock of a key, the same object for everybody who uses it at one time."""
        return self._locks.setdefault(key, Lock())

    def in_use(self, key: KeyT) -> Lock | None:
        """Return the lock of a key if somebody uses it now."""
        return self._locks.get(key)


_shared: KeyedLocks[Hashable] = KeyedLocks()


def lock_of(store: type, key: str | None) -> Lock:
    """Return this process's lock for one key of a class of stores.

    Store objects that are made anew for each request share a medium, so the lock belongs to their
    class and to the running event loop.
    """
    return _shared.of((asyncio.get_running_loop(), store, key))
