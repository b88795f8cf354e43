"""Locks and slots by key: a lock excludes only callers with the same key, and no key has all slots."""

import asyncio
from asyncio import Lock, Semaphore
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
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


class KeyedSlots(Generic[KeyT]):
    """A number of slots, of which each key may have a smaller one; whoever waits is served in order.

    Callers that wait for another of their own key hold no slot. One object serves one event loop.
    """

    __slots__ = ("_all", "_each", "_own")

    def __init__(self, slots: int, each: int) -> None:
        self._all = Semaphore(slots)
        self._each = each
        self._own: WeakValueDictionary[KeyT, Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, key: KeyT, seconds: float) -> AsyncIterator[None]:
        """Have a slot for a key during the block. Raises TimeoutError after waiting for so long."""
        own = self._own.setdefault(key, Semaphore(self._each))
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(seconds):
                await stack.enter_async_context(own)
                await stack.enter_async_context(self._all)
            yield


_shared: KeyedLocks[Hashable] = KeyedLocks()


def lock_of(store: type, key: str | None) -> Lock:
    """Return this process's lock for one key of a class of stores.

    Store objects are created for each request and share a medium, so the lock belongs to their
    class and to the running event loop.
    """
    return _shared.of((asyncio.get_running_loop(), store, key))
