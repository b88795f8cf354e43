"""Gives those that replay a log their turns, so that many at once leave the loop to the others."""

import asyncio
import time
from asyncio import Future
from collections import deque

TURN_SECONDS = 0.0003
"""How long all replays together may keep the loop, one slice of the last of them more."""
TURN_BYTES = 16 * 1024
"""How much they may send, one slice more: it goes to the kernel at the end of the turn, which takes
longer than to make it. Of long slices that is one."""
WOKEN = 8
"""So many that wait are looked at in one turn of the loop; their slices may be short."""


class Turns:
    """One share of each turn of the loop, for all sessions; first come, first served."""

    def __init__(self) -> None:
        self._began: float | None = None
        """When the first slice of this turn of the loop was begun."""
        self._sent_bytes = 0
        self._waiting: deque[Future[None]] = deque()
        self._called = False
        """Whether some were called up who have not gone yet: whoever comes now stands behind them."""
        self._put_back = 0
        """How many were looked at in this turn of the loop and must wait on, at the front."""

    async def take(self) -> None:
        """Return when a slice may be worked on, at once where nobody else is at it."""
        if not self._waiting and not self._called and self._has_room():
            return
        turn: Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn
        while not self._has_room():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.insert(self._put_back, turn)
            self._put_back += 1
            await turn

    def sent(self, size_bytes: int) -> None:
        """A slice was sent in the turn taken."""
        self._sent_bytes += size_bytes

    def _has_room(self) -> bool:
        now = time.perf_counter()
        if self._began is None:
            self._began = now
            self._sent_bytes = 0
            asyncio.get_running_loop().call_soon(self._end)
        return now - self._began <= TURN_SECONDS and self._sent_bytes < TURN_BYTES

    def _end(self) -> None:
        self._began = None
        self._put_back = 0
        woken = 0
        while self._waiting and woken < WOKEN:
            turn = self._waiting.popleft()
            if not turn.done():  # a session that has ended meanwhile
                turn.set_result(None)
                woken += 1
        self._called = woken > 0
        if self._waiting or woken:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Call up the next where all who were called up have ended, so that none took his turn."""
        self._called = False
        if self._began is None and self._waiting:
            self._end()
