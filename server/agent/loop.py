"""AgentLoop, the running agent of one conversation: takes in what its user says, and gives it turns."""

import asyncio
import logging
from asyncio import Future, Task
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from events.actions import Action, ChangeAgentStateAction, MessageAction, SystemMessageAction
from events.batch import Appended
from events.damage import is_marker
from events.event import AgentState, Event, EventSource, StoredEvent
from events.observations import Observation
from events.stream import HeldStream
from events.subscription import Subscription
from runtime_stub.agent import Agent, Spending
from runtime_stub.base import Runtime
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.tools import McpOptions
from runtime_stub.turn import Reason
from server.agent.askers import asked_for
from server.agent.contained import ContainedAgent, ContainedRuntime, Deadlines
from server.agent.decisions import Decisions
from server.agent.driver import AgentDriver, OnError
from server.agent.journal import LoopJournal
from server.agent.lease import Lease, under
from server.agent.recalls import Recalls
from server.agent.recovery import (
    LostTurn,
    OpenWork,
    Recovery,
    find_open_work,
    has_system_message,
    user_messages,
)
from server.agent.states import WORKING, LoopSettings
from server.agent.tool_servers import ToolServers
from server.agent.workspaces import LoopWorkspace, Workspaces
from server.errors import text_of
from server.turns.actions import NOT_EXECUTED, STOPPED_ID, Decision
from server.turns.approvals import Approvals
from server.turns.context import Nobody, Step, TurnContext, TurnUser, plain_step
from server.turns.inbox import Inbox
from server.turns.limits import Ledger
from server.turns.memory import ProcessMemory, TurnMemory
from server.turns.threads import AgentThreads
from server.turns.turn import LoggedTurn
from server.user_code import UserCode

logger = logging.getLogger(__name__)

CLOSE_SHARE = 0.4
"""The share of the time for an end spent on appending the last state."""
KEEP_SHARE = 0.5
"""Of the time for closing a runtime, what its last snapshot may take before that."""
RECORD_SECONDS = 1.0
"""Seconds a loop that ends waits until its turn's beginning, or its agent's questions, are durable."""
ANSWERED_BY_MESSAGE = NOT_EXECUTED.format(why="was given a new message instead of a confirmation")


class AgentLoop:
    """The running agent of one conversation. Everything it decides is an event of the log.

    Its work is divided into turns: one begins with a `recall` action that marks a message as taken
    up, or stands for a command to go on, and ends with `turn_ended`. By these a later loop knows
    which messages still wait, and which turn was cut short. Whatever fails in it, its agent or its
    runtime ends in a state that is told: none but a loop at work is `running`. Once another holds
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
        on_status: Callable[[str], None] = lambda _: None,
        step: Step = plain_step,
        code: UserCode | None = None,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 - immutable
        user: TurnUser | None = None,
        memory: TurnMemory | None = None,
        threads: AgentThreads | None = None,
        approvals: Approvals | None = None,
        workspaces: Workspaces | None = None,
        mcp: McpOptions = McpOptions(),  # noqa: B008 - immutable
        lease: Lease | None = None,
    ) -> None:
        self.stopped_by_user = False
        """Whether its end, when it comes, was asked for: its turn is not begun again."""
        self._deadlines = deadlines
        self._code = code or UserCode(held.conversation_id)
        self._agent = ContainedAgent(agent, self._code, deadlines)
        self.runtime = ContainedRuntime(runtime, self._code, deadlines, lease)
        self._stream = held.stream
        self._held = held
        self._approvals = approvals or Approvals()
        self._journal = LoopJournal(held, self._approvals, self._state_changed)
        self._workspace = LoopWorkspace(
            workspaces or Workspaces(),
            held.conversation_id,
            self.runtime,
            rests=lambda: self.rests,
            tell=lambda event: self._journal.tell(event, EventSource.ENVIRONMENT),
        )
        self._recalls = Recalls(held, self._journal)
        self._recovery = Recovery(
            *(self._stream, self._agent, self.runtime, self._journal, self._approvals),
            settings=settings,
        )
        self._inbox = Inbox()
        user = user or Nobody()
        tool_servers = ToolServers(
            self.runtime, user, mcp, tell=lambda text: on_status(held.stream.masked(text))
        )
        context = TurnContext(
            held=held,
            code=self._code,
            runtime=self.runtime,
            offered=self.runtime.offers,
            more_tools=tool_servers.tools,
            attend=tool_servers.attend,
            limits=settings,
            ledger=Ledger(settings.max_iterations, settings.max_budget_per_task, spent),
            user=user,
            memory=memory or ProcessMemory(),
            threads=threads or AgentThreads(),
            announce=self._journal.set_state,
            tell=self._journal.tell,
            take_up=self._recalls.mark_soon,
            notify=on_status,
            level=self._level,
            park=self._park_soon,
            approvals=self._approvals,
            step=step if lease is None else under(lease, step),
        )
        self._driver = AgentDriver(
            *(self._agent, context, self._inbox, self._journal),
            expired=self._expire_soon,
            waits=self._waits,
            begin_next=self._begin_next,
            on_error=on_error,
        )
        self._agent.resume(spent)
        self._stepwise = self._agent.stepwise
        self._decisions = Decisions(
            *(self._driver, self._agent, self._approvals, self._recalls, self._journal),
            recovery=self._recovery,
            stream=self._stream,
            stepwise=self._stepwise,
        )
        self._on_rest = on_rest
        self._subscription: Subscription | None = None
        self._sealed = False
        self._rest_told = False
        self._serial = asyncio.Lock()
        self._tasks: set[Task[None]] = set()

    @property
    def state(self) -> AgentState | None:
        """The newest state; None before the first."""
        return self._journal.state

    @property
    def working(self) -> bool:
        """Whether the agent is at work, so that its loop must not be closed for being idle."""
        turn = self._driver.turn
        if self.state is AgentState.AWAITING_USER_CONFIRMATION and turn is not None:
            return not turn.only_waits
        return self.state is None or self.state in WORKING

    @property
    def rests(self) -> bool:
        """Whether it is not at work, and nothing is on its way to it that may begin some."""
        stream = self._stream
        return not self.working and stream.settled and self._inbox.seen >= stream.next_id - 1

    def has_turn(self, turn_id: int) -> bool:
        """Return whether that turn is under way."""
        turn = self._driver.turn
        return turn is not None and turn.begun.done() and turn.id == turn_id

    @property
    def sealed(self) -> bool:
        """Whether it takes up no further message."""
        return self._sealed

    def seal(self) -> None:
        """Take up no further message: what comes from now on is left to the conversation's next loop."""
        self._sealed = True

    async def start(self) -> None:
        """Start: set `loading`, start the runtime, close open actions, take up waiting messages.

        The runtime begins with what is kept of the workspace.

        Raises what the runtime or the log raises; the state is then `error` if it could be
        appended.
        """
        last_id = self._stream.next_id - 1
        had_loop = self._stream.last_state_id is not None
        try:
            await self._approvals.read(self._stream)
            self._journal.set_state(AgentState.LOADING)
            if had_loop:
                await self._workspace.restore()
            await self._connect()
            self._workspace.connected()
            await self._agent.open(self._stream.conversation_id)
            await self._open(last_id)
        except Exception as error:
            self.seal()
            await self._driver.halt("failed")
            await self._unsubscribe()
            self._driver.fail(error)
            await self._journal.close(self._deadlines.stop * CLOSE_SHARE)
            raise

    async def close(self) -> None:
        """Halt the agent, record `stopped`, release everything.

        A turn under way ends: stopped where its user wanted that, else interrupted, to be begun
        again by the next loop or with an error that says so. Where the agent or the runtime fails at
        being closed, the state is `error` at the end.
        """
        self.seal()
        turn, by_user = self._driver.turn, self.stopped_by_user
        asks = turn is not None and turn.asks
        await self._driver.halt("stopped")
        if turn is not None and turn.recall is not None and not turn.recall.done():
            await asyncio.wait([turn.recall], timeout=RECORD_SECONDS)
        elif turn is not None and not by_user:
            await turn.actions.recorded(RECORD_SECONDS)
            asks = asks or turn.actions.has_questions
        await self._unsubscribe()
        for task in self._tasks:
            task.cancel()
        before = self._driver.cut_short(self._recovery, asks=asks, by_user=by_user)
        if by_user:
            why = NOT_EXECUTED.format(why="was stopped")
            self._decisions.withdraw(why)
            self._decisions.give_up(why, waiting_too=True)
        if turn is None or turn.recall is None or turn.recall.done():
            self._journal.set_state(AgentState.STOPPED, before=before)
        else:
            # A state of rest behind a `recall` ends its turn: it must not come before `turn_ended`.
            turn.recall.add_done_callback(partial(self._stopped_late, before))
        for failed in await self.release():
            self._driver.fail(failed)
        await self._journal.close(self._deadlines.stop * CLOSE_SHARE)

    def _stopped_late(self, before: Sequence[Event], _recorded: Future[Appended]) -> None:
        set_state = self._journal.set_state
        asyncio.get_running_loop().call_soon(set_state, AgentState.STOPPED, None, before)

    async def release(self) -> list[Exception]:
        """Save the workspace, close the agent and the runtime; what failed at that, which is logged."""
        await self._workspace.close(self._deadlines.close * KEEP_SHARE)
        closed = await asyncio.gather(
            self._agent.close(), self.runtime.close(), return_exceptions=True
        )
        self._code.ended = True
        failed = [one for one in closed if isinstance(one, Exception)]
        for error in failed:
            about = "closing the agent or runtime of %s failed"
            logger.error(about, self._stream.conversation_id, exc_info=error)
        return failed

    def abandon(self) -> None:
        """Write nothing more, and save nothing: another process has the loop. To be closed next."""
        self.seal()
        self._held.let_go()
        self._workspace.abandon()

    def set_environment(self, variables: Mapping[str, str | None]) -> None:
        """Have commands see these variables; the loop fails where its runtime does."""
        try:
            self.runtime.set_environment(variables)
        except Exception as error:
            logger.exception("cannot set the environment of %s", self._stream.conversation_id)
            self._driver.drop()
            self._driver.fail(error)

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
            if action.id not in self._approvals:
                await self._recovery.close_action(action)
        if not await has_system_message(self._stream):
            opening = SystemMessageAction(
                content=self._agent.system_prompt(), agent_class=self._agent.name
            )
            _ = self._held.enqueue(opening, EventSource.AGENT)
        self._recalls.any_before = left.taken_up_before
        async with self._serial:
            after = self._stream.next_id - 1
            self._inbox.saw(after)
            self._subscription = self._stream.subscribe("agent loop", self._handle, after=after)
            for marker in left.damaged:
                self._agent.observe(marker)
            left.messages += await user_messages(self._stream, last_id + 1, after)
            await self._begin_again(left)
            self._stream.forget_unmasked(after)

    async def _begin_again(self, left: OpenWork) -> None:
        await self._decisions.read(self._approvals.due(self._inbox.seen))
        lost = await self._recovery.end_lost(left)
        if lost is None and self._decisions:
            for message in left.messages:  # they are answered after that
                self._inbox.put(message)
            await self._carry_out_decisions()
            return
        asked = self._approvals.open_ids
        if asked and any(_id(message) > asked[-1] for message in left.messages):
            self._decisions.withdraw(ANSWERED_BY_MESSAGE)
        go_on = left.go_on and not self._approvals.open_ids
        if lost is not None or left.messages or go_on:
            self._command(AgentState.RUNNING)
        else:
            rest = self._driver.at_rest(AgentState.AWAITING_USER_INPUT)
            self._command(rest)
            self._journal.set_state(rest)
        if lost is not None:
            await self._take_up_again(lost)
            for message in left.messages:
                await self._on_message(message)
        elif left.messages or go_on:
            await self._take_up(left.messages)

    async def _take_up_again(self, lost: LostTurn) -> None:
        decision = None
        if lost.decision is not None:
            decision = await self._decisions.command(lost.decision)
        if decision is None:
            await self._take_up(lost.messages, lost.tries + 1)
        else:
            asked = await asked_for(self._stream, lost.id)
            await self._decisions.begin_again(decision, lost.tries + 1, asked)

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
                    await self._driver.break_off(error)
                self._stream.forget_unmasked(stored.id)
                self._inbox.saw(stored.id)
                await asyncio.sleep(0)  # a long run of events must not keep the loop from others
        if self.rests:
            self._workspace.rested()
            if not self._rest_told:
                self._rest_told = True
                self._on_rest()

    async def _take(self, event: Event) -> None:
        if event.source == EventSource.USER:
            self._rest_told = False
            if isinstance(event, MessageAction):
                await self._on_message(event)
            elif isinstance(event, ChangeAgentStateAction):
                await self._on_command(event)
        elif (
            self._stepwise
            and isinstance(event, Action | Observation)
            and (event.source == EventSource.AGENT or is_marker(event))
        ):
            self._agent.observe(event)

    async def _on_message(self, message: MessageAction) -> None:
        turn = self._driver.turn
        if turn is None and self.state is AgentState.AWAITING_USER_CONFIRMATION:
            self._decisions.withdraw(ANSWERED_BY_MESSAGE)
        if self._stepwise or (turn is None and not self._inbox):
            await self._take_up([message])
        elif turn is None:
            self._inbox.put(message)  # behind those that wait
            self._begin_next()
        elif not turn.told(message):
            self._inbox.put(message)
            if self.state is AgentState.AWAITING_USER_CONFIRMATION:
                self._withdraw(turn)

    async def _take_up(self, messages: Sequence[MessageAction], attempt: int = 1) -> None:
        """Mark messages as taken up, by a turn that begins with them, or by the one under way."""
        if not messages:
            await self._go_on(attempt)
        elif self._stepwise:
            for message in messages:
                await self._observe_message(message, attempt)
        else:
            turn = self._driver.new_turn(messages, attempt)
            recalled = self._recalls.mark(messages[0], None)
            turn.begins_with(recalled.appending)
            self._driver.start(turn)
            turn_id = await self._recalls.recorded(recalled)
            others = [self._recalls.mark(one, turn_id) for one in messages[1:]]
            for other in others:
                await self._recalls.recorded(other)

    async def _observe_message(self, message: MessageAction, attempt: int) -> None:
        fresh = self._driver.turn is None
        turn = self._driver.turn or self._driver.new_turn([message], attempt)
        recalled = self._recalls.mark(message, None if fresh else turn.id)
        if fresh:
            turn.begins_with(recalled.appending)
        # Marked before it is observed: a message that breaks the agent must not break the next one.
        try:
            self._agent.observe(message)
        except Exception as error:  # noqa: BLE001 - it is logged, and told
            self._driver.log_failure(f"failed at message {message.id}", error)
            await self._driver.break_off(error)
        else:
            turn.news_came.came = True
            if self.state is AgentState.AWAITING_USER_CONFIRMATION:
                self._withdraw(turn)
            if fresh:
                self._driver.start(turn)
            else:
                turn.taken.append(message)
        await self._recalls.recorded(recalled)

    async def _go_on(self, attempt: int = 1) -> None:
        """Begin a turn without a message, unless one is under way or something waits for one."""
        if self._driver.turn is not None:
            return
        if self._waits():
            self._begin_next()
            return
        turn = self._driver.new_turn([], attempt)
        recalled = self._recalls.without_message()
        turn.begins_with(recalled)
        self._driver.start(turn)
        await asyncio.shield(recalled)

    async def _on_command(self, command: ChangeAgentStateAction) -> None:
        wanted, of = command.agent_state, command.of
        match wanted:
            case AgentState.RUNNING if self.state is not AgentState.AWAITING_USER_CONFIRMATION:
                await self._go_on()
            case AgentState.PAUSED | AgentState.STOPPED if of is not None and self.has_turn(of):
                await self._stop_turn(AgentState(wanted), only_this=True)
            case AgentState.PAUSED if of is None and self.state in WORKING:
                await self._stop_turn(AgentState.PAUSED)
            case AgentState.STOPPED if of is None:
                await self._stop_turn(AgentState.STOPPED, questions_too=True)
            case AgentState.USER_CONFIRMED | AgentState.USER_REJECTED:
                await self._on_decision(command)
            case _:
                logger.info("ignored command %s in state %s", wanted, self.state)

    async def _stop_turn(
        self, state: AgentState, *, only_this: bool = False, questions_too: bool = False
    ) -> None:
        """End the turn under way, and rest; or, if only that turn was meant, go on with what waits.

        With `questions_too`, the questions of earlier turns end as well.
        """
        await self._driver.halt("stopped")
        before = self._driver.end("stopped", why=f"was {state}")
        why = NOT_EXECUTED.format(why=f"was {state}")
        self._decisions.give_up(why, waiting_too=questions_too)
        if questions_too:
            self._decisions.withdraw(why)
        if only_this and self._waits():
            self._begin_next(before)
        else:
            self._journal.set_state(state, before=before)

    async def _on_decision(self, command: ChangeAgentStateAction) -> None:
        question = self._approvals.decide(command)
        turn = self._driver.turn
        if question is None:
            logger.info("ignored command %s: nothing is open", command.agent_state)
        elif turn is not None and turn.actions.is_asked(question.id):
            decision = Decision(command.agent_state)
            if decision is Decision.REJECTED:
                turn.news_came.came = False
            self._journal.set_state(AgentState(decision.value))
            turn.actions.decide(decision, question.id)
        else:
            self._decisions.put(question, command)
            await self._carry_out_decisions()

    async def _carry_out_decisions(self) -> None:
        """Begin a turn that does what people decided, unless another is under way."""
        if self._driver.turn is None and self._decisions and not self._sealed:
            await self._decisions.begin_turn()

    def _park_soon(self) -> None:
        if self._driver.turn is not None:
            self._spawn(self._park(self._driver.turn))

    async def _park(self, turn: LoggedTurn) -> None:
        """End a turn that only waits for decisions: its questions stay, and the loop may go."""
        async with self._serial:
            if self._driver.turn is not turn or not turn.only_waits or self._sealed:
                return
            self._decisions.observes(turn.actions.pending)
            await self._driver.halt("waiting")
            before = self._driver.end("waiting", why="waits")
            if self._waits():
                self._begin_next(before)
            else:
                self._journal.tell_state(AgentState.AWAITING_USER_CONFIRMATION, before=before)

    def _withdraw(self, turn: LoggedTurn) -> None:
        """Close what a person was asked: there is a message in the place of an answer."""
        turn.actions.withdraw(ANSWERED_BY_MESSAGE, STOPPED_ID)
        self._decisions.withdraw(ANSWERED_BY_MESSAGE)
        self._journal.set_state(AgentState.RUNNING)

    def _waits(self) -> bool:
        """Whether something waits for another turn, and may begin one."""
        return bool(self._inbox or self._decisions) and not self._sealed

    def _begin_next(self, before: Sequence[Event] = ()) -> None:
        """Record what led to it, and begin another turn with what waits."""
        for event in before:
            self._journal.tell(event, EventSource.ENVIRONMENT)
        self._driver.set_running()
        self._spawn(self._take_up_waiting())

    async def _take_up_waiting(self) -> None:
        async with self._serial:
            if (
                self._sealed
                or self._driver.turn is not None
                or self.state is not AgentState.RUNNING
            ):
                return
            if self._decisions:
                await self._carry_out_decisions()
                return
            messages = self._inbox.take()
            unheld, self._inbox.unheld_from = self._inbox.unheld_from, None
            if unheld is not None:
                for message in await user_messages(self._stream, unheld, self._inbox.seen):
                    self._inbox.put(message)
            await self._take_up(messages or self._inbox.take())

    def _expire_soon(self, turn: LoggedTurn, reason: Reason) -> None:
        self._spawn(self._expire(turn, reason))

    async def _expire(self, turn: LoggedTurn, reason: Reason) -> None:
        async with self._serial:
            if self._driver.turn is turn:
                await self._driver.time_out(reason)

    def _state_changed(self) -> None:
        if self.working:
            self._rest_told = False

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            logger.exception("the agent loop of %s failed", self._stream.conversation_id)
            await self._driver.break_off(error)

    async def _level(self) -> None:
        """Wait until the agent has observed everything this loop appended so far."""
        await self._inbox.level(self._stream.next_id - 1)

    def _command(self, state: AgentState) -> None:
        self._journal.tell(ChangeAgentStateAction(agent_state=state), EventSource.ENVIRONMENT)


def _id(message: MessageAction) -> int:
    return -1 if message.id is None else message.id
