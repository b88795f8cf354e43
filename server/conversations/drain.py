"""Takes a server out of service without ending it, and back again."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from server.conversations.manager import ConversationManager

logger = logging.getLogger(__name__)


class Drain:
    """While it lasts nothing new is taken in, and loops end when they rest or at the deadline.

    Connections that are there stay, and their messages are kept; `end` lets everything go on.
    """

    def __init__(self, manager: ConversationManager, told: Callable[[bool], None]) -> None:
        self.deadline: datetime | None = None
        self.under_way = False
        self.failed = False
        """Loops could not be wound up; the log says why."""
        self._manager = manager
        self._told = told
        self._winding: Task[None] | None = None

    @property
    def drained(self) -> bool:
        """Whether it lasts and no loop is left."""
        return self.under_way and self._winding is None and not self.failed

    def begin(self, seconds: float) -> None:
        """Begin, or begin anew with another deadline."""
        self._stop_winding()
        self.under_way, self.failed = True, False
        self.deadline = datetime.now(UTC) + timedelta(seconds=seconds)
        self._told(True)  # noqa: FBT003 - whether it lasts is all there is to tell
        self._winding = asyncio.get_running_loop().create_task(self._wind_up(seconds))
        logger.info("draining, for at most %g s", seconds)

    def end(self) -> bool:
        """Take everything in again; whether there was anything to end."""
        if not self.under_way:
            return False
        self._stop_winding()
        self.under_way, self.deadline = False, None
        self._told(False)  # noqa: FBT003 - see begin
        self._manager.wind_on()
        logger.info("drain ended")
        return True

    async def close(self) -> None:
        """End the work that is under way."""
        winding = self._winding
        self._stop_winding()
        if winding is not None:
            await asyncio.wait([winding])

    async def _wind_up(self, seconds: float) -> None:
        try:
            await self._manager.wind_up(seconds)
        except Exception:
            logger.exception("loops could not be wound up")
            self.failed = True
        self._winding = None

    def _stop_winding(self) -> None:
        if self._winding is not None:
            self._winding.cancel()
            self._winding = None
