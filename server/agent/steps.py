"""Runs an agent's steps: requests the next action, appends it, and has it performed."""

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Any

from events.actions import (
    Action,
    AgentDelegateAction,
    AgentFinishAction,
    AgentRejectAction,
    AgentThinkAction,
    MessageAction,
    RecallAction,
)
from events.batch import Appended
from events.errors import EventTooLarge
from events.event import AgentState, ConfirmationState, Event, EventSource, SecurityRisk
from events.observations import (
    AgentThinkObservation,
    ErrorObservation,
    Observation,
    RecallObservation,
    UserRejectObservation,
)
from events.stream import EVENT_BYTES, HeldStream
from runtime_stub.agent import Agent, Spending
from runtime_stub.base import Runtime
from server.agent.states import CONFIRMABLE, RUNNABLE, LoopSettings

ENDS = frozenset((AgentState.AWAITING_USER_INPUT, AgentState.FINISHED, AgentState.REJECTED))
"""Kinds an action may cause by itself, which a recording skips."""
REJECTED_TEXT = "Action has been rejected by the user! Waiting for further user input."
Step = Callable[[Agent, str], Awaitable[Action | None]]
"""Asks an agent, that of the conversation named, for its next action."""


def plain_step(agent: Agent, _conversation_id: str) -> Awaitable[Action | None]:
    """Ask it."""
    return agent.step()


class LimitReached(Exception):
    """The iteration or budget limit is reached; the text is the visible reason."""


class AgentSteps:
    """One agent's progress in one conversation: counters, limits and the current action.

    `run` is the body of a task that the loop may cancel at any await. `pending` is the action
    whose observation is not yet in the log, with the append that records it.
    """

    def __init__(
        self,
        held: HeldStream,
        agent: Agent,
        runtime: Runtime,
        settings: LoopSettings,
        spent: Spending,
        announce: Callable[[AgentState], None],
        tell: Callable[[Event, EventSource], object],
        step: Step = plain_step,
    ) -> None:
        self.pending: tuple[Future[Appended], Action] | None = None
        self.news = False
        self._held = held
        self._agent = agent
        self._runtime = runtime
        self._settings = settings
        self._announce = announce
        self._tell = tell
        self._step = step
        self._iterations = 0
        self._max_iterations = settings.max_iterations
        self._cost = spent.cost
        self._max_budget = settings.max_budget_per_task

    def raise_limits(self) -> None:
        """Grant as much again of whatever limit is reached."""
        if self._iterations >= self._max_iterations:
            self._max_iterations += self._settings.max_iterations
        budget = self._settings.max_budget_per_task
        while budget and self._max_budget is not None and self._cost >= self._max_budget:
            self._max_budget += budget

    async def run(self, level: Callable[[], Awaitable[None]]) -> AgentState:
        """Step until the agent waits or ends; return the state to set.

        `level` waits until the agent has observed everything appended so far.
        """
        while True:
            await level()
            self._check_limits()
            self.news = False
            action = await self._step(self._agent, self._held.conversation_id)
            if action is None:
                if self.news:
                    continue
                return AgentState.AWAITING_USER_INPUT
            self._iterations += 1
            due = await self._act(action)
            if due is AgentState.AWAITING_USER_INPUT and self.news:
                continue
            if due in ENDS and self._agent.goes_on:
                continue
            if due is not None:
                return due

    async def confirm(self) -> None:
        """Append the pending action again as confirmed, perform it, append its observation."""
        action = self._decided(ConfirmationState.CONFIRMED)
        if action is not None:
            await self._carry_out(action)

    async def reject(self) -> None:
        """Append the pending action again as rejected, and its answer."""
        action = self._decided(ConfirmationState.REJECTED)
        if action is not None:
            appended = await self._append(action)
            await self._answer(appended.id, UserRejectObservation(content=REJECTED_TEXT))

    def close_pending(self, reason: str, error_id: str) -> None:
        """Append an error for the pending action, if there is one: it will not be performed."""
        if self.pending is None:
            return
        recorded, _ = self.pending
        self.pending = None

        def answer(done: Future[Appended]) -> None:
            if done.exception() is None:
                cause = done.result().id
                error = ErrorObservation(content=reason, error_id=error_id, cause=cause)
                self._tell(error, EventSource.AGENT)

        if recorded.done():
            answer(recorded)
        else:
            recorded.add_done_callback(answer)

    def _check_limits(self) -> None:
        if self._iterations >= self._max_iterations:
            raise LimitReached(
                f"The agent reached its limit of {self._max_iterations} steps."
                " Send a message to let it go on."
            )
        if self._max_budget is not None and self._cost >= self._max_budget:
            raise LimitReached(
                f"The agent reached its budget: {self._cost:.2f} of {self._max_budget:.2f} USD"
                " are spent. Send a message to let it go on."
            )

    async def _act(self, action: Action) -> AgentState | None:
        """Record an action and have it carried out; the state due after it, if any."""
        if self._needs_confirmation(action):
            self._announce(AgentState.AWAITING_USER_CONFIRMATION)
            asked = _with_confirmation(action, ConfirmationState.AWAITING_CONFIRMATION)
            recorded = self._record(asked)
            self.pending = (recorded, action)
            await asyncio.shield(recorded)
            return AgentState.AWAITING_USER_CONFIRMATION
        if action.kind in RUNNABLE:
            await self._carry_out(action)
            return None
        appended = await self._append(action)
        match action:
            case MessageAction(wait_for_response=True):
                return AgentState.AWAITING_USER_INPUT
            case AgentFinishAction():
                return AgentState.FINISHED
            case AgentRejectAction():
                return AgentState.REJECTED
            case AgentThinkAction():
                await self._answer(
                    appended.id, AgentThinkObservation(content="Your thought has been logged.")
                )
            case RecallAction():
                await self._answer(appended.id, RecallObservation(recall_type=action.recall_type))
            case AgentDelegateAction():
                text = f"No agent named {action.agent} can be asked here."
                await self._answer(appended.id, ErrorObservation(content=text))
            case _:
                pass
        return None

    async def _carry_out(self, action: Action) -> None:
        recorded = self._record(action)
        self.pending = (recorded, action)
        appended = await asyncio.shield(recorded)
        seconds = action.timeout or self._settings.action_timeout_seconds
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                observation = await self._runtime.perform(action)
        except TimeoutError:
            if not deadline.expired():
                raise  # of the runtime's own
            text = f"The action did not finish within {seconds:g} seconds and was given up."
            observation = ErrorObservation(content=text)
        await self._answer(appended.id, observation)

    async def _answer(self, cause: int, observation: Observation) -> None:
        answer = observation.model_copy(update={"cause": cause})
        try:
            answered = self._held.enqueue(answer, EventSource.AGENT)
        except EventTooLarge as error:
            told = ErrorObservation(content=str(error), cause=cause)
            answered = self._held.enqueue(told, EventSource.AGENT)
        self.pending = None
        await asyncio.shield(answered)

    async def _append(self, action: Action) -> Appended:
        return await asyncio.shield(self._record(action))

    def _record(self, action: Action) -> Future[Appended]:
        _check_texts(action)
        metrics = self._agent.metrics()
        if metrics is not None:
            cost = metrics.get("accumulated_cost")
            self._cost = cost if isinstance(cost, int | float) else self._cost
            action = action.model_copy(update={"llm_metrics": metrics})
        return self._held.enqueue(action, EventSource.AGENT)

    def _needs_confirmation(self, action: Action) -> bool:
        if not self._settings.confirmation_mode or action.kind not in CONFIRMABLE:
            return False
        risk = getattr(action, "security_risk", SecurityRisk.UNKNOWN)
        # No analyzer is configured, so an unknown risk counts as a high one.
        return risk in (SecurityRisk.HIGH, SecurityRisk.UNKNOWN)

    def _decided(self, decision: ConfirmationState) -> Action | None:
        if self.pending is None:
            return None
        recorded, action = self.pending
        self.pending = None
        changes: dict[str, Any] = {"thought": "", "cause": recorded.result().id}
        return _with_confirmation(action, decision).model_copy(update=changes)


def _check_texts(event: Event) -> None:
    """Raise EventTooLarge for texts no event may hold, before they are encoded and searched."""
    size = sum(len(value) for value in event.__dict__.values() if isinstance(value, str))
    if size > EVENT_BYTES:
        raise EventTooLarge(size, EVENT_BYTES)


def _with_confirmation(action: Action, state: ConfirmationState) -> Action:
    if "confirmation_state" not in type(action).model_fields:
        return action
    return action.model_copy(update={"confirmation_state": state})
