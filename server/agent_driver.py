"""Runs an agent's work as a task, and ends it in the state that is then due."""

import asyncio
import logging
from asyncio import CancelledError, Task
from collections.abc import Awaitable, Callable

from events.event import AgentState
from runtime_stub.agent import RateLimited
from server.agent_states import RATE_LIMIT_ID
from server.agent_steps import LimitReached
from server.logs import context_of
from server.user_code import text_of

logger = logging.getLogger(__name__)

HALT_SECONDS = 0.8
"""How long a cancelled step may take to end before it is left behind."""
Work = Callable[[], Awaitable[AgentState]]
"""Steps up to the state that is then due."""


class AgentDriver:
    """One piece of work at a time. However it ends, a state is set, unless it was halted.

    `set_state` gets the state, the reason that clients know, and what there is to say beyond
    that; it and `fail` must not raise.
    """

    def __init__(
        self,
        conversation_id: str,
        set_state: Callable[[AgentState, str, str], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._conversation_id = conversation_id
        self._set_state = set_state
        self._fail = fail
        self._task: Task[None] | None = None
        self._context = context_of(conversation_id=conversation_id)

    def begin(self, work: Work) -> None:
        """Start to work; what was under way changes no state any more."""
        name = f"agent of {self._conversation_id}"
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._drive(work), name=name, context=self._context)

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
                "%s did not stop within %g s and is left behind", task.get_name(), HALT_SECONDS
            )

    async def _drive(self, work: Work) -> None:
        me = asyncio.current_task()
        try:
            outcome = await _outcome_of(work)
        except BaseException as error:
            # A cancellation without a halt came from inside the agent or its runtime.
            if self._task is not me and isinstance(error, CancelledError | GeneratorExit):
                raise
            logger.exception("agent of %s failed", self._conversation_id)
            if self._task is me:
                self._fail(error)
        else:
            if self._task is me:
                self._set_state(*outcome)


async def _outcome_of(work: Work) -> tuple[AgentState, str, str]:
    """Return the state that is due after the work, the reason for it, and the text beside that."""
    try:
        return await work(), "", ""
    except LimitReached as limit:
        return AgentState.ERROR, str(limit), ""
    except RateLimited as limit:
        if limit.exhausted:
            return AgentState.ERROR, RATE_LIMIT_ID, text_of(limit)
        return AgentState.RATE_LIMITED, text_of(limit), ""
