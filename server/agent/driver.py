"""AgentDriver: one piece of an agent's work at a time, in a task that can be halted."""

import asyncio
import logging
from asyncio import CancelledError, Task
from collections.abc import Awaitable, Callable

from events.event import AgentState
from server.observability.logs import context_of

logger = logging.getLogger(__name__)

HALT_SECONDS = 0.8
"""Seconds a cancelled piece of work may take to end before it is abandoned."""
Work = Callable[[], Awaitable[AgentState]]
"""Works up to the state that is then due."""


class AgentDriver:
    """One piece of work at a time. However it ends, that is told, unless it was halted.

    `done` is told the state that is due, `failed` the error; neither may raise.
    """

    def __init__(
        self,
        conversation_id: str,
        done: Callable[[AgentState], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._done = done
        self._failed = failed
        self._task: Task[None] | None = None
        self._name = f"agent of {conversation_id}"
        self._context = context_of(conversation_id=conversation_id)

    def begin(self, work: Work) -> None:
        """Start to work; what was under way is told no more."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._drive(work), name=self._name, context=self._context)

    def drop(self) -> None:
        """Cancel the work under way without waiting for its end; it changes nothing any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def halt(self) -> None:
        """Cancel the work under way; what ignores that is left behind and changes nothing."""
        task, self._task = self._task, None
        if task is None or task.done():
            return
        task.cancel()
        _, late = await asyncio.wait([task], timeout=HALT_SECONDS)
        if late:
            logger.error(
                "abandoning %s: it did not stop within %g s", task.get_name(), HALT_SECONDS
            )

    async def _drive(self, work: Work) -> None:
        me = asyncio.current_task()
        try:
            due = await work()
        except BaseException as error:
            # A cancellation without a halt came from inside the agent or its runtime.
            if self._task is not me and isinstance(error, CancelledError | GeneratorExit):
                raise
            if self._task is me:
                self._failed(error)
        else:
            if self._task is me:
                self._done(due)
