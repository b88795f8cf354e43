"""An agent loop appends as the holder of its log: when another has claimed it, it writes nothing more."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from events.actions import CmdRunAction
from events.event import AgentState, EventSource
from events.observations import AgentStateChangedObservation
from events.stores.memory import MemoryEventStore
from runtime_stub.scripted import ScriptedAgent
from runtime_stub.stub import StubRuntime
from tests.support.loops import Running, Scripts
from tests.support.waiting import until


class TakenOverRuntime(StubRuntime):
    """Another claims the loop while an action is carried out."""

    take_over: Callable[[], Awaitable[object]]

    async def perform(self, action):
        """See Runtime."""
        await self.take_over()
        return await super().perform(action)


async def claim_elsewhere(one):
    """Have another holder append to the log, over a stream of its own."""
    other = Running(ScriptedAgent(), store=one.store)
    await other.open()
    fact = AgentStateChangedObservation(agent_state=AgentState.LOADING)
    await other.stream.claim().append(fact, EventSource.ENVIRONMENT)
    return other


async def test_everything_a_loop_appends_carries_its_claim():
    async with Running(ScriptedAgent()) as one:
        said = await one.say("hello")
        await one.state(AgentState.AWAITING_USER_INPUT, after=said)

    claim = (await one.store.head("c")).fence
    assert claim is not None
    assert claim.number == 1
    again = Running(ScriptedAgent(), store=one.store)
    async with again:
        await again.state(AgentState.AWAITING_USER_INPUT, after=one.stream.next_id - 1)
    assert (await one.store.head("c")).fence == (2, claim.holder)


async def test_a_loop_that_lost_its_log_stops_and_writes_nothing_more():
    runtime = TakenOverRuntime()
    agent = Scripts(CmdRunAction(command="echo a"), CmdRunAction(command="echo b"))
    one = Running(agent, runtime=runtime)
    runtime.take_over = lambda: claim_elsewhere(one)
    async with one:
        said = await one.say("do it")
        await until(lambda: one.loop.state is AgentState.STOPPED)
        await one.stream.look()
        log = await one.log()

        assert [kind for kind, _ in log[said + 1 :]].count("run") == 1
        assert log[-1] == ("agent_state_changed", AgentState.LOADING)
        assert one.shown == []
        person = await one.say("is anybody there?")
        assert person == len(log)
        await one.stream.flush()
    assert len(await one.log()) == len(log) + 1
    assert one.rests >= 1


@pytest.mark.parametrize("count", [1, 3])
async def test_a_loop_that_is_told_at_a_message_that_it_lost_its_log_leaves_the_message_alone(
    count,
):
    store = MemoryEventStore()
    async with Running(ScriptedAgent(), store=store) as one:
        await one.state(AgentState.AWAITING_USER_INPUT)
        await claim_elsewhere(one)
        for number in range(count):
            await one.say(f"message {number}")
        await until(lambda: one.loop.state is AgentState.STOPPED)
        await asyncio.gather(one.stream.flush(), one.stream.look())

    kinds = [kind for kind, _ in await one.log()]
    assert kinds[-count:] == ["message"] * count
    assert "recall" not in kinds
