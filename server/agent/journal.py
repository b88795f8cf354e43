"""The loop's own events, appended without waiting; its newest state always reaches the log."""

import asyncio
import logging
from asyncio import Future, TimerHandle
from collections.abc import Callable, Sequence
from functools import partial

from events.batch import Appended
from events.errors import ConversationDeleted, EventsError, Fenced, StreamClosed
from events.event import AgentState, Event, EventSource
from events.observations import AgentStateChangedObservation, ErrorObservation
from events.stream import HeldStream
from server.agent.reasons import Failure
from server.agent.states import TROUBLED
from server.turns.approvals import Approvals

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
LONGEST_REASON = 2000
"""Characters of a reason that are kept."""


class LoopJournal:
    """Appends in the order of the calls, and holds the agent's state. Nothing here waits or raises; failures are logged.

    Clients rely on the newest state of a conversation. A state that cannot be appended is retried
    until it is in the log, another state has replaced it, another process holds the loop, or the
    stream has ended.
    """

    def __init__(
        self, held: HeldStream, approvals: Approvals, state_changed: Callable[[], None]
    ) -> None:
        self.state: AgentState | None = None
        self._held = held
        self._approvals = approvals
        self._state_changed = state_changed
        self._untold: AgentStateChangedObservation | None = None
        self._before: list[Event] = []
        """Events that stand before the state and are not in the log yet."""
        self._retry: TimerHandle | None = None
        self._told: Future[None] | None = None

    def tell(self, event: Event, source: EventSource) -> Future[Appended] | None:
        """Append; None when the stream takes nothing now."""
        try:
            return self._held.enqueue(event, source)
        except EventsError as error:
            logger.error(  # noqa: TRY400 - the stream's state says it all
                "cannot append %s to %s: %s",
                event.kind,
                self._held.conversation_id,
                error,
            )
            self._end_if_final(error)
            return None
        except Exception:
            # The event cannot be written; its author must not fail because of that.
            logger.exception("cannot encode %s of %s", event.kind, self._held.conversation_id)
            return None

    def set_state(
        self, state: AgentState, failure: Failure | None = None, before: Sequence[Event] = ()
    ) -> None:
        """Append the events that led to a state, and the state unless it is the current one.

        For a state of trouble the failure is its reason, and an entry of the log before it.
        """
        reason = ""
        if failure is not None and state in TROUBLED:
            reason = self.shown(failure.reason)
            content = self.shown(failure.text) or reason
            before = (*before, ErrorObservation(content=content, error_id=failure.error_id))
        if state is self.state:
            for event in before:
                self.tell(event, EventSource.ENVIRONMENT)
            return
        self.tell_state(state, reason, before)
        self._state_changed()

    def tell_state(self, state: AgentState, reason: str = "", before: Sequence[Event] = ()) -> None:
        """Append a state, after the events that led to it, with what is open and allowed.

        Earlier states that were not appended are dropped.
        """
        self.state = state
        fact = AgentStateChangedObservation(agent_state=state, reason=reason)
        self._untold = self._approvals.named_in(fact)
        self._before = list(before)
        self._append_state()

    def shown(self, text: str) -> str:
        """Return a text as people may see it: masked, and of a length that is kept."""
        # Masked before it is cut: no half of a secret may be left.
        text = self._held.stream.masked(text)
        return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."

    async def close(self, seconds: float) -> None:
        """Wait, for a bounded time, until the newest state is appended; then stop retrying."""
        if self._untold is not None:
            self._told = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._told], timeout=seconds)
        if self._untold is not None:
            state, self._untold = self._untold.agent_state, None
            logger.error("the state %s of %s was not stored", state, self._held.conversation_id)
        self._forget_retry()

    def _append_state(self) -> None:
        self._forget_retry()
        fact = self._untold
        if fact is None:
            return
        self._append_before(fact)
        appending = self.tell(fact, EventSource.ENVIRONMENT)
        if appending is not None:
            appending.add_done_callback(lambda done: self._appended(fact, done))
        elif self._untold is fact:
            self._try_again()

    def _append_before(self, fact: AgentStateChangedObservation) -> None:
        waiting, self._before = self._before, []
        for event in waiting:
            appending = self.tell(event, EventSource.ENVIRONMENT)
            if appending is None:
                self._before.append(event)
                continue
            appending.add_done_callback(partial(self._appended_before, fact, event))

    def _appended_before(
        self, fact: AgentStateChangedObservation, event: Event, done: "Future[Appended]"
    ) -> None:
        failed = done.cancelled() or done.exception() is not None
        if failed and self._untold is fact:
            self._before.append(event)

    def _appended(self, fact: AgentStateChangedObservation, done: Future[Appended]) -> None:
        error = None if done.cancelled() else done.exception()
        if self._untold is not fact:
            return
        if error is None:
            self._end()
            return
        self._end_if_final(error)
        if self._untold is not None:
            self._try_again()

    def _try_again(self) -> None:
        loop = asyncio.get_running_loop()
        self._retry = loop.call_later(RETRY_SECONDS, self._append_state)

    def _end_if_final(self, error: BaseException) -> None:
        if isinstance(error, StreamClosed | ConversationDeleted | Fenced):
            self._end()

    def _end(self) -> None:
        self._untold = None
        self._before = []
        if self._told is not None and not self._told.done():
            self._told.set_result(None)

    def _forget_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
