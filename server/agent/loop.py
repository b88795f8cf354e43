"""Drives one agent over one stream: turns, states, commands, and what earlier loops left open.

It is long because it is one state machine: every path to the end of a turn or to another state,
also that of work an earlier loop left open, changes the same few fields.
"""

import asyncio
import logging
from asyncio import Future, Task
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from events.actions import (
    Action,
    ChangeAgentStateAction,
    MCPAction,
    MessageAction,
    RecallAction,
    SystemMessageAction,
)
from events.batch import Appended
from events.damage import is_marker
from events.errors import Fenced
from events.event import (
    AgentState,
    Event,
    EventSource,
    Interruption,
    RecallType,
    StoredEvent,
)
from events.observations import (
    ErrorObservation,
    Observation,
    RecallObservation,
    TurnEndedObservation,
)
from events.stream import HeldStream
from events.subscription import Subscription
from runtime_stub.agent import Agent, RateLimited, Spending
from runtime_stub.base import Runtime
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.turn import LimitReached, Reason
from server.agent.contained import ContainedAgent, ContainedRuntime, Deadlines
from server.agent.driver import AgentDriver
from server.agent.journal import LoopJournal
from server.agent.reasons import (
    RATE_LIMIT_ID,
    SENTENCES,
    Failure,
    failure_for,
    failure_of,
    outcome_of,
)
from server.agent.recovery import (
    INTERRUPTED,
    LostTurn,
    OpenWork,
    find_open_work,
    has_system_message,
)
from server.agent.states import TROUBLED, WORKING, LoopSettings
from server.errors import text_of
from server.turns.actions import FAILED_ID, NOT_EXECUTED, STOPPED_ID, Decision
from server.turns.approvals import APPROVED, Approvals, Question
from server.turns.context import Nobody, Step, TurnContext, TurnUser, plain_step
from server.turns.limits import Ledger
from server.turns.memory import ProcessMemory, TurnMemory
from server.turns.threads import AgentThreads
from server.turns.turn import Inbox, LoggedTurn
from server.user_code import UserCode

logger = logging.getLogger(__name__)

CLOSE_SHARE = 0.4
"""The share of the time for an end spent on appending the last state."""
RECORD_SECONDS = 1.0
"""Seconds a loop that ends waits until its agent's questions are durable."""
ANSWERED_BY_MESSAGE = NOT_EXECUTED.format(why="was given a new message instead of a confirmation")
LONGEST_REASON = 2000
"""Characters of a reason that are kept."""
CUT_WORDS = {
    "stopped": Interruption.STOPPED,
    INTERRUPTED: Interruption.STOPPED,
    "timed_out": Interruption.TIMED_OUT,
}
"""The word for a text that was cut short, by the outcome of its turn; else FAILED."""
OnError = Callable[[str], None]
"""Shows a failure to connected clients; the state `error` with its reason is in the log."""


class _Recalled(NamedTuple):
    """The mark of a message that is taken up, with its append, and the turn it belongs to."""

    kind: RecallType
    appending: "Future[Appended]"
    turn_id: int | None


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
    ) -> None:
        self.state: AgentState | None = None
        self.stopped_by_user = False
        """Whether its end, when it comes, was asked for: its turn is not begun again."""
        self._deadlines = deadlines
        self._settings = settings
        self._code = code or UserCode(held.conversation_id)
        self._agent = ContainedAgent(agent, self._code, deadlines)
        self.runtime = ContainedRuntime(runtime, self._code, deadlines)
        self._stream = held.stream
        self._held = held
        self._record = LoopJournal(held)
        self._ledger = Ledger(settings.max_iterations, settings.max_budget_per_task, spent)
        self._approvals = approvals or Approvals()
        self._context = TurnContext(
            held=held,
            code=self._code,
            runtime=self.runtime,
            limits=settings,
            ledger=self._ledger,
            user=user or Nobody(),
            memory=memory or ProcessMemory(),
            threads=threads or AgentThreads(),
            announce=self._set_state,
            tell=self._record.tell,
            take_up=self._take_up_in_turn,
            notify=on_status,
            level=self._level,
            park=self._park_soon,
            approvals=self._approvals,
            step=step,
        )
        self._driver = AgentDriver(held.conversation_id, self._turn_done, self._turn_failed)
        self._agent.resume(spent)
        self._stepwise = self._agent.stepwise
        self._on_error = on_error
        self._on_rest = on_rest
        self._subscription: Subscription | None = None
        self._seen = -1
        self._waiter: tuple[int, Future[None]] | None = None
        self._took_up_before = False
        self._sealed = False
        self._rest_told = False
        self._serial = asyncio.Lock()
        self._turn: LoggedTurn | None = None
        self._inbox = Inbox()
        self._decided: list[tuple[Question, Event]] = []
        """Decisions that no turn waits for, to be carried out by the next one."""
        self._observed_asking: set[int] = set()
        """Questions of turns that have ended, whose asker still observes what comes of them."""
        self._tasks: set[Task[None]] = set()

    @property
    def working(self) -> bool:
        """Whether the agent is at work, so that its loop must not be closed for being idle."""
        turn = self._turn
        if self.state is AgentState.AWAITING_USER_CONFIRMATION and turn is not None:
            return not turn.only_waits
        return self.state is None or self.state in WORKING

    @property
    def rests(self) -> bool:
        """Whether it is not at work, and nothing is on its way to it that may begin some."""
        stream = self._stream
        return not self.working and stream.settled and self._seen >= stream.next_id - 1

    def has_turn(self, turn_id: int) -> bool:
        """Return whether that turn is under way."""
        turn = self._turn
        return turn is not None and turn.begun.done() and turn.id == turn_id

    def seal(self) -> None:
        """Take up no further message: what comes from now on is left to the conversation's next loop."""
        self._sealed = True

    async def start(self) -> None:
        """Start: set `loading`, start the runtime, close open actions, take up waiting messages.

        Raises what the runtime or the log raises; the state is then `error` if it could be
        appended.
        """
        last_id = self._stream.next_id - 1
        try:
            await self._approvals.read(self._stream)
            self._set_state(AgentState.LOADING)
            await self._connect()
            await self._agent.open(self._stream.conversation_id)
            await self._open(last_id)
        except Exception as error:
            self.seal()
            await self._halt("failed")
            await self._unsubscribe()
            self._fail(error)
            await self._record.close(self._deadlines.stop * CLOSE_SHARE)
            raise

    async def close(self) -> None:
        """Halt the agent, record `stopped`, release everything.

        A turn under way ends: stopped where its user wanted that, else interrupted, to be begun
        again by the next loop or with an error that says so. Where the agent or the runtime fails at
        being closed, the state is `error` at the end.
        """
        self.seal()
        turn = self._turn
        asked = turn is not None and turn.actions.undecided and not self.stopped_by_user
        waits = asked or (turn is not None and turn.asks)
        await self._halt("stopped")
        if turn is not None and asked:
            await turn.actions.recorded(RECORD_SECONDS)
        await self._unsubscribe()
        for task in self._tasks:
            task.cancel()
        before = self._close_turn(waits=waits)
        if self.stopped_by_user:
            self._withdraw_questions(NOT_EXECUTED.format(why="was stopped"))
        self._set_state(AgentState.STOPPED, before=before)
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
            if action.id not in self._approvals:
                await self._close_left(action)
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
            left.messages += await self._messages_since(last_id + 1, after)
            await self._begin_again(left)
            self._stream.forget_unmasked(after)

    async def _begin_again(self, left: OpenWork) -> None:
        lost = left.lost
        if lost is not None and self._approvals.of_turn(lost.id):
            self._record.tell(
                TurnEndedObservation(
                    outcome="waiting", turn=lost.id, open_from=self._open_from(left.messages)
                ),
                EventSource.ENVIRONMENT,
            )
            lost = None
        again = lost is not None and self._may_begin_again(lost.tries)
        if lost is not None:
            self._end_lost(lost, left, again=again)
        due = self._approvals.due(self._seen)
        if due and not again:
            await self._begin_decided(due, left.messages)
            return
        asked = self._approvals.open_ids
        if asked and any(_id(message) > asked[-1] for message in left.messages):
            self._withdraw_questions(ANSWERED_BY_MESSAGE)
        go_on = left.go_on and not self._approvals.open_ids
        if again or left.messages or go_on:
            self._command(AgentState.RUNNING)
        else:
            rest = self._at_rest(AgentState.AWAITING_USER_INPUT)
            self._command(rest)
            self._set_state(rest)
        if lost is not None and again:
            await self._take_up(lost.messages, lost.tries + 1)
            for message in left.messages:
                await self._on_message(message)
        elif left.messages or go_on:
            await self._take_up(left.messages)

    def _may_begin_again(self, tries: int) -> bool:
        return self._agent.starts_again and tries < self._settings.turn_tries

    def _end_lost(self, lost: LostTurn, left: OpenWork, *, again: bool) -> None:
        """Record the end of a turn that has none, and why its messages are not answered."""
        open_messages = [*left.messages, *(lost.messages if again else ())]
        if not again:
            for told in self._lost_errors(lost.messages):
                self._record.tell(told, EventSource.ENVIRONMENT)
        elif lost.has_ended:
            return
        ended = TurnEndedObservation(
            outcome="crashed",
            reason="" if again else Reason.TURN_LOST,
            turn=lost.id,
            open_from=self._open_from(open_messages),
        )
        self._record.tell(ended, EventSource.ENVIRONMENT)

    def _open_from(self, messages: Sequence[MessageAction]) -> int:
        return min((_id(one) for one in messages), default=self._stream.next_id)

    def _lost_errors(self, messages: Sequence[MessageAction]) -> Sequence[Event]:
        """Return an entry of the log for each message that is not answered, and why."""
        text = SENTENCES[Reason.TURN_LOST]
        causes = [one.id for one in messages] or [None]
        return [
            ErrorObservation(content=text, error_id=Reason.TURN_LOST, cause=cause)
            for cause in causes
        ]

    async def _close_left(self, action: Action) -> None:
        """Answer an action that an earlier loop left open, by carrying it out where it may be twice."""
        names = {action.kind, action.name} if isinstance(action, MCPAction) else {action.kind}
        if names & (self._agent.may_repeat | self.runtime.may_repeat):
            seconds = action.timeout or self._settings.action_timeout_seconds
            try:
                async with asyncio.timeout(seconds):
                    found = await self.runtime.perform(action)
                answer = found.model_copy(update={"cause": action.id, "turn": action.turn})
            except TimeoutError:
                text = f"The action did not finish within {seconds:g} seconds and was given up."
                answer = ErrorObservation(content=text, cause=action.id, turn=action.turn)
        else:
            text = NOT_EXECUTED.format(why="was restarted")
            answer = ErrorObservation(
                content=text, error_id=STOPPED_ID, cause=action.id, turn=action.turn
            )
        self._record.tell(answer, EventSource.AGENT)

    async def _messages_since(self, first_id: int, until: int) -> list[MessageAction]:
        """User messages from one id to another, both included, that nothing has taken up yet."""
        found: list[MessageAction] = []
        async for stored in self._stream.search_events(first_id, max(until, 0)):
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
                    await self._halt("failed")
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
                await self._on_command(event)
        elif (
            self._stepwise
            and isinstance(event, Action | Observation)
            and (event.source == EventSource.AGENT or is_marker(event))
        ):
            self._agent.observe(event)

    async def _on_message(self, message: MessageAction) -> None:
        turn = self._turn
        if turn is None and self.state is AgentState.AWAITING_USER_CONFIRMATION:
            self._withdraw_questions(ANSWERED_BY_MESSAGE)
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
            turn = self._new_turn(messages, attempt)
            recalled = self._recall(messages[0], None)
            self._start(turn)
            turn_id = await self._recalled(recalled)
            others = [self._recall(one, turn_id) for one in messages[1:]]
            turn.begin(turn_id)
            for other in others:
                await self._recalled(other)

    async def _observe_message(self, message: MessageAction, attempt: int) -> None:
        fresh = self._turn is None
        turn = self._turn or self._new_turn([message], attempt)
        recalled = self._recall(message, None if fresh else turn.id)
        # Marked before it is observed: a message that breaks the agent must not break the next one.
        try:
            self._agent.observe(message)
        except Exception as error:  # noqa: BLE001 - it is logged, and told
            self._log_failure(f"failed at message {message.id}", error)
            await self._halt("failed")
            self._fail(error)
        else:
            turn.news_came.came = True
            if self.state is AgentState.AWAITING_USER_CONFIRMATION:
                self._withdraw(turn)
            if fresh:
                self._start(turn)
            else:
                turn.taken.append(message)
        turn_id = await self._recalled(recalled)
        if fresh:
            turn.begin(turn_id)

    async def _go_on(self, attempt: int = 1) -> None:
        """Begin a turn without a message, unless one is under way or messages wait."""
        if self._turn is not None:
            return
        if self._inbox:
            self._begin_next()
            return
        turn = self._new_turn([], attempt)
        recall = RecallAction(recall_type=RecallType.KNOWLEDGE)
        recalled = self._held.enqueue(recall, EventSource.ENVIRONMENT)
        self._start(turn)
        turn.begin((await asyncio.shield(recalled)).id)

    def _recall(self, message: MessageAction, turn_id: int | None) -> _Recalled:
        first = not self._took_up_before
        self._took_up_before = True
        kind = RecallType.WORKSPACE_CONTEXT if first else RecallType.KNOWLEDGE
        recall = RecallAction(
            recall_type=kind, query=message.content, cause=message.id, turn=turn_id
        )
        return _Recalled(kind, self._held.enqueue(recall, EventSource.USER), turn_id)

    async def _recalled(self, recalled: _Recalled) -> int:
        """Wait until a mark is durable, record its answer, and return its id."""
        appended = await asyncio.shield(recalled.appending)
        self._answer_recall(recalled, appended)
        return appended.id

    def _answer_recall(self, recalled: _Recalled, appended: Appended) -> None:
        answer = RecallObservation(
            recall_type=recalled.kind, cause=appended.id, turn=recalled.turn_id
        )
        self._record.tell(answer, EventSource.ENVIRONMENT)

    def _take_up_in_turn(self, message: MessageAction, turn_id: int) -> None:
        recalled = self._recall(message, turn_id)

        def answer(done: Future[Appended]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._answer_recall(recalled, done.result())

        recalled.appending.add_done_callback(answer)
        if self._turn is not None:
            self._turn.taken.append(message)

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
        await self._halt("stopped")
        before = self._end_turn("stopped", why=f"was {state}")
        if questions_too:
            self._withdraw_questions(NOT_EXECUTED.format(why=f"was {state}"))
        if only_this and self._inbox:
            self._begin_next(before)
        else:
            self._set_state(state, before=before)

    async def _on_decision(self, command: ChangeAgentStateAction) -> None:
        question = self._approvals.decide(command)
        turn = self._turn
        if question is None:
            logger.info("ignored command %s: nothing is open", command.agent_state)
        elif turn is not None and turn.actions.is_asked(question.id):
            decision = Decision(command.agent_state)
            if decision is Decision.REJECTED:
                turn.news_came.came = False
            self._set_state(AgentState(decision.value))
            turn.actions.decide(decision, question.id)
        else:
            self._decided.append((question, command))
            await self._settle_decided()

    async def _begin_decided(
        self, due: Sequence[Question], messages: Sequence[MessageAction]
    ) -> None:
        """Carry out what was decided while there was no loop; messages are answered after that."""
        for message in messages:
            self._inbox.put(message)
        for question in due:
            event_id = -1 if question.decided is None else question.decided.event_id
            async for stored in self._stream.search_events(event_id, event_id):
                self._decided.append((question, self._stream.unmasked(stored)))
        await self._settle_decided()

    async def _settle_decided(self) -> None:
        """Begin a turn that carries out what people decided, unless another is under way."""
        if self._turn is not None or not self._decided or self._sealed:
            return
        decided, self._decided = self._decided, []
        questions = [question for question, _ in decided]
        commands = [command for _, command in decided]
        turn = self._new_turn(commands, 1)
        recall = RecallAction(recall_type=RecallType.KNOWLEDGE, cause=commands[0].id)
        recalled = self._held.enqueue(recall, EventSource.ENVIRONMENT)
        approved = any(one.decided and one.decided.outcome == APPROVED for one in questions)
        self._set_state(AgentState.USER_CONFIRMED if approved else AgentState.USER_REJECTED)
        self._driver.begin(partial(self._settle, turn, questions, approved=approved))
        turn.begin((await asyncio.shield(recalled)).id)

    async def _settle(
        self, turn: LoggedTurn, questions: Sequence[Question], *, approved: bool
    ) -> AgentState:
        await turn.settle(questions)
        observed = all(one.id in self._observed_asking for one in questions)
        self._observed_asking.difference_update(one.id for one in questions)
        if self._approvals.open_ids:
            goes_on = False
        elif self._stepwise:
            goes_on = (observed and approved) or turn.news_came.came
        else:
            goes_on = self._agent.starts_again
        if not goes_on:
            return AgentState.AWAITING_USER_INPUT
        self._set_state(AgentState.RUNNING)
        return await turn.run(self._agent)

    def _park_soon(self) -> None:
        if self._turn is not None:
            self._spawn(self._park(self._turn))

    async def _park(self, turn: LoggedTurn) -> None:
        """End a turn that only waits for decisions: its questions stay, and the loop may go."""
        async with self._serial:
            if self._turn is not turn or not turn.only_waits or self._sealed:
                return
            if self._stepwise:
                self._observed_asking |= turn.actions.pending.keys()
            await self._halt("waiting")
            before = self._end_turn("waiting", why="waits")
            if self._inbox:
                self._begin_next(before)
            else:
                asked = self._approvals.open_ids
                self.state = AgentState.AWAITING_USER_CONFIRMATION
                self._record.tell_state(self.state, "", before, asked)

    def _at_rest(self, due: AgentState) -> AgentState:
        """Return the state of an agent that has nothing to do: that of one that waits for a person."""
        if due is AgentState.AWAITING_USER_INPUT and self._approvals.open_ids:
            return AgentState.AWAITING_USER_CONFIRMATION
        return due

    def _withdraw(self, turn: LoggedTurn) -> None:
        """Close what a person was asked: there is a message in the place of an answer."""
        turn.actions.withdraw(ANSWERED_BY_MESSAGE, STOPPED_ID)
        self._withdraw_questions(ANSWERED_BY_MESSAGE)
        self._set_state(AgentState.RUNNING)

    def _withdraw_questions(self, text: str) -> None:
        """Answer the actions about which turns that have ended asked, with an error."""
        for question in self._approvals.undecided():
            if self._turn is None or not self._turn.actions.is_asked(question.id):
                told = ErrorObservation(
                    content=text,
                    error_id=STOPPED_ID,
                    cause=question.id,
                    turn=question.action.turn,
                )
                self._record.tell(told, EventSource.AGENT)
                self._approvals.end(question.id)

    def _new_turn(self, cause: Sequence[Event], attempt: int) -> LoggedTurn:
        def expired(reason: Reason) -> None:
            self._spawn(self._expire(turn, reason))

        turn = LoggedTurn(self._context, cause, self._inbox, expired, attempt=attempt)
        self._turn = turn
        return turn

    def _start(self, turn: LoggedTurn) -> None:
        if self.state is AgentState.ERROR:
            self._ledger.raise_limits()
        self._set_state(AgentState.RUNNING)
        self._driver.begin(partial(turn.run, self._agent))

    async def _halt(self, outcome: str) -> None:
        if self._turn is not None:
            self._turn.is_ending(CUT_WORDS.get(outcome, Interruption.FAILED))
        await self._driver.halt()

    def _end_turn(
        self,
        outcome: str,
        *,
        why: str,
        reason: str = "",
        error_id: str = STOPPED_ID,
        open_from: int | None = None,
    ) -> Sequence[Event]:
        """Seal the turn under way, and return the events that record its end."""
        turn, self._turn = self._turn, None
        if turn is None:
            return ()
        turn.is_ending(CUT_WORDS.get(outcome, Interruption.FAILED))
        turn.seal()
        stay = outcome == "waiting"
        turn.actions.close(NOT_EXECUTED.format(why=why), error_id, questions_stay=stay)
        waiting = self._inbox.first_id()
        if open_from is None:
            open_from = self._seen + 1 if waiting is None else waiting
        ended = TurnEndedObservation(
            outcome=outcome,
            reason=reason,
            open_from=open_from,
            llm_metrics=self._ledger.take_metrics(),
        )
        if turn.begun.done():
            return (ended.model_copy(update={"turn": turn.id}),)
        turn.begun.add_done_callback(partial(self._tell_ended, ended))
        return ()

    def _tell_ended(self, ended: TurnEndedObservation, begun: "Future[int]") -> None:
        if not begun.cancelled():
            named = ended.model_copy(update={"turn": begun.result()})
            self._record.tell(named, EventSource.ENVIRONMENT)

    def _close_turn(self, *, waits: bool) -> Sequence[Event]:
        """End the turn under way because the loop is closed, `waits` while a person is waited for."""
        turn = self._turn
        why = "was stopped"
        if turn is None:
            return ()
        if waits:
            return self._end_turn("waiting", why=why)
        if self.stopped_by_user:
            return self._end_turn("stopped", why=why)
        first = min((_id(one) for one in turn.taken), default=None)
        if self._may_begin_again(turn.attempt):
            return self._end_turn(INTERRUPTED, why=why, open_from=first)
        told = self._lost_errors(turn.taken)
        return (*told, *self._end_turn(INTERRUPTED, why=why, reason=Reason.TURN_LOST))

    def _turn_done(self, due: AgentState) -> None:
        before = self._end_turn("done", why="has ended its turn")
        if self._inbox or self._decided:
            self._begin_next(before)
        else:
            self._set_state(self._at_rest(due), before=before)

    def _turn_failed(self, error: BaseException) -> None:
        if isinstance(error, RateLimited) and not error.exhausted:
            before = self._end_turn("failed", why="failed", reason=RATE_LIMIT_ID)
            text = text_of(error)
            limited = Failure(text, text, RATE_LIMIT_ID)
            self._set_state(AgentState.RATE_LIMITED, limited, before)
        elif isinstance(error, LimitReached | RateLimited):
            self._end_by(failure_of(error), outcome_of(error))
        else:
            self._log_failure("failed", error)
            self._fail(error)
            return
        if self._inbox:
            self._begin_next()

    def _begin_next(self, before: Sequence[Event] = ()) -> None:
        """Begin another turn with the messages that wait."""
        for event in before:
            self._record.tell(event, EventSource.ENVIRONMENT)
        if self.state is AgentState.ERROR:
            self._ledger.raise_limits()
        self._set_state(AgentState.RUNNING)
        self._spawn(self._take_up_waiting())

    async def _take_up_waiting(self) -> None:
        async with self._serial:
            if self._sealed or self._turn is not None or self.state is not AgentState.RUNNING:
                return
            if self._decided:
                await self._settle_decided()
                return
            messages = self._inbox.take()
            unheld, self._inbox.unheld_from = self._inbox.unheld_from, None
            if unheld is not None:
                for message in await self._messages_since(unheld, self._seen):
                    self._inbox.put(message)
            await self._take_up(messages or self._inbox.take())

    async def _expire(self, turn: LoggedTurn, reason: Reason) -> None:
        async with self._serial:
            if self._turn is turn:
                await self._halt("timed_out")
                failure = failure_for(reason)
                self._end_by(failure, "timed_out")
                self._show(failure.text)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            logger.exception("the agent loop of %s failed", self._stream.conversation_id)
            await self._halt("failed")
            self._fail(error)

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
            self._set_state(AgentState.STOPPED, before=self._end_turn("stopped", why="was stopped"))
            return
        failure = failure_of(error)
        self._end_by(failure, outcome_of(error))
        self._show(failure.text)
        if self._inbox and not self._sealed:
            self._begin_next()

    def _end_by(self, failure: Failure, outcome: str) -> None:
        """End the turn under way, if there is one, in the state `error`."""
        shown = failure._replace(reason=self._shown(failure.reason), text=self._shown(failure.text))
        before = self._end_turn(outcome, why="failed", reason=shown.reason, error_id=FAILED_ID)
        if self.state is AgentState.ERROR:
            for event in (*before, _error_of(shown)):
                self._record.tell(event, EventSource.ENVIRONMENT)
        else:
            self._set_state(AgentState.ERROR, shown, before)

    def _show(self, text: str) -> None:
        try:
            self._on_error(self._shown(text))
        except Exception:
            logger.exception(
                "cannot report an error of %s to its clients", self._stream.conversation_id
            )

    def _log_failure(self, what: str, error: BaseException) -> None:
        # The texts of others' exceptions may quote content or keys: the log leaves them out.
        logger.error("the agent of %s %s", self._stream.conversation_id, what, exc_info=error)

    def _set_state(
        self, state: AgentState, failure: Failure | None = None, before: Sequence[Event] = ()
    ) -> None:
        if state is self.state:
            for event in before:
                self._record.tell(event, EventSource.ENVIRONMENT)
            return
        self.state = state
        reason = ""
        if failure is not None and state in TROUBLED:
            reason = self._shown(failure.reason)
            said = failure._replace(text=self._shown(failure.text) or reason)
            before = (*before, _error_of(said))
        self._record.tell_state(state, reason, before, self._approvals.open_ids)
        if self.working:
            self._rest_told = False

    def _shown(self, text: str) -> str:
        # Masked before it is cut: no half of a secret may be left.
        text = self._stream.masked(text)
        return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."

    def _command(self, state: AgentState) -> None:
        self._record.tell(ChangeAgentStateAction(agent_state=state), EventSource.ENVIRONMENT)


def _error_of(failure: Failure) -> ErrorObservation:
    """Return the entry of the log that says why the agent does not go on."""
    return ErrorObservation(content=failure.text, error_id=failure.error_id)


def _id(message: MessageAction) -> int:
    return -1 if message.id is None else message.id
