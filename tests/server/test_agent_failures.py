"""An agent loop never stays `running` without work, whatever fails in it or around it."""

import asyncio
import contextlib
from asyncio import CancelledError

import orjson
import pytest

from events.actions import ChangeAgentStateAction, CmdRunAction, MessageAction
from events.errors import StreamOverloaded
from events.event import AgentState, EventSource
from events.observations import CmdOutputObservation
from events.stores.memory import MemoryEventStore
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.scripted import ScriptedAgent
from runtime_stub.stub import StubRuntime
from tests.support.faulty_store import FaultyEventStore, fails
from tests.support.loops import Running, Scripts


class UnreachableClients:
    """Shows failures over a line that was cut."""

    def __call__(self, reason):
        raise RuntimeError("the handler is closed")


class HeldRuntime(StubRuntime):
    """Carries an action out when it is let go."""

    def __init__(self):
        super().__init__()
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def perform(self, action):
        self.begun.set()
        await self.gate.wait()
        return CmdOutputObservation(content="done", command=action.command)


class Unconnectable(StubRuntime):
    """Never comes up."""

    async def connect(self):
        raise TimeoutError


async def command(one, state):
    return await one.stream.append(ChangeAgentStateAction(agent_state=state), EventSource.USER)


async def test_a_failure_that_cannot_be_shown_is_a_state_and_the_next_message_is_answered(caplog):
    async with Running(ScriptedAgent(), on_error=UnreachableClients()) as one:
        said = await one.say("/error planned")
        failed = await one.state(AgentState.ERROR, said)
        assert failed.reason == "ScriptedFailure: planned"

        await one.say("go on")
        await one.state(AgentState.AWAITING_USER_INPUT, failed.id)
    assert "the handler is closed" in caplog.text


async def test_outcomes_that_cannot_be_told_keep_the_agent_from_nothing():
    def gone(outcome):
        raise RuntimeError("the handler is closed")

    async with Running(ScriptedAgent()) as one:
        for _ in range(50):
            thought = MessageAction(content="/think hard\n/run pwd")
            one.stream.submit(thought, EventSource.USER, gone)
            await asyncio.sleep(0)

        said = await one.say("the last")
        await one.state(AgentState.AWAITING_USER_INPUT, said)
        kinds = [kind for kind, _ in await one.log()]
        assert kinds.count("think") == kinds.count("run") == 100  # and what came of them


async def test_a_cancellation_that_comes_from_the_agent_is_a_failure_as_any_other():
    async with Running(Scripts(CancelledError(), MessageAction(content="again"))) as one:
        said = await one.say("x")
        failed = await one.state(AgentState.ERROR, said)
        assert failed.reason.startswith("CancelledError")

        await one.say("y")
        await one.state(AgentState.AWAITING_USER_INPUT, failed.id)


async def test_an_event_the_agent_cannot_take_in_stops_neither_it_nor_those_after_it():
    class Picky(ScriptedAgent):
        def observe(self, event):
            if getattr(event, "content", "") == "bad":
                raise ValueError("cannot stand it")
            super().observe(event)

    async with Running(Picky()) as one:
        first = one.stream.enqueue(MessageAction(content="bad"), EventSource.USER)
        second = one.stream.enqueue(MessageAction(content="good"), EventSource.USER)
        failed = await one.state(AgentState.ERROR, (await first).id)
        assert failed.reason == "ValueError: cannot stand it"

        await second
        await one.state(AgentState.AWAITING_USER_INPUT, failed.id)


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_state_that_could_not_be_appended_is_told_later(failures):
    store = FaultyEventStore(MemoryEventStore())
    async with Running(Scripts(ValueError("no idea")), store=store) as one:

        async def full_disk(attempt):
            # The step fails in the same turn as its state.
            store.script.extend([fails] * failures)
            await attempt.write()

        store.script.append(full_disk)
        said = await one.say("x")
        failed = await one.state(AgentState.ERROR, said)
        assert await one.errors() == [(failed.id - 1, failed.reason, "STATUS$ERROR")]


async def test_a_second_failure_in_the_state_error_is_in_the_log_as_well():
    class Picky(ScriptedAgent):
        def observe(self, event):
            if event.source == EventSource.USER:
                raise ValueError(event.content)

    async with Running(Picky()) as one:
        failed = await one.state(AgentState.ERROR, await one.say("one"))
        assert [text for _, text, _ in await one.errors()] == ["ValueError: one"]

        said = await one.say("two")
        async with asyncio.timeout(5):
            first = await anext(one.stream.follow(max(said, failed.id)))
        assert orjson.loads(first.body)["content"] == "ValueError: two"


async def test_a_state_is_told_once_the_stream_takes_events_again(caplog):
    async with Running(Scripts(ValueError("no idea")), waiting_appends=20) as one:

        def fill():
            with contextlib.suppress(StreamOverloaded):
                while True:
                    one.stream.enqueue(MessageAction(content="x"), EventSource.ENVIRONMENT)

        one.agent.before_step = fill
        said = await one.say("x")
        failed = await one.state(AgentState.ERROR, said)
        assert [text for _, text, _ in await one.errors()] == ["ValueError: no idea"]
        assert (await one.errors())[0][0] < failed.id
    assert "could not be appended: 20 events are waiting" in caplog.text


async def test_a_message_during_a_confirmed_action_is_answered_by_the_same_work():
    runtime = HeldRuntime()
    agent = Scripts(CmdRunAction(command="pwd"), MessageAction(content="an answer"))
    async with Running(agent, runtime=runtime, confirmation_mode=True) as one:
        said = await one.say("x")
        await one.state(AgentState.AWAITING_USER_CONFIRMATION, said)
        await command(one, AgentState.USER_CONFIRMED)
        await runtime.begun.wait()
        said = await one.say("and another thing")
        await one.stream.flush()
        assert one.loop.state is AgentState.USER_CONFIRMED

        runtime.gate.set()
        await one.state(AgentState.AWAITING_USER_INPUT, said)
        kinds = [kind for kind, _ in await one.log()]
        assert kinds.count("message") == 3
        assert agent.most_at_once == 1


@pytest.mark.parametrize("decision", [AgentState.USER_CONFIRMED, AgentState.USER_REJECTED])
async def test_a_message_right_behind_a_decision_is_answered(decision):
    agent = Scripts(CmdRunAction(command="pwd"), MessageAction(content="an answer"))
    async with Running(agent, confirmation_mode=True) as one:
        said = await one.say("x")
        await one.state(AgentState.AWAITING_USER_CONFIRMATION, said)
        decided = command(one, decision)
        _, said = await asyncio.gather(decided, one.say("and another thing"))

        await one.state(AgentState.AWAITING_USER_INPUT, said)
        assert not agent.things
        assert agent.most_at_once == 1


async def test_a_loop_that_does_not_come_up_says_so_and_answers_nothing():
    one = Running(ScriptedAgent(), runtime=Unconnectable())
    with pytest.raises(RuntimeUnavailable):
        await one.__aenter__()

    said = await one.say("is anybody there?")
    await one.stream.flush()
    assert (await one.log())[-2:] == [("agent_state_changed", AgentState.ERROR), ("message", None)]
    assert one.stream.next_id == said + 1
    await one.stream.close()


async def test_a_loop_that_fails_at_what_waited_leaves_nothing_behind_that_answers():
    store = FaultyEventStore(MemoryEventStore())
    one = Running(ScriptedAgent(), store=store)
    await one.open()
    await one.say("waits")

    async def refuses_recalls(attempt):
        if any(b'"recall"' in event.body for event in attempt.events):
            await fails(attempt)
        await attempt.write()

    store.script.extend([refuses_recalls] * 6)
    with pytest.raises(Exception, match="disk is full"):
        await one.loop.start()
    store.script.clear()
    last = one.stream.next_id
    assert (await one.log())[-1] == ("agent_state_changed", AgentState.ERROR)

    said = await one.say("is anybody there?")
    await one.stream.flush()
    assert said == last
    assert one.stream.next_id == said + 1
    await one.stream.close()
