"""Takes a server out of service without ending it, and back again."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from server.conversations.manager import ConversationManager

logger = logging.getLogger(__name__)


class Drain:
    """While it lasts no new work is accepted, and loops end when they are idle or at the deadline.

    Open connections stay, and their messages are stored; `end` resumes.
    """

    def __init__(self, manager: ConversationManager, told: Callable[[bool], None]) -> None:
        self.deadline: datetime | None = None
        self.under_way = False
        self.failed = False
        """The agent loops could not be drained; the log says why."""
        self._manager = manager
        self._told = told
        self._work: Task[None] | None = None

    @property
    def drained(self) -> bool:
        """Whether a drain is active and no loop is left."""
        return self.under_way and self._work is None and not self.failed

    def begin(self, seconds: float) -> None:
        """Begin, or begin again with another deadline."""
        self._stop_work()
        self.under_way, self.failed = True, False
        self.deadline = datetime.now(UTC) + timedelta(seconds=seconds)
        self._told(True)  # noqa: FBT003 - whether it lasts is all there is to tell
        self._work = asyncio.get_running_loop().create_task(self._drain_loops(seconds))
        logger.info("draining, for at most %g s", seconds)

    def end(self) -> bool:
        """Take everything in again; whether there was anything to end."""
        if not self.under_way:
            return False
        self._stop_work()
        self.under_way, self.deadline = False, None
        self._told(False)  # noqa: FBT003 - see begin
        self._manager.resume()
        logger.info("drain ended")
        return True

    async def close(self) -> None:
        """End the drain's work in progress."""
        work = self._work
        self._stop_work()
        if work is not None:
            await asyncio.wait([work])

    async def _drain_loops(self, seconds: float) -> None:
        try:
            await self._manager.drain(seconds)
        except Exception:
            logger.exception("the agent loops could not be drained")
            self.failed = True
        self._work = None

    def _stop_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            self._work = None
