"""AgentDriver: one turn of an agent at a time, in a task that can be halted, and the record of its end."""

import asyncio
import logging
from asyncio import CancelledError, Future, Task
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from events.event import AgentState, Event, EventSource, Interruption
from events.observations import TurnEndedObservation
from runtime_stub.turn import Reason
from server.agent.contained import ContainedAgent
from server.agent.journal import LoopJournal, error_of
from server.agent.reasons import Failure
from server.agent.recovery import INTERRUPTED
from server.observability.logs import context_of
from server.turns.actions import FAILED_ID, NOT_EXECUTED, STOPPED_ID
from server.turns.context import TurnContext
from server.turns.inbox import Inbox
from server.turns.turn import LoggedTurn

logger = logging.getLogger(__name__)

HALT_SECONDS = 0.8
"""Seconds a cancelled piece of work may take to end before it is abandoned."""
CUT_WORDS = {
    "stopped": Interruption.STOPPED,
    INTERRUPTED: Interruption.STOPPED,
    "timed_out": Interruption.TIMED_OUT,
}
"""The word for a text that was cut short, by the outcome of its turn; else FAILED."""
Work = Callable[[], Awaitable[AgentState]]
"""Works up to the state that is then due."""


class AgentDriver:
    """The turn under way, if there is one: begun, driven, halted, ended.

    However its work ends, that is told, unless it was halted: `done` is told the state that is due,
    `failed` the error, and `expired` is told what a clock of the turn says; none may raise. Whoever
    is told ends the turn.
    """

    def __init__(
        self,
        agent: ContainedAgent,
        context: TurnContext,
        inbox: Inbox,
        journal: LoopJournal,
        *,
        done: Callable[[AgentState], None],
        failed: Callable[[BaseException], None],
        expired: Callable[[LoggedTurn, Reason], None],
    ) -> None:
        self.turn: LoggedTurn | None = None
        self._agent = agent
        self._turn_context = context
        self._inbox = inbox
        self._journal = journal
        self._done = done
        self._failed = failed
        self._expired = expired
        self._task: Task[None] | None = None
        self._name = f"agent of {context.held.conversation_id}"
        self._context = context_of(conversation_id=context.held.conversation_id)

    def new_turn(self, cause: Sequence[Event], attempt: int = 1) -> LoggedTurn:
        """Make the turn that is now under way; `start` or `begin` has it worked on."""

        def expired(reason: Reason) -> None:
            self._expired(turn, reason)

        turn = LoggedTurn(self._turn_context, cause, self._inbox, expired, attempt=attempt)
        self.turn = turn
        return turn

    def start(self, turn: LoggedTurn) -> None:
        """Have the agent work on a turn."""
        self.set_running()
        self.begin(partial(turn.run, self._agent))

    def set_running(self) -> None:
        """Set the state `running`; after an error that raises the limits that are reached."""
        if self._journal.state is AgentState.ERROR:
            self._turn_context.ledger.raise_limits()
        self._journal.set_state(AgentState.RUNNING)

    def begin(self, work: Work) -> None:
        """Start to work; what was under way is told no more."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._drive(work), name=self._name, context=self._context)

    def drop(self) -> None:
        """Cancel the work under way without waiting for its end; it changes nothing any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def halt(self, outcome: str) -> None:
        """Cancel the work under way, whose turn will end so; what ignores that is left behind."""
        if self.turn is not None:
            self.turn.is_ending(_cut_word(outcome))
        task, self._task = self._task, None
        if task is None or task.done():
            return
        task.cancel()
        _, late = await asyncio.wait([task], timeout=HALT_SECONDS)
        if late:
            logger.error(
                "abandoning %s: it did not stop within %g s", task.get_name(), HALT_SECONDS
            )

    def end(
        self,
        outcome: str,
        *,
        why: str,
        reason: str = "",
        error_id: str = STOPPED_ID,
        open_from: int | None = None,
    ) -> Sequence[Event]:
        """Seal the turn under way, and return the events that record its end."""
        turn, self.turn = self.turn, None
        if turn is None:
            return ()
        turn.is_ending(_cut_word(outcome))
        turn.seal()
        stay = outcome == "waiting"
        turn.actions.close(NOT_EXECUTED.format(why=why), error_id, questions_stay=stay)
        ended = TurnEndedObservation(
            outcome=outcome,
            reason=reason,
            open_from=self._inbox.open_from if open_from is None else open_from,
            llm_metrics=self._turn_context.ledger.take_metrics(),
        )
        if turn.begun.done():
            return (ended.model_copy(update={"turn": turn.id}),)
        turn.begun.add_done_callback(partial(self._tell_ended, ended))
        return ()

    def end_in_error(self, failure: Failure, outcome: str) -> None:
        """End the turn under way, if there is one, in the state `error`."""
        shown = failure._replace(
            reason=self._journal.shown(failure.reason), text=self._journal.shown(failure.text)
        )
        before = self.end(outcome, why="failed", reason=shown.reason, error_id=FAILED_ID)
        if self._journal.state is AgentState.ERROR:
            for event in (*before, error_of(shown)):
                self._journal.tell(event, EventSource.ENVIRONMENT)
        else:
            self._journal.set_state(AgentState.ERROR, shown, before)

    def _tell_ended(self, ended: TurnEndedObservation, begun: "Future[int]") -> None:
        if not begun.cancelled():
            named = ended.model_copy(update={"turn": begun.result()})
            self._journal.tell(named, EventSource.ENVIRONMENT)

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


def _cut_word(outcome: str) -> Interruption:
    return CUT_WORDS.get(outcome, Interruption.FAILED)
