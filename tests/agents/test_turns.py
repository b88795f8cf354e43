"""Turns of agents that override `run`: what they append, what bounds them, how they end."""

import asyncio
import contextlib

import pytest

from events.actions import (
    AgentFinishAction,
    CmdRunAction,
    MCPAction,
    RecallAction,
)
from events.event import AgentState, EventSource
from events.observations import CmdOutputObservation, ErrorObservation, UserRejectObservation
from runtime_stub.agent import Agent
from runtime_stub.stub import StubRuntime
from runtime_stub.turn import (
    LimitReached,
    Reason,
    SecretMissing,
    ToolCall,
    TurnFailed,
    TurnOver,
    Usage,
    Window,
)
from tests.support.loops import Running
from tests.support.turn_agents import Does, write

AWAITING = AgentState.AWAITING_USER_INPUT


async def test_what_is_written_is_one_event_of_the_turn_that_ends_behind_it():
    async def work(turn):
        async with turn.say() as answer:
            answer.write("Hello, ")
            answer.write("world")

    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("hi"))
        (recall,) = [
            event for event in await one.of_kind("recall") if isinstance(event, RecallAction)
        ]
        (said,) = await one.of_kind("message", EventSource.AGENT)
        (ended,) = await one.of_kind("turn_ended")

    assert said.content == "Hello, world"
    assert said.turn == ended.turn == recall.id
    assert said.partial is not None
    assert ended.outcome == "done"
    assert said.id < ended.id
    assert recall.id < ended.open_from <= ended.id


async def test_a_stop_keeps_what_was_shown_and_seals_the_turn():
    shown, let_go, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()
    after: list[type[BaseException]] = []

    async def work(turn):
        writing = turn.say()
        try:
            async with writing:
                writing.write("The beginning")
                await shown.wait()
                await asyncio.Event().wait()
        finally:
            await swallowed(let_go)
            try:
                turn.status("still here")
            except TurnOver as over:
                after.append(type(over))
            finished.set()

    async with Running(Does(work)) as one:
        one.stream.partials.tap(lambda pieces: shown.set())
        await one.say("hi")
        await shown.wait()
        await one.command(AgentState.PAUSED)
        await one.state(AgentState.PAUSED)
        let_go.set()
        await finished.wait()
        (said,) = await one.of_kind("message", EventSource.AGENT)
        (ended,) = await one.of_kind("turn_ended")

    assert (said.content, said.interrupted) == ("The beginning", "stopped")
    assert ended.outcome == "stopped"
    assert after == [TurnOver]


async def swallowed(event):
    """Wait for an event, whatever cancels that."""
    while not event.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await event.wait()


async def test_a_text_of_which_nothing_was_shown_is_no_event_when_it_is_stopped():
    begun = asyncio.Event()

    async def work(turn):
        async with turn.say():
            begun.set()
            await asyncio.Event().wait()

    async with Running(Does(work)) as one:
        await one.say("hi")
        await begun.wait()
        await one.command(AgentState.STOPPED)
        await one.state(AgentState.STOPPED)
        assert await one.of_kind("message", EventSource.AGENT) == []
        assert one.stream.partials.open == ()


async def test_a_text_that_fails_before_anything_of_it_was_shown_is_no_event():
    async def work(turn):
        async with turn.say() as answer:
            answer.write("never shown")
            raise ValueError

    async with Running(Does(work)) as one:
        await one.state(AgentState.ERROR, await one.say("hi"))
        assert await one.of_kind("message", EventSource.AGENT) == []
        assert one.stream.partials.open == ()


async def test_a_question_that_the_agent_withdraws_is_answered_and_no_decision_meets_it():
    asked = asyncio.Event()

    async def work(turn):
        task = asyncio.ensure_future(turn.act(CmdRunAction(command="pwd")))
        await asked.wait()
        task.cancel()
        await asyncio.wait([task])
        await write(turn, "I did not")

    async with Running(Does(work), confirmation_mode=True) as one:
        await one.say("hi")
        (action,) = await actions_asked(one, 1)
        asked.set()
        ended = await one.event(lambda event: event.kind == "turn_ended")
        rested = await one.state(AWAITING, ended.id)
        await one.command(AgentState.USER_CONFIRMED, of=action)
        await one.stream.flush()
        errors = await one.of_kind("error")
        states = [event.agent_state for event in await one.of_kind("agent_state_changed")]

    assert [error.cause for error in errors] == [action]
    assert states[-3:] == ["awaiting_user_confirmation", "running", "awaiting_user_input"]
    assert rested.id > ended.id


async def test_the_methods_of_a_turn_that_is_over_raise_turn_over():
    agent = Does(lambda turn: asyncio.sleep(0))
    async with Running(agent) as one:
        await one.state(AWAITING, await one.say("hi"))
        (turn,) = agent.turns
        last = one.stream.next_id
        calls = [
            lambda: turn.act(CmdRunAction(command="pwd")),
            lambda: turn.ask("Why?"),
            lambda: turn.secret("A"),
            lambda: turn.keep(b""),
            lambda: write(turn, "late"),
        ]
        for call in calls:
            with pytest.raises(TurnOver):
                await call()
        for now in (turn.news, lambda: turn.status("x"), lambda: turn.report(Usage("m"))):
            with pytest.raises(TurnOver):
                now()
        assert one.stream.next_id == last


async def test_actions_are_carried_out_side_by_side_and_each_has_its_answer():
    class Meeting(StubRuntime):
        """Answers once both actions are there."""

        def __init__(self):
            super().__init__()
            self.both = asyncio.Barrier(2)

        async def perform(self, action):
            async with self.both:
                return CmdOutputObservation(content=action.command, command=action.command)

    async def work(turn):
        call = ToolCall("call-1", "run")
        found = await asyncio.gather(
            turn.act(CmdRunAction(command="a"), call=call), turn.act(CmdRunAction(command="b"))
        )
        await write(turn, " ".join(one.content for one in found))

    async with Running(Does(work), runtime=Meeting()) as one:
        await one.state(AWAITING, await one.say("hi"))
        runs = await one.of_kind("run")
        (said,) = await one.of_kind("message", EventSource.AGENT)

    actions = [event for event in runs if not isinstance(event, CmdOutputObservation)]
    results = {event.cause: event.content for event in runs if event not in actions}
    assert [action.command for action in actions] == ["a", "b"]
    assert actions[0].tool_call_metadata["tool_call_id"] == "call-1"
    assert results == {action.id: action.command for action in actions}
    assert {event.turn for event in runs} == {said.turn}
    assert said.content == "a b"


@pytest.mark.parametrize(
    ("decision", "kind"),
    [
        (AgentState.USER_CONFIRMED, CmdOutputObservation),
        (AgentState.USER_REJECTED, UserRejectObservation),
    ],
)
async def test_an_action_waits_for_a_person_within_the_turn(decision, kind):
    found = []

    async def work(turn):
        found.append(await turn.act(CmdRunAction(command="pwd")))
        await write(turn, "after it")

    async with Running(Does(work), confirmation_mode=True) as one:
        asked = await one.state(AgentState.AWAITING_USER_CONFIRMATION, await one.say("hi"))
        await one.command(decision)
        await one.state(AWAITING, asked.id)
        (ended,) = await one.of_kind("turn_ended")

    assert isinstance(found[0], kind)
    assert ended.outcome == "done"


async def test_two_questions_are_open_at_once_and_each_decision_names_its_own():
    found = {}

    async def act(turn, name):
        found[name] = await turn.act(CmdRunAction(command=f"echo {name}"))

    async def work(turn):
        await asyncio.gather(act(turn, "a"), act(turn, "b"))

    async with Running(Does(work), confirmation_mode=True) as one:
        asked = await one.state(AgentState.AWAITING_USER_CONFIRMATION, await one.say("hi"))
        first, second = await actions_asked(one, 2)
        await one.command(AgentState.USER_REJECTED, of=first)
        again = await one.state(AgentState.AWAITING_USER_CONFIRMATION, asked.id + 1)
        await one.command(AgentState.USER_CONFIRMED, of=second)
        await one.state(AWAITING, again.id)

    assert isinstance(found["a"], UserRejectObservation)
    assert isinstance(found["b"], CmdOutputObservation)


async def actions_asked(one, number):
    """Wait for so many actions; their ids."""
    found = []

    def all_there(event):
        if event.kind == "run":
            found.append(event.id)
        return len(found) == number

    await one.event(all_there)
    return found


async def test_a_message_in_the_place_of_a_decision_withdraws_the_question_and_is_news():
    found = []

    async def work(turn):
        found.append(await turn.act(CmdRunAction(command="pwd")))
        found.extend(message.content for message in turn.news())

    async with Running(Does(work), confirmation_mode=True) as one:
        await one.state(AgentState.AWAITING_USER_CONFIRMATION, await one.say("hi"))
        said = await one.say("rather not")
        await one.state(AWAITING, said)

    assert isinstance(found[0], ErrorObservation)
    assert found[1:] == ["rather not"]


async def test_what_an_agent_does_by_itself_stands_in_the_log_with_what_came_of_it():
    async def work(turn):
        async with turn.doing(MCPAction(name="clock"), call=ToolCall("c1", "clock")) as step:
            step.result("noon")
        with contextlib.suppress(ValueError):
            async with turn.doing(CmdRunAction(command="x")):
                raise ValueError("sk-SECRET is bad")

    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("hi"))
        (called,) = await one.of_kind("call_tool_mcp")
        (answered,) = await one.of_kind("mcp")
        (failed,) = await one.of_kind("error")
        bodies = b"".join([stored.body async for stored in one.stream.search_events()])

    assert (answered.content, answered.cause) == ("noon", called.id)
    assert failed.content == "The action failed: ValueError."
    assert b"sk-SECRET" not in bodies


async def test_a_question_waits_for_the_next_message_which_the_turn_takes_up():
    async def work(turn):
        answer = await turn.ask("Which colour?")
        await write(turn, f"So {answer.content} it is")

    async with Running(Does(work)) as one:
        asked = await one.state(AWAITING, await one.say("paint"))
        said = await one.say("blue")
        await one.state(AWAITING, said)
        first, second = [
            event for event in await one.of_kind("recall") if isinstance(event, RecallAction)
        ]
        texts = await one.answers()
        (ended,) = await one.of_kind("turn_ended")

    assert asked.id < said
    assert second.turn == first.id == ended.turn
    assert second.cause == said
    assert texts == ["Which colour?", "So blue it is"]


async def test_a_message_a_turn_does_not_look_at_begins_the_next_one():
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(turn):
        begun.set()
        await go_on.wait()
        await write(turn, " ".join(one.content for one in turn.cause))

    async with Running(Does(work)) as one:
        await one.say("one")
        await begun.wait()
        await one.say("two")
        said = await one.say("three")
        await one.stream.flush()
        go_on.set()
        await one.state(AWAITING, said)
        texts = await one.answers()
        ended = await one.of_kind("turn_ended")

    assert texts == ["one", "two three"]
    assert [event.outcome for event in ended] == ["done", "done"]
    assert ended[0].open_from < said
    assert ended[1].open_from > said


async def test_a_command_to_go_on_begins_a_turn_without_a_message():
    async def work(turn):
        await write(turn, f"{len(turn.cause)} messages")

    async with Running(Does(work)) as one:
        first = await one.state(AWAITING)
        await one.command(AgentState.RUNNING)
        await one.state(AWAITING, first.id)
        (said,) = await one.of_kind("message", EventSource.AGENT)
        (recall,) = await one.of_kind("recall")

    assert said.content == "0 messages"
    assert said.turn == recall.id
    assert recall.source == EventSource.ENVIRONMENT


async def test_the_history_ends_where_the_turn_began_and_is_parted_into_exchanges():
    found = []

    async def work(turn):
        found.append(await turn.history.exchanges(Window()))
        found.append(await turn.history.exchanges(Window(exchanges=1)))
        await write(turn, "an answer")

    async with Running(Does(work)) as one:
        for text in ("one", "two"):
            await one.state(AWAITING, await one.say(text))

    texts = [[(e.asked[0].content, [d.content for d in e.done]) for e in es] for es in found]
    assert texts[0] == texts[1] == [("one", [])]
    assert texts[2] == [("one", ["an answer"]), ("two", [])]
    assert texts[3] == [("two", [])]


async def test_reports_are_added_up_and_travel_with_the_next_event():
    async def work(turn):
        turn.report(Usage("gpt", prompt_tokens=10, completion_tokens=5, cost=0.5))
        turn.report(Usage("gpt", prompt_tokens=1, completion_tokens=1, cost=0.25))
        await write(turn, "x")
        turn.report(Usage("gpt", cost=0.25))

    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("hi"))
        (said,) = await one.of_kind("message", EventSource.AGENT)
        (ended,) = await one.of_kind("turn_ended")

    assert said.llm_metrics["accumulated_cost"] == 0.75
    assert said.llm_metrics["accumulated_token_usage"]["prompt_tokens"] == 11
    assert ended.llm_metrics["accumulated_cost"] == 1.0


@pytest.mark.parametrize("how", ["act", "report"])
async def test_the_limit_of_iterations_ends_a_turn_in_words(how):
    async def work(turn):
        for _ in range(10):
            if how == "act":
                await turn.act(CmdRunAction(command="pwd"))
            else:
                turn.report(Usage("gpt"))

    async with Running(Does(work), max_iterations=3) as one:
        stopped = await one.state(AgentState.ERROR, await one.say("hi"))
        (ended,) = await one.of_kind("turn_ended")

    assert "3 steps" in stopped.reason
    assert ended.outcome == "failed"


async def test_a_budget_that_is_passed_ends_the_turn_with_an_outcome_of_its_own():
    async def work(turn):
        turn.report(Usage("gpt", cost=2.0))

    async with Running(Does(work), max_budget_per_task=1.0) as one:
        await one.state(AgentState.ERROR, await one.say("hi"))
        (ended,) = await one.of_kind("turn_ended")

    assert ended.outcome == "budget"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"quiet_seconds": 0.1}, Reason.SILENT), ({"turn_seconds": 0.1}, Reason.TIMED_OUT)],
)
async def test_a_turn_that_is_silent_or_late_is_ended_by_a_clock(limits, reason):
    async with Running(Does(lambda turn: asyncio.Event().wait()), **limits) as one:
        failed = await one.state(AgentState.ERROR, await one.say("hi"))
        (ended,) = await one.of_kind("turn_ended")

    assert failed.reason == reason
    assert (ended.outcome, ended.reason) == ("timed_out", reason)


async def test_people_read_the_text_of_turn_failed_masked_and_of_nothing_else():
    async def work(turn):
        if turn.cause[0].content == "planned":
            raise TurnFailed("The key hunter2-value is wrong.", Reason.MODEL_REFUSED_KEY)
        raise ValueError("hunter2-value")

    async with Running(Does(work)) as one:
        one.stream.update_secrets({"KEY": "hunter2-value"})
        first = await one.state(AgentState.ERROR, await one.say("planned"))
        second = await one.state(AgentState.ERROR, await one.say("else"))
        texts = [(text, error_id) for _, text, error_id in await one.errors()]

    assert first.reason == Reason.MODEL_REFUSED_KEY
    assert texts[0] == ("The key <secret_hidden> is wrong.", Reason.MODEL_REFUSED_KEY)
    assert second.reason == f"{Reason.FAILED}: ValueError"
    assert texts[1] == ("The agent failed: ValueError.", "STATUS$ERROR")


async def test_a_finish_is_the_state_in_which_the_turn_ends():
    async def work(turn):
        await turn.act(AgentFinishAction(final_thought="done"))

    async with Running(Does(work)) as one:
        await one.state(AgentState.FINISHED, await one.say("hi"))


async def test_a_secret_that_is_not_there_is_an_error_of_its_own():
    found = []

    async def work(turn):
        try:
            await turn.secret("TOKEN")
        except SecretMissing as error:
            found.append(error)

    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("hi"))

    assert len(found) == 1


async def test_what_was_kept_is_there_in_the_next_turn():
    found = []

    async def work(turn):
        found.append((turn.memory, turn.memory_position))
        await turn.keep(b"state")
        with pytest.raises(ValueError, match="may keep"):
            await turn.keep(bytes(2 * 1024 * 1024))

    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("one"))
        await one.state(AWAITING, await one.say("two"))

    assert found[0] == (None, -1)
    assert found[1][0] == b"state"
    assert found[1][1] > 0


@pytest.mark.parametrize("how", ["of", "late"])
async def test_a_stop_of_one_turn_meets_no_other(how):
    begun: asyncio.Queue[int] = asyncio.Queue()

    async def work(turn):
        begun.put_nowait(turn.id)
        if turn.cause[0].content == "hang":
            await asyncio.Event().wait()
        await write(turn, "answered")

    async with Running(Does(work)) as one:
        said = await one.say("hang" if how == "of" else "one")
        turn_id = await begun.get()
        if how == "of":
            said = await one.say("two")
            await one.stream.flush()
        else:
            await one.state(AWAITING, said)
            said = await one.say("two")
        await one.command(AgentState.STOPPED, of=turn_id)
        await one.state(AWAITING, said)
        outcomes = await one.outcomes()
        states = [event.agent_state for event in await one.of_kind("agent_state_changed")]

    assert outcomes == (["stopped", "done"] if how == "of" else ["done", "done"])
    assert AgentState.STOPPED not in states


def test_a_class_that_neither_runs_nor_steps_is_refused():
    with pytest.raises(TypeError, match="neither `run` nor `step`"):

        class Nothing(Agent):
            pass


async def test_the_limit_is_raised_to_the_agent_that_may_clean_up():
    found = []

    async def work(turn):
        try:
            for _ in range(5):
                await turn.act(CmdRunAction(command="pwd"))
        except LimitReached:
            await write(turn, "I stop here")
            found.append(True)
            raise

    async with Running(Does(work), max_iterations=2) as one:
        await one.state(AgentState.ERROR, await one.say("hi"))
        (said,) = await one.of_kind("message", EventSource.AGENT)

    assert said.content == "I stop here"


async def test_what_an_agent_gives_up_by_itself_is_answered_and_the_turn_goes_on():
    gate = asyncio.Event()

    class Held(StubRuntime):
        async def perform(self, action):
            await gate.wait()
            return CmdOutputObservation(content="too late", command=action.command)

    async def given_up(waiting, begun):
        task = asyncio.ensure_future(waiting)
        await begun
        task.cancel()
        await asyncio.wait([task])

    async def work(turn):
        stream = one.stream
        with_action = stream.tap(lambda events, _: seen(events))
        await given_up(turn.act(CmdRunAction(command="first")), acted.wait())
        with_action()
        await given_up(turn.ask("And?"), asked.wait())
        await write(turn, "without them")

    acted, asked = asyncio.Event(), asyncio.Event()

    def seen(events):
        if any(b'"first"' in stored.body for stored in events):
            acted.set()

    def announced(events):
        if any(b"awaiting_user_input" in stored.body for stored in events) and acted.is_set():
            asked.set()

    async with Running(Does(work), runtime=Held()) as one:
        one.stream.tap(lambda events, _: announced(events))
        said = await one.say("hi")
        ended = await one.event(lambda event: event.kind == "turn_ended")
        await one.state(AWAITING, ended.id)
        (error,) = await one.of_kind("error")
        texts = await one.answers()
        states = [event.agent_state for event in await one.of_kind("agent_state_changed")]

    assert "given up" in error.content
    assert texts == ["And?", "without them"]
    assert states[-4:] == ["running", "awaiting_user_input"] * 2
    assert said < ended.id
