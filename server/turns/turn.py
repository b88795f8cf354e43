"""LoggedTurn, the Turn of an agent in this process: everything it does is an event of the log."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from itertools import chain
from typing import Any

from pydantic import SecretStr

from events.actions import Action, MessageAction
from events.batch import Appended
from events.event import AgentState, Event, Interruption
from events.observations import Observation
from runtime_stub.agent import Agent
from runtime_stub.questions import fault_in, plain_schema
from runtime_stub.tools import JsonSchema, Tool, copied, tools_for
from runtime_stub.turn import (
    AgentSettings,
    Doing,
    Draft,
    History,
    Reason,
    SecretMissing,
    Stepwise,
    TextKind,
    ToolCall,
    Turn,
    TurnOver,
    Usage,
    Writing,
    called,
    check_memory,
)
from server.turns.actions import Actions, LoggedDoing
from server.turns.approvals import Question
from server.turns.context import TurnContext
from server.turns.history import LoggedHistory
from server.turns.inbox import Inbox
from server.turns.limits import Clocks
from server.turns.memory import Remembered
from server.turns.writing import LoggedDraft, LoggedWriting
from server.user_code import outside

ENDS = frozenset((AgentState.AWAITING_USER_INPUT, AgentState.FINISHED, AgentState.REJECTED))
"""States an action may cause by itself, which a recording skips."""


class News:
    """Whether something was observed since the agent was asked last."""

    came = False


async def step_through(
    agent: Agent, context: TurnContext, actions: Actions, clocks: Clocks, news: News
) -> AgentState:
    """Ask the agent for actions until it waits or ends; the state that is then due.

    Raises what the agent raises, LimitReached, BudgetReached, TurnOver.
    """
    actions.metrics = agent.metrics
    while True:
        await context.level()
        context.ledger.check()
        news.came = False
        clocks.touch()
        action = await context.step(agent, context.held.conversation_id)
        if action is None:
            if news.came:
                continue
            return AgentState.AWAITING_USER_INPUT
        context.ledger.count()
        due = (await actions.carry_out(action)).due
        if due is AgentState.AWAITING_USER_INPUT and news.came:
            actions.go_on()
            continue
        if due in ENDS and agent.goes_on:
            continue
        if due is not None:
            return due


logger = logging.getLogger(__name__)


class LoggedTurn(Turn):
    """One stretch of work of one agent.

    It is made when its cause is known and works once its `recall` has named it; `seal` ends it: from
    then on its methods raise TurnOver and nothing of it changes anything. What its clocks say is
    told to `expired`.
    """

    def __init__(
        self,
        context: TurnContext,
        cause: Sequence[Event],
        inbox: Inbox,
        expired: Callable[[Reason], None],
        *,
        attempt: int = 1,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.begun: Future[int] = loop.create_future()
        """The id of the turn, once the `recall` that begins it is durable."""
        self.recall: Future[Appended] | None = None
        """The append of that `recall`, once it is under way."""
        self.news_came = News()
        self.due: AgentState | None = None
        """The state in which the agent's last action ends the work."""
        self.taken: list[MessageAction] = [one for one in cause if isinstance(one, MessageAction)]
        """The messages that it has taken up."""
        self.asked_for: Mapping[int, Sequence[int | None]] = {}
        """The turns that asked for what it carries out, each with the messages it works on, by their ids."""
        self._context = context
        self._cause = tuple(cause)
        self._attempt = attempt
        self._inbox = inbox
        self._loop = loop
        self._clocks = Clocks(
            loop, context.limits.turn_seconds, context.limits.quiet_seconds, expired
        )
        self.actions = Actions(context, loop, self._clocks, self.begun.result)
        self._settings = AgentSettings()
        self._more_tools: Sequence[Tool] = ()
        self._offered: AbstractSet[str] = frozenset()
        self._tools: Sequence[Tool] | None = None
        self._remembered = Remembered()
        self._known: int | None = None
        self._over = False
        self._ending = Interruption.FAILED
        self._writings: dict[LoggedWriting, None] = {}
        self._drafts: dict[LoggedDraft, None] = {}
        self._answer: Future[MessageAction] | None = None

    @property
    def id(self) -> int:
        """See Turn."""
        return self.begun.result()

    @property
    def conversation_id(self) -> str:
        """See Turn."""
        return self._context.held.stream.conversation_id

    @property
    def user_id(self) -> str | None:
        """See Turn."""
        return self._context.user.user_id

    @property
    def cause(self) -> Sequence[Event]:
        """See Turn."""
        return self._cause

    @property
    def attempt(self) -> int:
        """See Turn."""
        return self._attempt

    @property
    def settings(self) -> AgentSettings:
        """See Turn."""
        return self._settings

    @property
    def tools(self) -> Sequence[Tool]:
        """See Turn."""
        offered = self._context.offered()
        if self._tools is None or self._offered != offered:
            self._offered = offered
            self._tools = (*tools_for(offered), *map(copied, self._more_tools))
        return [*self._tools]

    @property
    def history(self) -> History:
        """See Turn."""
        known = self.id if self._known is None else self._known
        return LoggedHistory(self._context.held.stream, known)

    @property
    def memory(self) -> bytes | None:
        """See Turn."""
        return self._remembered.memory

    @property
    def memory_position(self) -> int:
        """See Turn."""
        return self._remembered.position

    @property
    def deadline(self) -> float:
        """See Turn."""
        return self._clocks.deadline

    @property
    def asks(self) -> bool:
        """Whether the agent waits for the answer to a question of its own."""
        return self._answer is not None

    @property
    def unanswered(self) -> Sequence[int | None]:
        """The messages to which nothing more is said if it ends now, by their ids.

        None stands for the command to go on. Those of a turn that asked are among them once all that
        it asked about is settled.
        """
        if not self._cause and not self.taken:
            return [None]
        approvals = self._context.approvals
        settled = [one for asker, one in self.asked_for.items() if not approvals.of_turn(asker)]
        return [*chain.from_iterable(settled), *(one.id for one in self.taken)]

    @property
    def only_waits(self) -> bool:
        """Whether it waits for decisions of people, and for nothing else."""
        return self.actions.only_waits and not self._writings

    def begins_with(self, recall: "Future[Appended]") -> None:
        """Name the turn by its `recall` as soon as that is durable, whoever still waits for it."""

        def begin(done: "Future[Appended]") -> None:
            if not done.cancelled() and done.exception() is None:
                self.begun.set_result(done.result().id)

        self.recall = recall
        recall.add_done_callback(begin)

    async def run(self, agent: Agent) -> AgentState:
        """Have the agent work; the state that is then due. Raises what the agent raises."""
        await asyncio.shield(self.begun)
        if agent.stepwise:
            return await self._stepped(agent)
        self._settings = await self._context.user.settings()
        self._more_tools = await self._context.more_tools(self._settings)
        self._remembered = await self._context.memory.load(self.conversation_id)
        await agent.run(self)
        if self._writings:
            logger.error("the agent of %s left a text unfinished", self.conversation_id)
        return self.due or AgentState.AWAITING_USER_INPUT

    async def settle(self, question: Question) -> None:
        """Do what a person decided about an action that an earlier turn had asked about.

        What comes of it is in the history. Raises TurnOver and what the runtime raises.
        """
        await asyncio.shield(self.begun)
        await self.actions.settle(question)
        self._clocks.touch()
        self._known = self._context.held.stream.next_id - 1

    def told(self, message: MessageAction) -> bool:
        """Give the turn a message of its user; whether it took it up as the answer to a question."""
        if self._answer is None or self._answer.done():
            return False
        self._answer.set_result(message)
        return True

    def is_ending(self, why: Interruption) -> None:
        """Say why texts are cut short from now on: the agent is about to be cancelled."""
        self._ending = why
        self.actions.ending = True
        for writing in self._writings:
            writing.ending = why

    def seal(self) -> None:
        """End the turn: nothing it does has an effect any more."""
        if self._over:
            return
        self._clocks.stop()
        for writing in list(self._writings):
            try:
                writing.cut(self._ending)
            except Exception:
                # It is no event, and was taken back: the turn ends all the same.
                logger.exception("cannot append a text of %s", self.conversation_id)
        for draft in list(self._drafts):
            draft.drop()
        self._over = True
        answer = self._answer
        if answer is not None and not self._put_back(answer) and not answer.done():
            answer.set_exception(TurnOver())
            answer.exception()  # nobody may wait for it any more
        self._answer = None

    def say(self, *, kind: TextKind = "message") -> Writing:
        """See Turn."""
        self.check()
        written = LoggedWriting(self._writings, self._context, self.actions, self._clocks, kind)
        written.ending = self._ending
        return written

    def draft(self, kind: str, field: str) -> Draft:
        """See Turn."""
        with outside():
            self.check()
            shared = (self._drafts, self._context, self.actions, self._clocks)
            return LoggedDraft(*shared, kind, field)

    async def act(
        self, action: Action, *, call: ToolCall | None = None, draft: Draft | None = None
    ) -> Observation:
        """See Turn."""
        with outside():
            self.count()
            written = draft.taken(action) if isinstance(draft, LoggedDraft) else None
            carried = await self.actions.carry_out(called(action, call), written)
            self.check()
            self._clocks.touch()
            if carried.due is AgentState.AWAITING_USER_INPUT:
                self.actions.go_on()
            elif carried.due is not None:
                self.due = carried.due
            return carried.observation

    def doing(self, action: Action, *, call: ToolCall | None = None) -> Doing:
        """See Turn."""
        self.check()
        return LoggedDoing(self.count, self.actions, self._clocks, called(action, call))

    async def ask(self, question: str, *, schema: JsonSchema | None = None) -> MessageAction:
        """See Turn."""
        held_to = None if schema is None else plain_schema(schema)
        answer = await self._ask(question, held_to)
        while (wrong := fault_in(answer, held_to)) is not None:
            answer = await self._ask(f"{wrong} {question}", held_to)
        return answer

    async def _ask(self, question: str, schema: dict[str, Any] | None) -> MessageAction:
        with outside():
            self.check()
            if self._answer is not None:
                raise RuntimeError("the agent asks already")
            asked = self.actions.record(
                MessageAction(content=question, wait_for_response=True, answer_schema=schema)
            )
            told: Future[MessageAction] = self._loop.create_future()
            self._answer = told
            try:
                await asyncio.shield(asked)
                self.check()
                self._context.announce(AgentState.AWAITING_USER_INPUT)
                with self._clocks.held():
                    answer = await told
                self.check()
                self._take_up(answer)
                self._context.announce(AgentState.RUNNING)
            except asyncio.CancelledError:
                if not self._over:
                    self._put_back(told)
                    if not self.actions.ending:
                        self.actions.go_on()
                raise
            finally:
                if self._answer is told:
                    self._answer = None
            return answer

    def news(self) -> Sequence[MessageAction]:
        """See Turn."""
        with outside():
            self.check()
            taken = self._inbox.messages()
            for message in taken:
                self._take_up(message)
                self._inbox.remove(message)
            return taken

    def report(self, usage: Usage) -> None:
        """See Turn."""
        self.check()
        self._clocks.touch()
        self._context.ledger.report(usage)
        self._context.ledger.check()

    def status(self, text: str) -> None:
        """See Turn."""
        with outside():
            self.check()
            self._clocks.touch()
            self._context.notify(self._context.held.stream.masked(text))

    async def secret(self, name: str) -> SecretStr:
        """See Turn."""
        with outside():
            self.check()
            found = await self._context.user.secret(name)
            self.check()
        if found is None:
            raise SecretMissing(name)
        return found

    async def keep(self, memory: bytes) -> None:
        """See Turn."""
        check_memory(memory)
        with outside():
            self.check()
            position = self._context.held.stream.next_id - 1
            await self._context.memory.keep(self.conversation_id, Remembered(memory, position))
            self._clocks.touch()

    async def in_thread(self, work: Callable[[], None]) -> None:
        """See Turn."""
        self.check()
        name = f"agent of {self.conversation_id}"
        with outside():
            await self._context.threads.run(work, name, self._tell_that_it_waits)

    async def drive(self, agent: Stepwise) -> None:
        """See Turn."""
        if not isinstance(agent, Agent):
            raise TypeError("only an Agent can be driven")
        self.due = await self._stepped(agent)

    def check(self) -> None:
        """Raise TurnOver once the turn is over, and RuntimeError in another thread."""
        if self._over:
            raise TurnOver
        self.actions.check_thread()

    def count(self) -> None:
        """Count an iteration. Raises TurnOver, LimitReached, BudgetReached."""
        self.check()
        self._context.ledger.check()
        self._context.ledger.count()
        self._clocks.touch()

    def _take_up(self, message: MessageAction) -> None:
        self._context.take_up(message, self.id)
        self.taken.append(message)

    def _put_back(self, told: "Future[MessageAction]") -> bool:
        """Have an answer that nobody has taken up wait like any message; whether there is one."""
        if not told.done() or told.cancelled():
            return False
        self._inbox.put_back(told.result())
        return True

    def _tell_that_it_waits(self) -> None:
        self.status("Waiting until another agent is done.")

    async def _stepped(self, agent: Agent) -> AgentState:
        return await step_through(agent, self._context, self.actions, self._clocks, self.news_came)
