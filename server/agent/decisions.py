"""Decisions of people about actions whose turns have ended: a turn of their own carries them out."""

from asyncio import shield
from collections.abc import Iterable, Sequence
from functools import partial

from events.event import AgentState, Event, EventSource
from events.observations import ErrorObservation
from events.stream import EventStream
from server.agent.contained import ContainedAgent
from server.agent.driver import AgentDriver
from server.agent.journal import LoopJournal
from server.agent.recalls import Recalls
from server.turns.actions import STOPPED_ID
from server.turns.approvals import Approvals, Question
from server.turns.turn import LoggedTurn

Decided = tuple[Question, Event]
"""A question, and the command that decided it."""


class Decisions:
    """Decisions that wait for a turn, and the questions that no turn waits for.

    The agent goes on after what was carried out if it `resumes`, or if it observes events and was
    there when the action was asked about.
    """

    def __init__(
        self,
        driver: AgentDriver,
        agent: ContainedAgent,
        approvals: Approvals,
        recalls: Recalls,
        journal: LoopJournal,
        *,
        stepwise: bool,
    ) -> None:
        self._driver = driver
        self._agent = agent
        self._approvals = approvals
        self._recalls = recalls
        self._journal = journal
        self._stepwise = stepwise
        self._waiting: list[Decided] = []
        self._observed_asking: set[int] = set()
        """Questions of turns that have ended, whose asker still observes what comes of them."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, question: Question, command: Event) -> None:
        """Add a decision that no turn waits for."""
        self._waiting.append((question, command))

    async def read(self, stream: EventStream, due: Sequence[Question]) -> None:
        """Add the decisions of questions, from the log. Raises what the storage raises."""
        for question in due:
            event_id = -1 if question.decided is None else question.decided.event_id
            async for stored in stream.search_events(event_id, event_id):
                self.put(question, stream.unmasked(stored))

    async def begin_turn(self) -> None:
        """Begin a turn that carries out all that waits; none may be under way."""
        decided, self._waiting = self._waiting, []
        questions = [question for question, _ in decided]
        commands = [command for _, command in decided]
        turn = self._driver.new_turn(commands)
        recalled = self._recalls.without_message(commands[0].id)
        approved = any(one.is_approved for one in questions)
        self._journal.set_state(AgentState.USER_CONFIRMED if approved else AgentState.USER_REJECTED)
        self._driver.begin(partial(self._carry_out, turn, questions, approved=approved))
        turn.begin((await shield(recalled)).id)

    def observes(self, asked: Iterable[int]) -> None:
        """Note questions of a turn that ends, whose asker observes what comes of them."""
        if self._stepwise:
            self._observed_asking.update(asked)

    def withdraw(self, text: str) -> None:
        """Answer the actions about which turns that have ended asked, with an error."""
        turn = self._driver.turn
        for question in self._approvals.undecided():
            if turn is None or not turn.actions.is_asked(question.id):
                told = ErrorObservation(
                    content=text,
                    error_id=STOPPED_ID,
                    cause=question.id,
                    turn=question.action.turn,
                )
                self._journal.tell(told, EventSource.AGENT)
                self._approvals.end(question.id)

    async def _carry_out(
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
        self._journal.set_state(AgentState.RUNNING)
        return await turn.run(self._agent)
