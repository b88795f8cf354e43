"""The queue of searches before an index: a few run at a time, and no owner has all of those."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from storage.errors import SearchBusy
from storage.keyed_locks import KeyedSlots

T = TypeVar("T")

SEARCHES = 2
"""Searches that run at a time, one of each owner."""
WAITING = 64
"""Searches that run or wait; one more is refused."""
QUEUE_SECONDS = 30.0
BUSY = "too many searches are waiting; try again in a moment"


class SearchQueue:
    """Lets searches run in the order in which they came, SEARCHES at a time, one of each owner."""

    def __init__(self) -> None:
        self._slots: KeyedSlots[str | None] = KeyedSlots(SEARCHES, 1)
        self._waiting = 0

    async def run(self, owner: str | None, search: Callable[[], Awaitable[T]]) -> T:
        """Return what a search returns, which is called when it is its turn.

        One whose caller is gone keeps its slot until it has ended. Raises SearchBusy where WAITING
        are here, or its turn did not come within QUEUE_SECONDS, and what the search raises.
        """
        if self._waiting >= WAITING:
            raise SearchBusy(BUSY)
        self._waiting += 1
        try:
            async with self._slots.of(owner, QUEUE_SECONDS):
                running = asyncio.ensure_future(search())
                try:
                    return await asyncio.shield(running)
                except asyncio.CancelledError:
                    await asyncio.wait([running])
                    raise
        except TimeoutError as error:
            raise SearchBusy(BUSY) from error
        finally:
            self._waiting -= 1
