"""Locks by key, for contracts whose default is to read and then write."""

import asyncio
from weakref import WeakValueDictionary

_locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()


def lock_of(store: type, key: str | None) -> asyncio.Lock:
    """The lock of this process for one key of a class of stores; gone when nobody holds it.

    Fresh store objects share a medium, so the lock belongs to the class; it serves one loop.
    """
    return _locks.setdefault((asyncio.get_running_loop(), store, key), asyncio.Lock())
