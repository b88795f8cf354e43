"""The actions of a turn: recorded, agreed to by a person, carried out, answered."""

import asyncio
from asyncio import AbstractEventLoop, Future, Task, TimerHandle
from collections.abc import Callable
from enum import Enum
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import Any, NamedTuple, Self

from events.actions import (
    RUNNABLE,
    Action,
    AgentDelegateAction,
    AgentFinishAction,
    AgentRejectAction,
    AgentThinkAction,
    MCPAction,
    MessageAction,
    RecallAction,
)
from events.batch import Appended, Settled
from events.errors import EventTooLarge
from events.event import AgentState, ConfirmationState, Event, EventSource, SecurityRisk
from events.observations import (
    AgentThinkObservation,
    ErrorObservation,
    NullObservation,
    Observation,
    RecallObservation,
    UserRejectObservation,
)
from events.partials import Partial
from events.stream import EVENT_BYTES
from runtime_stub.base import Runtime
from runtime_stub.turn import Doing, TurnOver, observation_of, result_of
from server.turns.approval_events import ASKED_RISKS, CONFIRMABLE
from server.turns.approvals import Question
from server.turns.context import TurnContext
from server.turns.limits import Clocks
from server.user_code import outside

STOPPED_ID = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED"
FAILED_ID = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_ERROR"
NOT_EXECUTED = "The action has not been executed because the agent {why}."
REJECTED_TEXT = "Action has been rejected by the user! Waiting for further user input."
DUE: dict[type[Action], AgentState] = {
    AgentFinishAction: AgentState.FINISHED,
    AgentRejectAction: AgentState.REJECTED,
}
"""States in which the agent's last action ends its work."""
GIVEN_UP = "The agent has given up the action before it ended."
ASKER_GONE = (
    "The action was approved when the turn of the agent that would have carried it out had ended."
)
UNKNOWN_TEXT = (
    "The action names a secret whose value the log does not have; it has to be asked again."
)
THOUGHT_NOTED = "Your thought has been logged."


class Decision(Enum):
    """A person's answer to the question whether an action may be carried out."""

    CONFIRMED = AgentState.USER_CONFIRMED
    REJECTED = AgentState.USER_REJECTED
    WITHDRAWN = "withdrawn"
    """The question is no longer open: its action was answered with an error."""


class Pending:
    """An action whose observation is not in the log yet, with the append that records it."""

    __slots__ = ("action", "answer", "decision", "recorded")

    def __init__(self, action: Action, recorded: "Future[Appended]") -> None:
        self.action = action
        self.recorded = recorded
        self.decision: Future[Decision] | None = None
        """Done once a person has answered; None where nobody was asked."""
        self.answer: ErrorObservation | None = None
        """The error that closed it."""


class Carried(NamedTuple):
    """The outcome of an action: its observation, and the agent's state that it ends the work in."""

    observation: Observation
    due: AgentState | None = None


class Actions:
    """Records the actions of one turn and has them carried out, several at once if need be.

    `pending` maps an action to what is known of it, by the id of the event that records it once
    that is durable. Once `close` was called nothing is appended.
    """

    def __init__(
        self,
        context: TurnContext,
        loop: AbstractEventLoop,
        clocks: Clocks,
        turn_id: Callable[[], int],
    ) -> None:
        self._context = context
        self._loop = loop
        self._clocks = clocks
        self.turn_id = turn_id
        """Returns the id of the turn."""
        self._open: dict[Pending, None] = {}
        self._closed = False
        self._thread = get_ident()
        self._performing: set[Task[Any]] = set()
        self.ending = False
        """Whether the turn is about to end: what is cancelled is answered by `close`."""
        self.metrics: Callable[[], dict[str, Any] | None] = lambda: None
        """Returns the metrics that an agent accumulates by itself, for the next action."""
        self._patience: TimerHandle | None = None

    @property
    def pending(self) -> dict[int, Pending]:
        """Actions that are durable and not answered, by id."""
        return {
            one.recorded.result().id: one
            for one in self._open
            if one.recorded.done() and not _failed(one.recorded)
        }

    @property
    def undecided(self) -> bool:
        """Whether a person is asked something."""
        return any(_is_open(one.decision) for one in self._open)

    @property
    def has_questions(self) -> bool:
        """Whether an action stands in the log as a question: what people decide of it is still to be done."""
        return any(one.decision is not None and not _failed(one.recorded) for one in self._open)

    @property
    def only_waits(self) -> bool:
        """Whether people are asked, and nothing else of the turn's actions is under way."""
        return bool(self._open) and all(
            _is_open(one.decision) and one.recorded.done() for one in self._open
        )

    async def recorded(self, seconds: float) -> None:
        """Wait, for a bounded time, until every question is durable or could not be stored."""
        asked = [one.recorded for one in self._open if one.decision is not None]
        if asked:
            await asyncio.wait(asked, timeout=seconds)

    def is_asked(self, action_id: int) -> bool:
        """Return whether a person is asked about that action."""
        return self._asked(action_id) is not None

    def decide(self, decision: Decision, action_id: int) -> None:
        """Tell who waits for a person's decision about an action what it is, if anybody does."""
        asked = self._asked(action_id)
        if asked is not None:
            asked.set_result(decision)

    async def carry_out(self, action: Action, written: Partial | None = None) -> Carried:
        """Record an action, have it carried out where that is possible, and record what came of it.

        `written` is the partial that holds an argument of it. Raises TurnOver.
        """
        if self.needs_agreement(action):
            held = await self.agree(action, written=written)
            if isinstance(held, Observation):
                refused = isinstance(held, UserRejectObservation)
                return Carried(held, AgentState.AWAITING_USER_INPUT if refused else None)
            observation = await self._performed(held)
            self.go_on()
            return Carried(observation)
        if action.kind in RUNNABLE:
            return Carried(await self._performed(self.hold(action, written)))
        appended = await asyncio.shield(self.record(action, written))
        answer = _answer_to(action)
        if answer is None:
            return Carried(NullObservation(cause=appended.id), _due_after(action))
        observation = answer.model_copy(update={"cause": appended.id})
        await asyncio.shield(self.append(observation))
        return Carried(observation)

    async def agree(
        self, action: Action, recorded: Pending | None = None, written: Partial | None = None
    ) -> Pending | Observation:
        """Ask a person whether an action may be carried out.

        It is recorded as one that waits, in the place of the record there is of it, and once
        decided upon again: that last record is returned, or what stands in the log in the place of
        a result. Raises TurnOver.
        """
        self._context.announce(AgentState.AWAITING_USER_CONFIRMATION)
        waiting = with_confirmation(action, ConfirmationState.AWAITING_CONFIRMATION)
        if recorded is not None:
            self._open.pop(recorded, None)
            waiting = waiting.model_copy(update={"cause": recorded.recorded.result().id})
        try:
            asked = self.hold(waiting, written)
        except Exception:
            self.go_on()
            raise
        asked.decision = self._loop.create_future()
        asked.recorded.add_done_callback(partial(self._note_asked, asked))
        try:
            with self._clocks.held():
                await asyncio.shield(asked.recorded)
                self._be_patient()
                decision = await asked.decision
        except asyncio.CancelledError:
            self._give_up(asked)
            raise
        if asked.answer is not None:
            return asked.answer
        confirmed = decision is Decision.CONFIRMED
        state = ConfirmationState.CONFIRMED if confirmed else ConfirmationState.REJECTED
        self._open.pop(asked, None)
        asked_id = asked.recorded.result().id
        question = self._context.approvals.get(asked_id)
        agreed = action if question is None else question.agreed
        again = self.hold(decided_form(agreed, state, asked_id))
        self._context.approvals.end(asked_id)
        if not confirmed:
            return await self.answer(again, _refusal(question))
        if question is not None and not question.is_known:
            return await self.answer(again, _unknown())
        return again

    async def settle(self, question: Question) -> None:
        """Do what a person decided about an action after the turn that asked had ended.

        Raises TurnOver and what the runtime raises.
        """
        approved = question.is_approved
        state = ConfirmationState.CONFIRMED if approved else ConfirmationState.REJECTED
        again = self.hold(decided_form(question.agreed, state, question.id))
        self._context.approvals.end(question.id)
        if not approved:
            await self.answer(again, _refusal(question))
        elif question.is_agents:
            await self.answer(again, ErrorObservation(content=ASKER_GONE, error_id=STOPPED_ID))
        elif not question.is_known:
            await self.answer(again, _unknown())
        else:
            await self._performed(again)

    def go_on(self) -> None:
        """Set the state of an agent that was answered: it works, or waits for another answer."""
        if self._closed:
            return
        asks = AgentState.AWAITING_USER_CONFIRMATION
        self._context.announce(asks if self.undecided else AgentState.RUNNING)

    def hold(self, action: Action, written: Partial | None = None) -> Pending:
        """Record an action that is to be answered. Raises TurnOver and what the stream raises."""
        pending = Pending(action, self.record(action, written))
        self._open[pending] = None
        return pending

    def record(self, action: Action, written: Partial | None = None) -> "Future[Appended]":
        """Append an action of the agent. Raises TurnOver, EventTooLarge and what the stream raises."""
        try:
            self.check()
            _check_texts(action)
        except BaseException:
            if written is not None:
                written.drop("failed")
            raise
        told = action.model_copy(update=self.carried())
        if written is None:
            return self._context.held.enqueue(told, EventSource.AGENT)
        appended: Future[Appended] = self._loop.create_future()
        written.finish(told, EventSource.AGENT, self._submit, partial(_settle, appended))
        return appended

    def _submit(self, event: Event, source: EventSource, settled: Settled) -> None:
        self._context.held.submit(event, source, settled, own=True)

    def carried(self) -> dict[str, Any]:
        """Return what the next event of the turn carries: `turn`, and metrics nobody has carried yet."""
        changes: dict[str, Any] = {"turn": self.turn_id()}
        metrics = self.metrics()
        if metrics is not None:
            self._context.ledger.note(metrics)
        else:
            metrics = self._context.ledger.take_metrics()
        if metrics is not None:
            changes["llm_metrics"] = metrics
        return changes

    def append(self, event: Event) -> "Future[Appended]":
        """Append an event of the agent as it is. Raises TurnOver and what the stream raises."""
        self.check()
        told = event.model_copy(update={"turn": self.turn_id()})
        return self._context.held.enqueue(told, EventSource.AGENT)

    async def answer(self, pending: Pending, observation: Observation) -> Observation:
        """Record what came of an action, and return it as it is recorded. Raises TurnOver."""
        appended = await asyncio.shield(pending.recorded)
        answer = observation.model_copy(update={"cause": appended.id})
        try:
            answered = self.append(answer)
        except EventTooLarge as error:
            answer = ErrorObservation(content=str(error), cause=appended.id)
            answered = self.append(answer)
        self._open.pop(pending, None)
        await asyncio.shield(answered)
        return answer

    def check(self) -> None:
        """Raise TurnOver once the turn is over, and RuntimeError in another thread."""
        if self._closed:
            raise TurnOver
        self.check_thread()

    def check_thread(self) -> None:
        """Raise RuntimeError unless called in the thread of the turn's event loop."""
        # What is appended elsewhere would begin tasks in a loop that ends early, for all.
        if get_ident() != self._thread:
            raise RuntimeError("a turn is used in the thread of its event loop; see BlockingAgent")

    def withdraw(self, reason: str, error_id: str) -> None:
        """Answer every action that waits for a person with an error; its waiter goes on."""
        for one in list(self._open):
            if _is_open(one.decision):
                self._close(one, reason, error_id)

    def close(self, reason: str, error_id: str, *, questions_stay: bool = False) -> None:
        """Answer every action that is not answered with an error; nothing is appended any more.

        Where `questions_stay`, those that people are asked about are left open, and those of which
        it is decided and nothing done yet.
        """
        self._closed = True
        for task in self._performing:
            task.cancel()  # of an agent that has left it behind
        if self._patience is not None:
            self._patience.cancel()
        for one in list(self._open):
            decision = one.decision
            if decision is None or not questions_stay:
                self._close(one, reason, error_id)
            if decision is not None and not decision.done():
                decision.set_exception(TurnOver())
                decision.exception()  # nobody may wait for it any more

    def _give_up(self, pending: Pending) -> None:
        """Answer an action whose waiter was cancelled, unless the whole turn is about to end."""
        if self._closed or self.ending:
            return
        asked = pending.decision is not None
        self._close(pending, GIVEN_UP, STOPPED_ID)
        if asked:
            self.go_on()

    def _close(self, one: Pending, reason: str, error_id: str) -> None:
        self._open.pop(one, None)
        one.answer = ErrorObservation(content=reason, error_id=error_id)
        turn_id = self.turn_id()
        recorded = one.recorded

        def answer(done: "Future[Appended]") -> None:
            if not done.cancelled() and done.exception() is None:
                cause = done.result().id
                told = ErrorObservation(
                    content=reason, error_id=error_id, cause=cause, turn=turn_id
                )
                self._context.tell(told, EventSource.AGENT)
                self._context.approvals.end(cause)

        if recorded.done():
            answer(recorded)
        else:
            recorded.add_done_callback(answer)
        if not self._closed and one.decision is not None and not one.decision.done():
            one.decision.set_result(Decision.WITHDRAWN)

    def _note_asked(self, asked: Pending, recorded: "Future[Appended]") -> None:
        if not recorded.cancelled() and recorded.exception() is None and asked.answer is None:
            action = asked.action.model_copy(update={"turn": self.turn_id()})
            self._context.approvals.ask(action, recorded.result().id)

    def _be_patient(self) -> None:
        """Have the turn parked once it has only waited for decisions for long enough."""
        if self._patience is None and not self._closed:
            left = self._context.limits.approval_patience - self._clocks.silent_for
            self._patience = self._loop.call_later(max(left, 0.0), self._look)

    def _look(self) -> None:
        self._patience = None
        if self._closed or not self.undecided:
            return
        patience = self._context.limits.approval_patience
        if self.only_waits and self._clocks.silent_for >= patience:
            self._context.park()
        else:
            left = patience - self._clocks.silent_for
            self._patience = self._loop.call_later(left if left > 0 else patience, self._look)

    async def _performed(self, pending: Pending) -> Observation:
        try:
            await asyncio.shield(pending.recorded)
            with self._clocks.held():
                observation = await self._observed(pending.action)
        except asyncio.CancelledError:
            self._give_up(pending)
            raise
        return await self.answer(pending, observation)

    async def _observed(self, action: Action) -> Observation:
        task = asyncio.current_task()
        if task is not None:
            self._performing.add(task)
        try:
            if isinstance(action, MCPAction):
                await self._context.attend()
            seconds = self._context.limits.action_timeout_seconds
            return await perform_in_time(self._context.runtime, action, seconds)
        finally:
            if task is not None:
                self._performing.discard(task)

    def _asked(self, action_id: int) -> "Future[Decision] | None":
        """Return the decision that is still open about an action."""
        pending = self.pending.get(action_id)
        return pending.decision if pending is not None and _is_open(pending.decision) else None

    def needs_agreement(self, action: Action) -> bool:
        """Whether a person must agree before an action is carried out."""
        if not self._context.limits.confirmation_mode or action.kind not in CONFIRMABLE:
            return False
        if self._context.approvals.allows(action.kind):
            return False
        risk = getattr(action, "security_risk", SecurityRisk.UNKNOWN)
        return risk in ASKED_RISKS


async def perform_in_time(runtime: Runtime, action: Action, default_seconds: float) -> Observation:
    """Have an action carried out within its timeout; an error says that it took longer.

    Raises what the runtime raises.
    """
    seconds = action.timeout or default_seconds
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await runtime.perform(action)
    except TimeoutError:
        if not deadline.expired():
            raise  # of the runtime's own
        text = f"The action did not finish within {seconds:g} seconds and was given up."
        return ErrorObservation(content=text)


def _failed(recorded: "Future[Appended]") -> bool:
    return recorded.done() and (recorded.cancelled() or recorded.exception() is not None)


def _is_open(decision: "Future[Decision] | None") -> bool:
    return decision is not None and not decision.done()


def _settle(appended: "Future[Appended]", outcome: Appended | Exception) -> None:
    if appended.done():
        return
    if isinstance(outcome, Exception):
        appended.set_exception(outcome)
    else:
        appended.set_result(outcome)


def _due_after(action: Action) -> AgentState | None:
    """Return the state in which an action ends the work by itself."""
    if isinstance(action, MessageAction) and action.wait_for_response:
        return AgentState.AWAITING_USER_INPUT
    return DUE.get(type(action))


def _answer_to(action: Action) -> Observation | None:
    """Return the server's answer to an action that no runtime carries out."""
    match action:
        case AgentThinkAction():
            return AgentThinkObservation(content=THOUGHT_NOTED)
        case RecallAction():
            return RecallObservation(recall_type=action.recall_type)
        case AgentDelegateAction():
            text = f"No agent named {action.agent} can be asked here."
            return ErrorObservation(content=text)
        case _:
            return None


def _check_texts(event: Event) -> None:
    """Raise EventTooLarge for texts no event may hold, before they are encoded and searched."""
    size = sum(len(value) for value in event.__dict__.values() if isinstance(value, str))
    if size > EVENT_BYTES:
        raise EventTooLarge(size, EVENT_BYTES)


def with_confirmation(action: Action, state: ConfirmationState) -> Action:
    """Return the action with that state, or as it is where its kind has none."""
    if "confirmation_state" not in type(action).model_fields:
        return action
    return action.model_copy(update={"confirmation_state": state})


def _refusal(question: Question | None) -> UserRejectObservation:
    decided = None if question is None else question.decided
    if decided is None or not decided.reason:
        return UserRejectObservation(content=REJECTED_TEXT)
    return UserRejectObservation(content=f"{REJECTED_TEXT} Their reason: {decided.reason}")


def _unknown() -> ErrorObservation:
    return ErrorObservation(content=UNKNOWN_TEXT, error_id=STOPPED_ID)


def decided_form(action: Action, state: ConfirmationState, asked_id: int) -> Action:
    """Return the action as it stands in the log once a person has decided upon it."""
    fresh = dict.fromkeys(("id", "timestamp", "source", "llm_metrics"))
    changes = {**fresh, "thought": "", "cause": asked_id}
    return with_confirmation(action, state).model_copy(update=changes)


class LoggedDoing(Doing):
    """An action of the agent's own; see Doing."""

    def __init__(
        self, count: Callable[[], None], actions: Actions, clocks: Clocks, action: Action
    ) -> None:
        self._count = count
        self._actions = actions
        self._action = action
        self._pending: Pending | None = None
        self._refused = False
        self._result: Observation | None = None
        self._held = clocks.held()

    async def __aenter__(self) -> Self:
        """Record the action; it is durable then."""
        with outside():
            self._count()
            self._pending = self._actions.hold(self._action)
            await asyncio.shield(self._pending.recorded)
        self._held.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record what came of it."""
        self._held.__exit__(kind, error, trace)
        pending = self._pending
        outcome = observation_of(self._action, self._result, error)
        if pending is None or self._refused or outcome is None:
            return  # answered already, or when the turn is sealed
        with outside():
            await self._actions.answer(pending, outcome)

    async def agreed(self) -> bool:
        """See Doing."""
        with outside():
            self._actions.check()
            if self._pending is None or not self._actions.needs_agreement(self._action):
                return True
            held = await self._actions.agree(self._action, self._pending)
            self._refused = isinstance(held, Observation)
            if isinstance(held, Pending):
                self._pending = held
            self._actions.go_on()
            return not self._refused

    def result(self, content: str = "", *, observation: Observation | None = None) -> None:
        """See Doing."""
        self._actions.check()
        self._result = observation or result_of(self._action, content)
