"""An agent loop never stays `running` without work, whatever fails in it or around it."""

import asyncio
import contextlib
from asyncio import CancelledError

import pytest

from events.actions import (
    AgentFinishAction,
    ChangeAgentStateAction,
    CmdRunAction,
    MessageAction,
)
from events.errors import EventTooLarge, StreamOverloaded
from events.event import AgentState, EventSource
from events.observations import CmdOutputObservation
from events.stores.memory import MemoryEventStore
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.scripted import ScriptedAgent
from runtime_stub.stub import StubRuntime
from runtime_stub.turn import TurnFailed
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
        assert failed.reason == "planned"

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
        assert failed.reason == "AGENT_ERROR$FAILED: CancelledError"

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
        assert failed.reason == "AGENT_ERROR$FAILED: ValueError"

        await second
        await one.state(AgentState.AWAITING_USER_INPUT, failed.id)


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_state_that_could_not_be_appended_is_told_later(failures):
    store = FaultyEventStore(MemoryEventStore())
    async with Running(Scripts(ValueError("no idea")), store=store) as one:
        one.agent.before_step = lambda: store.script.extend([fails] * failures)
        said = await one.say("x")
        failed = await one.state(AgentState.ERROR, said)
        told = "The agent failed: ValueError."
        assert await one.errors() == [(failed.id - 1, told, "STATUS$ERROR")]


async def test_a_second_failure_in_the_state_error_is_in_the_log_as_well():
    class Picky(ScriptedAgent):
        def observe(self, event):
            if event.source == EventSource.USER:
                raise TurnFailed(event.content)

    async with Running(Picky()) as one:
        failed = await one.state(AgentState.ERROR, await one.say("one"))
        assert [text for _, text, _ in await one.errors()] == ["one"]

        await one.say("two")
        await one.event(lambda event: getattr(event, "content", "").startswith("two"), failed.id)
        assert [text for _, text, _ in await one.errors()] == ["one", "two"]


async def test_a_state_is_told_once_the_stream_takes_events_again(caplog):
    class Filling(Scripts):
        def metrics(self):
            with contextlib.suppress(StreamOverloaded):
                while True:
                    one.stream.enqueue(MessageAction(content="x"), EventSource.ENVIRONMENT)
            raise ValueError("no idea")

    async with Running(Filling(MessageAction(content="y")), waiting_appends=20) as one:
        said = await one.say("x")
        failed = await one.state(AgentState.ERROR, said)
        assert [text for _, text, _ in await one.errors()] == ["The agent failed: ValueError."]
        assert (await one.errors())[0][0] < failed.id
    assert "cannot append " in caplog.text
    assert ": 20 events are waiting" in caplog.text


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


class Panic(BaseException):
    """As extension modules raise it."""


class Mute(Exception):
    """Fails when it is asked what it is."""

    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (Panic("lost"), "Panic"),
        (GeneratorExit(), "GeneratorExit"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (BaseExceptionGroup("two", [Panic("a"), Panic("b")]), "BaseExceptionGroup"),
        (ValueError("a \ud800 b"), "ValueError"),
        (Mute(), "Mute"),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_whatever_a_step_raises_is_a_state_with_its_reason_and_the_next_message_works(
    raised, reason
):
    async with Running(Scripts(raised, MessageAction(content="again"))) as one:
        failed = await one.state(AgentState.ERROR, await one.say("x"))
        assert failed.reason == f"AGENT_ERROR$FAILED: {reason}"

        await one.say("y")
        await one.state(AgentState.AWAITING_USER_INPUT, failed.id)


async def test_a_long_reason_is_masked_before_it_is_cut():
    secret = "s3cr3t-" * 10
    async with Running(Scripts(TurnFailed("x" * 1950 + secret + "y" * 10_000))) as one:
        one.stream.update_secrets({"KEY": secret})
        failed = await one.state(AgentState.ERROR, await one.say("x"))

    assert len(failed.reason) < 2100
    assert "s3cr3t" not in failed.reason


class Picky(ScriptedAgent):
    """Cannot stand one message."""

    def observe(self, event):
        if getattr(event, "content", "") == "bad":
            raise Panic("cannot stand it")
        super().observe(event)


async def test_a_message_an_agent_fails_at_is_taken_up_and_fails_no_later_loop():
    store = MemoryEventStore()
    async with Running(Picky(), store=store) as one:
        failed = await one.state(AgentState.ERROR, await one.say("bad"))
        assert failed.reason == "AGENT_ERROR$FAILED: Panic"
    last = one.stream.next_id - 1

    async with Running(Picky(), store=store) as again:
        await again.state(AgentState.AWAITING_USER_INPUT, last)
        said = await again.say("good")
        await again.state(AgentState.AWAITING_USER_INPUT, said)


async def test_of_messages_that_waited_only_the_one_an_agent_fails_at_is_lost():
    store = MemoryEventStore()
    one = Running(Picky(), store=store)
    await one.open()
    for text in ("bad", "good"):
        await one.say(text)

    async with one:
        await one.state(AgentState.AWAITING_USER_INPUT)
        kinds = [kind for kind, _ in await one.log()]
        assert kinds.count("recall") == 4  # two marks, and what came of them
        assert kinds.count("message") == 3


class Closing(Scripts):
    """Is closed as a test wants."""

    def __init__(self, *things, close):
        super().__init__(*things)
        self._close = close

    async def close(self):
        await self._close()


class ClosingRuntime(StubRuntime):
    """Is closed as a test wants."""

    def __init__(self, close):
        super().__init__()
        self._end = close

    async def close(self):
        await super().close()
        await self._end()


async def hang():
    await asyncio.Event().wait()


class Swallowing:
    """Ignores its cancellation until it is let go."""

    def __init__(self):
        self.begun = asyncio.Event()
        self._go = asyncio.Event()
        self._over = asyncio.Event()

    async def __call__(self):
        self.begun.set()
        while not self._go.is_set():
            with contextlib.suppress(CancelledError):
                await self._go.wait()
        self._over.set()

    async def let_go(self):
        self._go.set()
        await self._over.wait()


async def panic():
    raise Panic("stuck")


@pytest.mark.parametrize("whose", ["agent", "runtime"])
@pytest.mark.parametrize(
    ("close", "reason"),
    [
        (hang, "close did not end within 0.1 seconds"),
        (Swallowing, "close did not end within 0.1 seconds"),
        (panic, "The agent failed: Panic."),
    ],
)
async def test_an_end_that_fails_or_does_not_come_is_told_and_keeps_nobody(whose, close, reason):
    swallowing = Swallowing() if close is Swallowing else None
    close = swallowing or close
    agent = Closing(close=close) if whose == "agent" else Scripts()
    runtime = ClosingRuntime(close) if whose == "runtime" else None
    async with Running(agent, runtime=runtime, close_seconds=0.1) as one:
        pass

    log = await one.log()
    states = [state for kind, state in log if kind == "agent_state_changed"]
    assert states[-2:] == [AgentState.STOPPED, AgentState.ERROR]
    assert reason in (await one.errors())[-1][1]
    if swallowing is not None:
        await swallowing.let_go()


async def test_a_timeout_of_the_runtimes_own_is_its_failure_and_not_the_deadline():
    class Unreachable(StubRuntime):
        async def perform(self, action):
            raise TimeoutError("the sandbox did not answer in 3 s")

    agent = Scripts(CmdRunAction(command="pwd"), MessageAction(content="an answer"))
    async with Running(agent, runtime=Unreachable()) as one:
        failed = await one.state(AgentState.ERROR, await one.say("x"))

    assert failed.reason == "AGENT_ERROR$FAILED: TimeoutError"


async def test_what_an_agent_or_runtime_gives_has_a_bound_that_is_told():
    class Verbose(StubRuntime):
        async def perform(self, action):
            return CmdOutputObservation(content="ok", command="x" * 5000)

    long = MessageAction(content="x" * 5000)
    wide = MessageAction(content="x", tool_call_metadata={"a": [{"b": "\u00e9" * 2500}]})
    agent = Scripts(CmdRunAction(command="pwd"), long, wide, MessageAction(content="short"))
    async with Running(agent, runtime=Verbose(), event_bytes=4000) as one:
        after = await one.say("x")
        for _ in range(2):
            failed = await one.state(AgentState.ERROR, after)
            assert failed.reason.endswith("bytes, but an event may have at most 4,000")
            after = await one.say("again")
        await one.state(AgentState.AWAITING_USER_INPUT, after)
        bodies = [stored.body async for stored in one.stream.search_events()]

    told = [body for body in bodies if b"an event may have at most" in body and b'"cause"' in body]
    assert len(told) == 1  # the action's result, where it would stand
    assert max(map(len, bodies)) < 4000


async def test_a_system_prompt_that_is_too_long_is_an_error():
    class Verbose(Scripts):
        def system_prompt(self):
            return "x" * 5000

    one = Running(Verbose(), event_bytes=4000)
    await one.open()
    with pytest.raises(EventTooLarge):
        await one.loop.start()
    assert "an event may have at most" in (await one.state(AgentState.ERROR)).reason
    await one.stream.close()


async def test_an_agent_left_in_its_step_is_asked_for_no_other():
    class Stuck(Scripts):
        async def step(self):
            await step()

    step = Swallowing()
    async with Running(Stuck()) as one:
        await one.state(AgentState.RUNNING, await one.say("x"))
        await command(one, AgentState.PAUSED)
        paused = await one.state(AgentState.PAUSED)
        await command(one, AgentState.RUNNING)
        failed = await one.state(AgentState.ERROR, paused.id)
    await step.let_go()

    assert "still at its last step" in failed.reason


@pytest.mark.parametrize("state", ["awaiting_user_input", "finished", "error"])
async def test_a_pause_where_nothing_works_changes_no_state(state):
    rest = {
        "awaiting_user_input": MessageAction(content="done"),
        "finished": AgentFinishAction(),
        "error": ValueError("planned"),
    }
    async with Running(Scripts(rest[state])) as one:
        await one.state(state, await one.say("x"))
        last = (await command(one, AgentState.PAUSED)).id
        await one.stream.flush()

        assert one.loop.state == state
        assert [kind for kind, _ in (await one.log())[last + 1 :]] == []


@pytest.mark.parametrize("halt", [AgentState.STOPPED, AgentState.PAUSED])
async def test_an_action_that_ignores_its_halt_adds_nothing_after_it(halt):
    class Stubborn(StubRuntime):
        async def perform(self, action):
            await performing()
            return CmdOutputObservation(content="too late", command=action.command)

    performing = Swallowing()
    agent = Scripts(CmdRunAction(command="pwd"), MessageAction(content="an answer"))
    async with Running(agent, runtime=Stubborn()) as one:
        await one.say("x")
        await performing.begun.wait()
        await command(one, halt)
        halted = await one.state(halt)
        await performing.let_go()
        await one.state(AgentState.AWAITING_USER_INPUT, await one.say("y"))
        log = [stored.body async for stored in one.stream.search_events(halted.id)]

    assert not any(b"too late" in body for body in log)


async def test_live_events_do_not_overtake_messages_that_waited():
    class Noting(Scripts):
        def __init__(self):
            super().__init__()
            self.texts: list[str] = []

        def observe(self, event):
            if event.source == EventSource.USER:
                self.texts.append(event.content)
            if self.texts == ["first"]:
                # In the batch of the first one's mark: published before the second is taken up.
                one.stream.enqueue(MessageAction(content="third"), EventSource.USER)

    one = Running(Noting())
    await one.open()
    for text in ("first", "second"):
        await one.say(text)
    async with one:
        await one.state(AgentState.AWAITING_USER_INPUT)
        await one.stream.flush()

    assert one.agent.texts == ["first", "second", "third"]
