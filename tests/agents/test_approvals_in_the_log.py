"""A later process reads of approvals in the log what the process knew that wrote it."""

import asyncio

import orjson
from hypothesis import given, strategies as st

from events.actions import ChangeAgentStateAction, CmdRunAction, IPythonRunCellAction
from events.event import AgentState, ConfirmationState, EventSource
from events.observations import AgentStateChangedObservation, ErrorObservation
from events.stores.memory import MemoryEventStore
from server.turns.actions import decided_form
from server.turns.approvals import APPROVED, Approvals
from server.turns.expiry import Expiry, posix_of
from tests.support.streams import open_stream

AGENT, USER, SERVER = EventSource.AGENT, EventSource.USER, EventSource.ENVIRONMENT
WAITING = ConfirmationState.AWAITING_CONFIRMATION
ASKED = {
    "run": CmdRunAction(command="one", confirmation_state=WAITING),
    "run_ipython": IPythonRunCellAction(code="one", confirmation_state=WAITING),
}
EDITS = {"run": {"command": "two"}, "run_ipython": {"code": "two"}}
PLACES = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(sorted(ASKED))),
        st.tuples(
            st.just("decide"),
            st.one_of(PLACES, st.none()),
            st.sampled_from(["approve", "edit", "reject"]),
            st.booleans(),
        ),
        st.tuples(st.just("carry out"), PLACES),
        st.tuples(st.just("withdraw"), PLACES),
        st.tuples(st.just("ask again"), PLACES),
        st.tuples(st.just("revoke"), st.sampled_from(sorted(ASKED))),
        st.tuples(
            st.just("state"),
            st.sampled_from(
                [AgentState.RUNNING, AgentState.STOPPED, AgentState.AWAITING_USER_INPUT]
            ),
        ),
    ),
    max_size=30,
)


def approvals(**options):
    """Approvals that expire after an hour."""
    return Approvals(None, Expiry(3600.0, lambda _: None), **options)


class Writer:
    """A process that writes a log, and what it knows of the approvals."""

    def __init__(self, stream):
        self.stream = stream
        self.known = approvals(is_read=True)
        self.asked = []

    async def take(self, step):
        """Do one step, if there is anything to do it to."""
        match step:
            case ("ask", kind):
                appended = await self.stream.append(ASKED[kind], AGENT)
                self.known.ask(ASKED[kind], appended.id)
                self.known.ask_again(appended.id, await self._moment(appended.id))
                self.asked.append(appended.id)
            case ("decide", place, decision, always) if self.known.open_ids:
                self._decide(self._open(place), decision, always=always)
            case ("carry out", place) if self._due():
                await self._carry_out(self._due()[place % len(self._due())])
            case ("withdraw", place) if self.known.open_ids:
                question_id = self._open(place)
                error = ErrorObservation(content="over", cause=question_id)
                await self.stream.append(error, AGENT)
                self.known.end(question_id)
            case ("ask again", place) if self.known.open_ids:
                question_id = self._open(place)
                command = self._command(AgentState.AWAITING_USER_CONFIRMATION, of=question_id)
                appended = await self.stream.append(command, USER)
                self.known.ask_again(question_id, await self._moment(appended.id))
            case ("revoke", kind):
                command = self._command(AgentState.AWAITING_USER_CONFIRMATION, always=kind)
                self.stream.enqueue(command, USER)
                self.known.revoke(kind)
            case ("state", state):
                # Not waited for: what is decided meanwhile stands before it or behind it.
                fact = AgentStateChangedObservation(agent_state=state)
                self.stream.enqueue(self.known.named_in(fact), SERVER)

    async def end(self):
        """Wait until everything is durable."""
        working = AgentStateChangedObservation(agent_state=AgentState.RUNNING)
        await self.stream.append(self.known.named_in(working), SERVER)

    def _decide(self, question_id, decision, *, always):
        """Decide a question, or, named by none, the newest."""
        newest = self.known.open_ids[-1]
        kind = self.known.get(newest if question_id is None else question_id).action.kind
        state = AgentState.USER_REJECTED
        more = {}
        if decision != "reject":
            state = AgentState.USER_CONFIRMED
            more = {"always": kind} if always else {}
        if decision == "edit":
            more["edit"] = EDITS[kind]
        named = {} if question_id is None else {"of": question_id}
        command = self._command(state, **named, **more)
        claim = self.known.claim(command, None, lambda _: None)
        self.stream.submit(command, USER, claim)

    async def _carry_out(self, question):
        approved = question.decided.outcome == APPROVED
        state = ConfirmationState.CONFIRMED if approved else ConfirmationState.REJECTED
        await self.stream.append(decided_form(question.agreed, state, question.id), AGENT)
        self.known.end(question.id)

    def _command(self, state, **arguments):
        return ChangeAgentStateAction(agent_state=state, **arguments)

    def _open(self, place):
        if place is None:
            return None
        return self.known.open_ids[place % len(self.known.open_ids)]

    def _due(self):
        return self.known.due(self.stream.next_id)

    async def _moment(self, event_id):
        (stored,) = [one async for one in self.stream.search_events(event_id, event_id)]
        return posix_of(orjson.loads(stored.body)["timestamp"])


def told(known, asked):
    """All that can be known of some questions."""
    questions = {one: known.get(one) for one in asked}
    return {
        "open": known.open_ids,
        "due": [question.id for question in known.due(10_000)],
        "allowed": known.allowed,
        "decided": {
            one: (
                question.decided.outcome,
                question.decided.edit,
                question.agreed.model_dump(include={"command", "code", "edited_by"}),
            )
            for one, question in questions.items()
            if question is not None and question.decided is not None
        },
        "expires": {
            one: known.expires_at(one)
            for one, question in questions.items()
            if question is not None
        },
    }


@given(STEPS)
def test_what_is_read_is_what_was_known(steps):
    async def run():
        stream = await open_stream(MemoryEventStore())
        await stream.append(AgentStateChangedObservation(agent_state=AgentState.LOADING), SERVER)
        writer = Writer(stream)
        for step in steps:
            await writer.take(step)
        await writer.end()
        later = approvals()
        await later.read(stream)
        found = told(later, writer.asked), told(writer.known, writer.asked)
        for one in (later, writer.known):
            one.close()
        await stream.close()
        return found

    read, known = asyncio.run(run())

    assert read == known
