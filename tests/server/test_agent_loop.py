"""The agent loop over a real stream: limits, confirmation order, failures, stubborn agents."""

import asyncio

import pytest

from events.actions import CmdRunAction, MessageAction
from events.event import AgentState
from runtime_stub.agent import Agent, RateLimited
from runtime_stub.scripted import ScriptedAgent
from tests.support.loops import Running, Scripts


class Stubborn(Agent):
    """Swallows its cancellation and goes on for a while."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    def observe(self, event):
        pass

    async def step(self):
        self.begun.set()
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue
        return MessageAction(content="too late")


async def test_the_step_limit_is_a_visible_error_that_a_message_raises():
    async with Running(ScriptedAgent(), max_iterations=3) as one:
        said = await one.say("/run pwd\n/run pwd\n/run pwd\n/run ls")
        stopped = await one.state(AgentState.ERROR, said)
        assert "3 steps" in stopped.reason
        assert await one.errors() == [(stopped.id - 1, stopped.reason, "STATUS$ERROR")]
        assert one.rests == 2  # when it had come up, and now

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
        assert failed.reason == "ValueError: no idea"
        assert one.shown == ["ValueError: no idea"]
        assert await one.errors() == [(failed.id - 1, "ValueError: no idea", "STATUS$ERROR")]

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


@pytest.mark.timeout(10)
async def test_an_agent_that_swallows_its_stop_is_left_behind_and_changes_nothing():
    agent = Stubborn()
    async with Running(agent) as one:
        await one.say("x")
        await agent.begun.wait()
        begun = asyncio.get_running_loop().time()
        await one.loop.close()

        assert asyncio.get_running_loop().time() - begun < 1.5
        assert (await one.log())[-1] == ("agent_state_changed", AgentState.STOPPED)
        agent.go.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (await one.log())[-1] == ("agent_state_changed", AgentState.STOPPED)
