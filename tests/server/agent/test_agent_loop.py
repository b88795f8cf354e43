"""The agent loop over a real stream: limits, confirmation order, failures, stubborn agents."""

import asyncio

from events.actions import AgentFinishAction, CmdRunAction, FileWriteAction, MessageAction
from events.event import AgentState
from events.observations import CmdOutputObservation
from events.redaction import MASK
from runtime_stub.agent import Agent, RateLimited
from runtime_stub.replay import ReplayAgent
from runtime_stub.scripted import ScriptedAgent
from tests.support.loops import Running, Scripts
from tests.support.waiting import until


class Stubborn(Agent):
    """Swallows its cancellation and goes on for a while."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    def observe(self, event):
        pass

    async def step(self):
        self.task = asyncio.current_task()
        self.begun.set()
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue
        return MessageAction(content="too late")


async def test_the_step_limit_is_a_visible_error_that_a_message_raises():
    async with Running(ScriptedAgent(), max_iterations=3) as one:
        await until(lambda: one.rests == 1)
        said = await one.say("/run pwd\n/run pwd\n/run pwd\n/run ls")
        stopped = await one.state(AgentState.ERROR, said)
        assert "3 steps" in stopped.reason
        assert await one.errors() == [(stopped.id - 1, stopped.reason, "STATUS$ERROR")]
        await until(lambda: one.rests == 2)

        await one.say("go on")
        await one.state(AgentState.AWAITING_USER_INPUT, stopped.id)
        kinds = [kind for kind, _ in await one.log()]
        assert kinds.count("run") == 8  # four commands and what came of them


async def test_the_budget_is_a_visible_error_that_a_message_raises():
    async with Running(ScriptedAgent(), max_budget_per_task=1.0) as one:
        said = await one.say("/cost 1.5\nafter the budget")
        stopped = await one.state(AgentState.ERROR, said)
        assert "1.50 of 1.00" in stopped.reason

        await one.say("go on")
        await one.state(AgentState.AWAITING_USER_INPUT, stopped.id)


async def test_a_budget_that_is_spent_exactly_stops_the_agent():
    async with Running(ScriptedAgent(), max_budget_per_task=1.0) as one:
        said = await one.say("/cost 0.5\n/cost 0.5\n/run ls")
        stopped = await one.state(AgentState.ERROR, said)

        assert "1.00 of 1.00" in stopped.reason
        assert "run" not in [kind for kind, _ in await one.log()]

        await one.say("go on")
        await one.state(AgentState.AWAITING_USER_INPUT, stopped.id)


async def test_a_failing_step_is_a_state_with_its_reason_and_the_next_message_works():
    async with Running(Scripts(ValueError("no idea"), MessageAction(content="again"))) as one:
        said = await one.say("x")
        failed = await one.state(AgentState.ERROR, said)
        told = "The agent failed: ValueError."
        assert failed.reason == "AGENT_ERROR$FAILED: ValueError"
        assert one.shown == [told]
        assert await one.errors() == [(failed.id - 1, told, "STATUS$ERROR")]

        await one.say("y")
        await one.state(AgentState.AWAITING_USER_INPUT, failed.id)


async def test_a_rate_limit_waits_for_the_user_and_an_exhausted_one_is_an_error():
    limits = RateLimited("slow down"), RateLimited("come back on Monday", exhausted=True)
    async with Running(Scripts(*limits)) as one:
        said = await one.say("x")
        limited = await one.state(AgentState.RATE_LIMITED, said)

        await one.say("y")
        failed = await one.state(AgentState.ERROR, limited.id)
        assert limited.reason == "slow down"
        assert failed.reason == "CHAT_INTERFACE$AGENT_RATE_LIMITED_STOPPED_MESSAGE"
        assert await one.errors() == [
            (limited.id - 1, "slow down", failed.reason),
            (failed.id - 1, "come back on Monday", failed.reason),
        ]


async def test_the_wait_for_confirmation_is_told_before_the_action():
    agent = Scripts(CmdRunAction(command="pwd"))
    async with Running(agent, confirmation_mode=True) as one:
        said = await one.say("x")
        asked = await one.state(AgentState.AWAITING_USER_CONFIRMATION, said)
        await one.stream.flush()

        log = await one.log()
        place = log.index(("agent_state_changed", AgentState.AWAITING_USER_CONFIRMATION))
        assert place == asked.id
        assert log[place + 1][0] == "run"


async def test_an_agent_that_swallows_its_stop_is_left_behind_and_changes_nothing():
    agent = Stubborn()
    async with Running(agent) as one:
        await one.say("x")
        await agent.begun.wait()
        await one.loop.close()

        assert agent.task is not None
        assert not agent.task.done()
        assert (await one.log())[-1] == ("agent_state_changed", AgentState.STOPPED)
        agent.go.set()
        await asyncio.wait([agent.task])
        await one.say("behind")  # what the agent gave would stand before it
        assert [kind for kind, _ in (await one.log())[-2:]] == ["agent_state_changed", "message"]


def ending(text):
    return MessageAction(content=text), AgentFinishAction(final_thought=text)


async def test_a_recording_is_acted_out_over_its_ends_and_the_next_question_is_answered():
    agent = ReplayAgent([*ending("a"), *ending("b")], ScriptedAgent())
    async with Running(agent) as one:
        said = await one.say("the recorded question")
        ended = await one.state(AgentState.FINISHED, said)

        await one.say("a new question")
        await one.state(AgentState.AWAITING_USER_INPUT, ended.id)

        said = [event.message for event in await one.of_kind("message")]
        assert said == [
            "the recorded question",
            "a",
            "b",
            "a new question",
            "You said: a new question",
        ]
        assert [kind for kind, _ in await one.log()].count("finish") == 2


async def test_what_is_asked_during_a_replay_is_answered_behind_its_last_end():
    agent = ReplayAgent([CmdRunAction(command="sleep 0.2"), *ending("b")], ScriptedAgent())
    async with Running(agent) as one:
        await one.say("the recorded question")
        asked = await one.say("asked meanwhile")
        await one.state(AgentState.AWAITING_USER_INPUT, asked)

        messages = [event.message for event in await one.of_kind("message")]
        assert messages[-1] == "You said: asked meanwhile"


PLANTED = "planted-value-7341"


class Listening(Scripts):
    """Keeps what it was given."""

    def __init__(self, *things):
        super().__init__(*things)
        self.given = []

    def observe(self, event):
        self.given.append(event)

    @property
    def said(self):
        return [event.content for event in self.given if isinstance(event, MessageAction)]


async def test_an_agent_and_its_runtime_are_given_what_was_written_and_the_log_masks():
    write = FileWriteAction(path="cm.yaml", content=f"key: {PLANTED}\n")
    agent = Listening(write, CmdRunAction(command="cat cm.yaml"), MessageAction(content=PLANTED))
    async with Running(agent) as one:
        one.stream.update_secrets({"key": PLANTED})
        said = await one.say(f"write {PLANTED}")
        await one.state(AgentState.AWAITING_USER_INPUT, said)

        assert agent.said == [f"write {PLANTED}", PLANTED]
        assert [event for event in agent.given if MASK in str(event)] == []
        (shown,) = [event for event in agent.given if isinstance(event, CmdOutputObservation)]
        assert shown.content == f"key: {PLANTED}"
        assert await one.runtime.read_file("cm.yaml") == f"key: {PLANTED}\n".encode()
        assert PLANTED not in "".join([event.model_dump_json() for event in await one.events()])
        assert one.stream._unmasked == {}


async def test_a_message_that_waited_for_the_loop_is_given_as_it_was_written():
    one = Running(Listening())
    await one.open()
    one.stream.update_secrets({"key": PLANTED})
    said = await one.say(f"first {PLANTED}")
    await one.loop.start()
    await one.state(AgentState.AWAITING_USER_INPUT, said)

    assert one.agent.said == [f"first {PLANTED}"]
    await one.loop.close()
    await one.stream.close()


async def test_after_a_restart_an_agent_is_given_what_is_stored():
    first = Running(Listening())
    await first.open()
    first.stream.update_secrets({"key": PLANTED})
    await first.say(f"first {PLANTED}")
    await first.stream.close()

    async with Running(Listening(), store=first.store) as one:
        assert one.agent.said == [f"first {MASK}"]
