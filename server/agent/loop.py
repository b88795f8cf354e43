"""Drives one agent over one stream: states, commands, confirmation, limits."""

import asyncio
import logging
from asyncio import CancelledError, Future, Task
from collections.abc import Awaitable, Callable, Mapping, Sequence

from events.actions import (
    Action,
    ChangeAgentStateAction,
    MessageAction,
    RecallAction,
    SystemMessageAction,
)
from events.damage import is_marker
from events.errors import Fenced
from events.event import AgentState, Event, EventSource, RecallType, StoredEvent
from events.observations import ErrorObservation, Observation, RecallObservation
from events.stream import HeldStream
from events.subscription import Subscription
from runtime_stub.agent import Agent, RateLimited, Spending
from runtime_stub.base import Runtime
from runtime_stub.errors import RuntimeUnavailable
from server.agent.contained import ContainedAgent, ContainedRuntime, Deadlines
from server.agent.journal import LoopJournal
from server.agent.recovery import find_open_work, has_system_message
from server.agent.states import (
    ERROR_ID,
    FAILED_ID,
    NOT_EXECUTED,
    RATE_LIMIT_ID,
    STEPPING,
    STOPPED_ID,
    TROUBLED,
    WORKING,
    LoopSettings,
)
from server.agent.steps import AgentSteps, LimitReached, Step, plain_step
from server.errors import text_of
from server.observability.logs import context_of
from server.user_code import UserCode, reason_of

logger = logging.getLogger(__name__)

HALT_SECONDS = 0.8
"""Seconds a cancelled step may take to end before it is abandoned."""
Work = Callable[[], Awaitable[AgentState]]
"""Steps up to the state that is then due."""


class AgentDriver:
    """One piece of work at a time. However it ends, a state is set, unless it was halted.

    `set_state` gets the state, the reason known to clients, and an additional text; it and `fail`
    must not raise.
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
        """Start the work; earlier work no longer changes the state."""
        name = f"agent of {self._conversation_id}"
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._drive(work), name=name, context=self._context)

    def drop(self) -> None:
        """Cancel the current work without waiting for its end; it no longer changes the state."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def halt(self) -> None:
        """Cancel the current work; if it ignores that, abandon it: it no longer sets the state."""
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
            outcome = await _outcome_of(work)
        except BaseException as error:
            # A cancellation without a halt came from inside the agent or its runtime.
            if self._task is not me and isinstance(error, CancelledError | GeneratorExit):
                raise
            logger.exception("the agent of %s failed", self._conversation_id)
            if self._task is me:
                self._fail(error)
        else:
            if self._task is me:
                self._set_state(*outcome)


async def _outcome_of(work: Work) -> tuple[AgentState, str, str]:
    """Return the state to set after the work, its reason, and an additional text."""
    try:
        return await work(), "", ""
    except LimitReached as limit:
        return AgentState.ERROR, str(limit), ""
    except RateLimited as limit:
        if limit.exhausted:
            return AgentState.ERROR, RATE_LIMIT_ID, text_of(limit)
        return AgentState.RATE_LIMITED, text_of(limit), ""


CLOSE_SHARE = 0.4
"""The share of the time for an end spent on appending the last state."""
LONGEST_REASON = 2000
"""Characters of a reason that are kept."""
OnError = Callable[[str], None]
"""Shows a failure to connected clients; the state `error` with its reason is in the log."""


class AgentLoop:
    """The running agent of one conversation. Everything it decides is an event of the log.

    It takes up user messages in log order, each by a `recall` action that names it as its cause; by
    that mark a later loop knows which messages still wait. Every failure of the loop, its agent or
    its runtime ends in a state in the log: none but a loop at work is `running`. Once another holds
    the log's loop, nothing more of this one gets there, and it stops.
    """

    def __init__(
        self,
        held: HeldStream,
        agent: Agent,
        runtime: Runtime,
        settings: LoopSettings,
        spent: Spending,
        *,
        on_error: OnError,
        on_rest: Callable[[], None],
        step: Step = plain_step,
        code: UserCode | None = None,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 - immutable
    ) -> None:
        self.state: AgentState | None = None
        self._deadlines = deadlines
        self._code = code or UserCode(held.conversation_id)
        self._agent = ContainedAgent(agent, self._code, deadlines)
        self.runtime = ContainedRuntime(runtime, self._code, deadlines)
        self._stream = held.stream
        self._held = held
        self._record = LoopJournal(held)
        self._steps = AgentSteps(
            *(held, self._agent, self.runtime, settings, spent),
            *(self._set_state, self._record.tell, step),
        )
        self._driver = AgentDriver(held.conversation_id, self._set_state, self._fail)
        self._agent.resume(spent)
        self._on_error = on_error
        self._on_rest = on_rest
        self._subscription: Subscription | None = None
        self._seen = -1
        self._waiter: tuple[int, Future[None]] | None = None
        self._took_up_before = False
        self._sealed = False
        self._rest_told = False
        self._serial = asyncio.Lock()

    @property
    def working(self) -> bool:
        """Whether the agent is at work, so that its loop must not be closed for being idle."""
        return self.state is None or self.state in WORKING

    @property
    def rests(self) -> bool:
        """Whether it is not at work, and nothing is on its way to it that may begin some."""
        stream = self._stream
        return not self.working and stream.settled and self._seen >= stream.next_id - 1

    def seal(self) -> None:
        """Take up no further message: what comes from now on is left to the conversation's next loop."""
        self._sealed = True

    async def start(self) -> None:
        """Start: set `loading`, start the runtime, close open actions, take up waiting messages.

        Raises what the runtime or the log raises; the state is then `error` if it could be
        appended.
        """
        last_id = self._stream.next_id - 1
        self._set_state(AgentState.LOADING)
        try:
            await self._connect()
            await self._open(last_id)
        except Exception as error:
            self.seal()
            await self._driver.halt()
            await self._unsubscribe()
            self._fail(error)
            await self._record.close(self._deadlines.stop * CLOSE_SHARE)
            raise

    async def close(self) -> None:
        """Halt the agent, record `stopped`, release everything.

        Where the agent or the runtime fails at being closed, the state is `error` at the end.
        """
        self.seal()
        await self._driver.halt()
        await self._unsubscribe()
        self._set_state(AgentState.STOPPED)
        for failed in await self.release():
            self._fail(failed)
        await self._record.close(self._deadlines.stop * CLOSE_SHARE)

    async def release(self) -> list[Exception]:
        """Close the agent and the runtime; what failed at that, which is logged."""
        closed = await asyncio.gather(
            self._agent.close(), self.runtime.close(), return_exceptions=True
        )
        self._code.ended = True
        failed = [one for one in closed if isinstance(one, Exception)]
        for error in failed:
            about = "closing the agent or runtime of %s failed"
            logger.error(about, self._stream.conversation_id, exc_info=error)
        return failed

    def set_environment(self, variables: Mapping[str, str | None]) -> None:
        """Have commands see these variables; the loop fails where its runtime does."""
        try:
            self.runtime.set_environment(variables)
        except Exception as error:
            logger.exception("cannot set the environment of %s", self._stream.conversation_id)
            self._driver.drop()
            self._fail(error)

    async def _connect(self) -> None:
        try:
            await self.runtime.connect()
        except TimeoutError as error:
            raise RuntimeUnavailable(f"the runtime did not connect: {text_of(error)}") from error

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._stream.unsubscribe(subscription)

    async def _open(self, last_id: int) -> None:
        left = await find_open_work(self._stream, last_id)
        for action in left.actions:
            text = NOT_EXECUTED.format(why="was restarted")
            closing = ErrorObservation(content=text, error_id=STOPPED_ID, cause=action.id)
            self._record.tell(closing, EventSource.AGENT)
        if not await has_system_message(self._stream):
            opening = SystemMessageAction(
                content=self._agent.system_prompt(), agent_class=self._agent.name
            )
            _ = self._held.enqueue(opening, EventSource.AGENT)
        self._took_up_before = left.taken_up_before
        async with self._serial:
            after = self._seen = self._stream.next_id - 1
            self._subscription = self._stream.subscribe("agent loop", self._handle, after=after)
            for marker in left.damaged:
                self._agent.observe(marker)
            waiting = left.messages + await self._messages_since(last_id, after)
            if waiting:
                self._command(AgentState.RUNNING)
            else:
                self._command(AgentState.AWAITING_USER_INPUT)
                self._set_state(AgentState.AWAITING_USER_INPUT)
            for message in waiting:
                await self._on_message(message)
            self._stream.forget_unmasked(after)

    async def _messages_since(self, last_id: int, until: int) -> list[MessageAction]:
        """User messages that arrived while the loop came up."""
        found: list[MessageAction] = []
        async for stored in self._stream.search_events(last_id + 1, max(until, 0)):
            event = self._stream.unmasked(stored)
            if isinstance(event, MessageAction) and event.source == EventSource.USER:
                found.append(event)
        return found

    async def _handle(self, events: Sequence[StoredEvent]) -> None:
        async with self._serial:  # what waited before the loop came up is taken up first
            for stored in events:
                if self._sealed:
                    return
                try:
                    await self._take(self._stream.unmasked(stored))
                except Exception as error:
                    logger.exception(
                        "the agent loop of %s failed at event %d",
                        self._stream.conversation_id,
                        stored.id,
                    )
                    await self._driver.halt()
                    self._fail(error)
                self._seen = stored.id
                self._stream.forget_unmasked(stored.id)
                self._tell_waiter()
                await asyncio.sleep(0)  # a long run of events must not keep the loop from others
        if self.rests and not self._rest_told:
            self._rest_told = True
            self._on_rest()

    async def _take(self, event: Event) -> None:
        if event.source == EventSource.USER:
            self._rest_told = False
            if isinstance(event, MessageAction):
                await self._on_message(event)
            elif isinstance(event, ChangeAgentStateAction):
                await self._on_command(event.agent_state)
        elif isinstance(event, Action | Observation) and (
            event.source == EventSource.AGENT or is_marker(event)
        ):
            self._agent.observe(event)

    async def _on_message(self, message: MessageAction) -> None:
        first = not self._took_up_before
        self._took_up_before = True
        kind = RecallType.WORKSPACE_CONTEXT if first else RecallType.KNOWLEDGE
        recall = RecallAction(recall_type=kind, query=message.content, cause=message.id)
        recalled = self._held.enqueue(recall, EventSource.USER)
        # Marked before it is observed: a message that breaks the agent must not break the next one.
        try:
            self._agent.observe(message)
        except Exception as error:
            about = "the agent of %s failed at message %s"
            logger.exception(about, self._stream.conversation_id, message.id)
            await self._driver.halt()
            self._fail(error)
        else:
            self._go_on()
        appended = await asyncio.shield(recalled)
        answer = RecallObservation(recall_type=kind, cause=appended.id)
        self._record.tell(answer, EventSource.ENVIRONMENT)

    def _go_on(self) -> None:
        self._steps.news = True
        if self.state is AgentState.AWAITING_USER_CONFIRMATION:
            text = NOT_EXECUTED.format(why="was given a new message instead of a confirmation")
            self._steps.close_pending(text, STOPPED_ID)
        self._run()

    async def _on_command(self, wanted: str) -> None:
        match wanted:
            case AgentState.RUNNING if self.state is not AgentState.AWAITING_USER_CONFIRMATION:
                self._run()
            case AgentState.PAUSED if self.state in WORKING:
                await self._driver.halt()
                self._close_pending("was paused")
                self._set_state(AgentState.PAUSED)
            case AgentState.STOPPED:
                await self._driver.halt()
                self._set_state(AgentState.STOPPED)
            case AgentState.USER_CONFIRMED if self.state is AgentState.AWAITING_USER_CONFIRMATION:
                self._set_state(AgentState.USER_CONFIRMED)
                self._driver.begin(self._confirmed)
            case AgentState.USER_REJECTED if self.state is AgentState.AWAITING_USER_CONFIRMATION:
                self._steps.news = False
                self._set_state(AgentState.USER_REJECTED)
                self._driver.begin(self._rejected)
            case _:
                logger.info("ignored command %s in state %s", wanted, self.state)

    def _run(self) -> None:
        if self.state in STEPPING:
            return
        if self.state is AgentState.ERROR:
            self._steps.raise_limits()
        self._set_state(AgentState.RUNNING)
        self._driver.begin(self._stepped)

    async def _stepped(self) -> AgentState:
        return await self._steps.run(self._level)

    async def _confirmed(self) -> AgentState:
        await self._steps.confirm()
        self._set_state(AgentState.RUNNING)
        return await self._steps.run(self._level)

    async def _rejected(self) -> AgentState:
        await self._steps.reject()
        if not self._steps.news:
            return AgentState.AWAITING_USER_INPUT
        self._set_state(AgentState.RUNNING)
        return await self._steps.run(self._level)

    async def _level(self) -> None:
        """Wait until the agent has observed everything this loop appended so far."""
        target = self._stream.next_id - 1
        if self._seen < target:
            waiter: Future[None] = asyncio.get_running_loop().create_future()
            self._waiter = (target, waiter)
            await waiter

    def _tell_waiter(self) -> None:
        if self._waiter is not None and self._seen >= self._waiter[0]:
            _, waiter = self._waiter
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Fenced):
            # Another goes on with the conversation, and tells its state.
            logger.warning(
                "another holds the loop of %s; this one stops", self._stream.conversation_id
            )
            self._set_state(AgentState.STOPPED)
            return
        reason = self._shown(reason_of(error))
        if self.state is AgentState.ERROR:
            self._record.tell(_error_of(AgentState.ERROR, reason, ""), EventSource.ENVIRONMENT)
        self._set_state(AgentState.ERROR, reason)
        try:
            self._on_error(reason)
        except Exception:
            logger.exception(
                "cannot report an error of %s to its clients", self._stream.conversation_id
            )

    def _set_state(self, state: AgentState, reason: str = "", detail: str = "") -> None:
        if state is self.state:
            return
        self.state = state
        if state is AgentState.STOPPED:
            self._close_pending("was stopped")
        elif state is AgentState.ERROR:
            self._close_pending("failed", FAILED_ID)
        reason = self._shown(reason)
        error = _error_of(state, reason, self._shown(detail)) if state in TROUBLED else None
        self._record.tell_state(state, reason, error)
        if self.working:
            self._rest_told = False

    def _shown(self, text: str) -> str:
        # Masked before it is cut: no half of a secret may be left.
        text = self._stream.masked(text)
        return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."

    def _close_pending(self, why: str, error_id: str = STOPPED_ID) -> None:
        self._steps.close_pending(NOT_EXECUTED.format(why=why), error_id)

    def _command(self, state: AgentState) -> None:
        self._record.tell(ChangeAgentStateAction(agent_state=state), EventSource.ENVIRONMENT)


def _error_of(state: AgentState, reason: str, detail: str) -> ErrorObservation:
    """Return the `error` event that says why the agent does not continue."""
    if state is AgentState.RATE_LIMITED or reason == RATE_LIMIT_ID:
        said = detail if reason == RATE_LIMIT_ID else reason
        return ErrorObservation(content=said, error_id=RATE_LIMIT_ID)
    return ErrorObservation(content=detail or reason, error_id=ERROR_ID)
