"""AgentDriver: one turn of an agent at a time, in a task that can be halted, and the record of its end."""

import asyncio
import logging
from asyncio import CancelledError, Future, Task
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from events.errors import Fenced
from events.event import AgentState, Event, EventSource, Interruption
from events.observations import TurnEndedObservation
from runtime_stub.agent import RateLimited
from runtime_stub.turn import LimitReached, Reason
from server.agent.contained import ContainedAgent
from server.agent.journal import LoopJournal
from server.agent.reasons import RATE_LIMIT_ID, Failure, failure_for, failure_of, outcome_of
from server.agent.recovery import INTERRUPTED, Recovery, lost_errors
from server.errors import text_of
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
OnError = Callable[[str], None]
"""Shows a failure to connected clients; the state `error` with its reason is in the log."""


class AgentDriver:
    """The turn under way, if there is one: begun, driven, halted, ended.

    However its work ends, that is recorded, and if something `waits` for another turn, `begin_next` is
    told what else to record and begins that. A turn that was halted is ended by whoever halted it.
    `expired` is told what a clock of a turn says. None of the three may raise.
    """

    def __init__(
        self,
        agent: ContainedAgent,
        context: TurnContext,
        inbox: Inbox,
        journal: LoopJournal,
        *,
        expired: Callable[[LoggedTurn, Reason], None],
        waits: Callable[[], bool],
        begin_next: Callable[[Sequence[Event]], None],
        on_error: OnError,
    ) -> None:
        self.turn: LoggedTurn | None = None
        self._agent = agent
        self._turn_context = context
        self._inbox = inbox
        self._journal = journal
        self._expired = expired
        self._waits = waits
        self._begin_next = begin_next
        self._on_error = on_error
        self._task: Task[None] | None = None
        self._conversation_id = context.held.conversation_id
        self._name = f"agent of {self._conversation_id}"
        self._context = context_of(conversation_id=self._conversation_id)

    def new_turn(self, cause: Sequence[Event], attempt: int = 1) -> LoggedTurn:
        """Make the turn that is now under way; `start` or `begin` has it worked on."""

        def expired(reason: Reason) -> None:
            self._expired(turn, reason)

        self._turn_context.ledger.begin_turn()
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
            usage=self._turn_context.ledger.turn_usage(),
            llm_metrics=self._turn_context.ledger.take_metrics(),
        )
        if turn.begun.done():
            return (ended.model_copy(update={"turn": turn.id}),)
        turn.begun.add_done_callback(partial(self._tell_ended, ended))
        return ()

    def cut_short(self, recovery: Recovery, *, asks: bool, by_user: bool) -> Sequence[Event]:
        """End the turn under way with its loop, and return the events that record that.

        Unless it was stopped by a person or asks one something, the next loop begins it again, or
        its messages are told that it was lost.
        """
        turn, why = self.turn, "was stopped"
        if turn is None:
            return ()
        if by_user:
            return self.end("stopped", why=why)
        if asks:
            return self.end("waiting", why=why)
        if recovery.may_begin_again(turn.attempt):
            ids = [one.id for one in (*turn.cause, *turn.taken) if one.id is not None]
            return self.end(INTERRUPTED, why=why, open_from=min(ids, default=None))
        told = lost_errors(turn.unanswered)
        # Without a reason, the next loop has to look at it again: what was decided is still to be done.
        reason = Reason.TURN_LOST if told else ""
        return (*told, *self.end(INTERRUPTED, why=why, reason=reason))

    async def time_out(self, reason: Reason) -> None:
        """Halt the turn under way, and end it in the state `error`."""
        await self.halt("timed_out")
        self._end_in_error(failure_for(reason), "timed_out")
        if self._waits():
            self._begin_next(())

    async def break_off(self, error: Exception) -> None:
        """Halt the turn under way, if there is one, and end it in the state that the error leads to."""
        await self.halt("failed")
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the turn under way, if there is one, in the state that the error leads to."""
        if isinstance(error, Fenced):
            # Another goes on with the conversation, and tells its state.
            logger.warning("another holds the loop of %s; this one stops", self._conversation_id)
            ended = self.end("stopped", why="was stopped")
            self._journal.set_state(AgentState.STOPPED, before=ended)
            return
        self._end_in_error(failure_of(error), outcome_of(error))
        if self._waits():
            self._begin_next(())

    def at_rest(self, due: AgentState) -> AgentState:
        """Return the state of an agent that has nothing to do: that of one that waits for a person."""
        if due is AgentState.AWAITING_USER_INPUT and self._turn_context.approvals.open_ids:
            return AgentState.AWAITING_USER_CONFIRMATION
        return due

    def log_failure(self, what: str, error: BaseException) -> None:
        """Log an error of the agent."""
        # The texts of others' exceptions may quote content or keys: the log leaves them out.
        logger.error("the agent of %s %s", self._conversation_id, what, exc_info=error)

    def _done(self, due: AgentState) -> None:
        before = self.end("done", why="has ended its turn")
        if self._waits():
            self._begin_next(before)
        else:
            self._journal.set_state(self.at_rest(due), before=before)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, RateLimited) and not error.exhausted:
            before = self.end("failed", why="failed", reason=RATE_LIMIT_ID)
            text = text_of(error)
            limited = Failure(text, text, RATE_LIMIT_ID)
            self._journal.set_state(AgentState.RATE_LIMITED, limited, before)
        elif isinstance(error, LimitReached | RateLimited):
            self._end_in_error(failure_of(error), outcome_of(error), show=False)
        else:
            self.log_failure("failed", error)
            self.fail(error)
            return
        if self._waits():
            self._begin_next(())

    def _end_in_error(self, failure: Failure, outcome: str, *, show: bool = True) -> None:
        """End the turn under way, if there is one, in the state `error`; `show` it to clients."""
        shown = failure._replace(
            reason=self._journal.shown(failure.reason), text=self._journal.shown(failure.text)
        )
        before = self.end(outcome, why="failed", reason=shown.reason, error_id=FAILED_ID)
        self._journal.set_state(AgentState.ERROR, shown, before)
        if not show:
            return
        try:
            self._on_error(shown.text)
        except Exception:
            logger.exception("cannot report an error of %s to its clients", self._conversation_id)

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
