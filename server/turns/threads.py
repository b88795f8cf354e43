"""The threads in which blocking agents run: a bounded number, and those that were left behind."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable
from typing import Protocol

from runtime_stub.blocking import run_in_thread
from runtime_stub.turn import TurnFailed

logger = logging.getLogger(__name__)

AGENT_THREADS = 32
LEFT_PER_PLACE = 4
"""Threads that may be left behind for each place, before no other begins."""


class ThreadCounts(Protocol):
    """Counters of threads."""

    agent_threads_left: int
    """Threads whose turn is over and that have not ended."""


class NoCounts:
    """Counters that nobody reads."""

    agent_threads_left = 0


class AgentThreads:
    """Runs blocking code, at most `limit` pieces at a time; the others wait in order."""

    def __init__(self, limit: int = AGENT_THREADS, counts: ThreadCounts | None = None) -> None:
        self._limit = limit
        self._places = asyncio.Semaphore(limit)
        self._counts = counts or NoCounts()

    async def run(self, work: Callable[[], None], name: str, waits: Callable[[], None]) -> None:
        """Run `work` in a thread once a place is free; `waits` is called if none is.

        Cancelled, it gives the place back and leaves the thread behind. Raises what `work` raises,
        and TurnFailed while too many threads are left behind.
        """
        if self._counts.agent_threads_left >= self._limit * LEFT_PER_PLACE:
            raise TurnFailed(
                "Too many threads of agents have not ended; the server needs a restart."
            )
        if self._places.locked():
            waits()
        async with self._places:
            done = run_in_thread(work, name)
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError:
                if not done.done():
                    self._counts.agent_threads_left += 1
                    done.add_done_callback(self._ended)
                raise

    def _ended(self, done: "Future[None]") -> None:
        self._counts.agent_threads_left -= 1
        if not done.cancelled() and done.exception() is not None:
            logger.debug("a thread failed after its turn")
