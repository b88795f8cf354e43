"""Decisions of people about actions whose turns have ended: a turn of their own carries them out."""

from asyncio import shield
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from events.event import AgentState, Event, EventSource
from events.observations import ErrorObservation
from events.stream import EventStream
from server.agent.askers import messages_of
from server.agent.contained import ContainedAgent
from server.agent.driver import AgentDriver
from server.agent.journal import LoopJournal
from server.agent.recalls import Recalls
from server.agent.recovery import Recovery, lost_errors
from server.turns.actions import STOPPED_ID
from server.turns.approvals import Approvals, Question
from server.turns.turn import LoggedTurn

Decided = tuple[Question, Event]
"""A question, and the command that decided it."""
NO_TURN = -1
"""In the place of the turn that asked where the log does not name it."""
ASKER_OVER = (
    "The agent's turn had ended before this was decided. What was approved is done; the agent does"
    " not go on by itself."
)


class Decisions:
    """Decisions that wait for a turn, and the questions that no turn waits for.

    The agent goes on after what was carried out if it `resumes`, or if it observes events and was
    there when the action was asked about. Otherwise the messages that led to the question are told
    that nothing more follows.
    """

    def __init__(
        self,
        driver: AgentDriver,
        agent: ContainedAgent,
        approvals: Approvals,
        recalls: Recalls,
        journal: LoopJournal,
        recovery: Recovery,
        stream: EventStream,
        *,
        stepwise: bool,
    ) -> None:
        self._driver = driver
        self._agent = agent
        self._approvals = approvals
        self._recalls = recalls
        self._journal = journal
        self._recovery = recovery
        self._stream = stream
        self._stepwise = stepwise
        self._waiting: list[Decided] = []
        self._begun: list[Decided] = []
        """Those that the turn begun last is to carry out and has not come to."""
        self._observed_asking: set[int] = set()
        """Questions of turns that have ended, whose asker still observes what comes of them."""

    def __bool__(self) -> bool:
        """Whether another turn has something to carry out, when none is under way."""
        return bool(self._waiting or self._begun)

    def put(self, question: Question, command: Event) -> None:
        """Add a decision that no turn waits for."""
        self._waiting.append((question, command))

    async def read(self, due: Sequence[Question]) -> None:
        """Add the decisions of questions, from the log. Raises what the storage raises."""
        for question in due:
            event_id = -1 if question.decided is None else question.decided.event_id
            command = await self.command(event_id)
            if command is not None:
                self.put(question, command)

    async def command(self, event_id: int) -> Event | None:
        """Return an event of the log, None if it has none of that id. Raises what the storage raises."""
        found = self._stream.search_events(event_id, event_id)
        return next(iter([self._stream.unmasked(stored) async for stored in found]), None)

    async def begin_turn(self) -> None:
        """Begin a turn that carries out all that waits; none may be under way."""
        self._begun += self._waiting
        self._waiting = []
        commands = [command for _, command in self._begun]
        turn = self._driver.new_turn(commands)
        recalled = self._recalls.without_message(commands[0].id)
        approved = any(question.is_approved for question, _ in self._begun)
        self._journal.set_state(AgentState.USER_CONFIRMED if approved else AgentState.USER_REJECTED)
        turn.begins_with(recalled)
        self._driver.begin(partial(self._carry_out, turn, approved=approved))
        await shield(recalled)

    async def begin_again(
        self, command: Event, attempt: int, asked_for: Mapping[int, Sequence[int]]
    ) -> None:
        """Begin a turn in which the agent goes on after what an earlier one had carried out.

        `asked_for` names the turns that asked for it, each with the messages it works on.
        """
        turn = self._driver.new_turn([command], attempt)
        turn.asked_for = asked_for
        recalled = self._recalls.without_message(command.id)
        turn.begins_with(recalled)
        self._driver.start(turn)
        await shield(recalled)

    def observes(self, asked: Iterable[int]) -> None:
        """Note questions of a turn that ends, whose asker observes what comes of them."""
        if self._stepwise:
            self._observed_asking.update(asked)

    def withdraw(self, text: str) -> None:
        """Answer the actions about which turns that have ended asked, with an error."""
        turn = self._driver.turn
        for question in self._approvals.undecided():
            if turn is None or not turn.actions.is_asked(question.id):
                self._answer(question, text)

    def give_up(self, text: str, *, waiting_too: bool = False) -> None:
        """Answer the actions that a turn which was stopped had not come to, with an error.

        With `waiting_too`, those that wait for a turn as well.
        """
        begun, self._begun = self._begun, []
        if waiting_too:
            begun += self._waiting
            self._waiting = []
        for question, _ in begun:
            self._answer(question, text)

    def _answer(self, question: Question, text: str) -> None:
        told = ErrorObservation(
            content=text, error_id=STOPPED_ID, cause=question.id, turn=question.action.turn
        )
        self._journal.tell(told, EventSource.AGENT)
        self._approvals.end(question.id)

    async def _carry_out(self, turn: LoggedTurn, *, approved: bool) -> AgentState:
        questions = [question for question, _ in self._begun]
        if not self._recovery.may_begin_again(turn.attempt):
            turn.asked_for = await self._askers(questions)
        while self._begun:
            question, _ = self._begun.pop(0)
            await turn.settle(question)
        observed = all(one.id in self._observed_asking for one in questions)
        self._observed_asking.difference_update(one.id for one in questions)
        if self._stepwise:
            resumes = observed and approved
            goes_on = resumes or turn.news_came.came
        else:
            resumes = goes_on = self._agent.starts_again
        if goes_on and not self._approvals.open_ids:
            self._journal.set_state(AgentState.RUNNING)
            return await turn.run(self._agent)
        if approved and not resumes:
            for told in lost_errors(turn.unanswered, ASKER_OVER):
                self._journal.tell(told, EventSource.ENVIRONMENT)
        return AgentState.AWAITING_USER_INPUT

    async def _askers(self, questions: Sequence[Question]) -> Mapping[int, Sequence[int | None]]:
        found: dict[int, Sequence[int | None]] = {}
        for question in questions:
            asker = question.action.turn
            if asker is None:
                found[NO_TURN] = [None]
            elif asker not in found:
                found[asker] = await messages_of(self._stream, asker)
        return found
