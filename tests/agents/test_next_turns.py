"""Work that waits for another turn begins it, however the turn before it ended."""

import asyncio

import orjson

from events.actions import ChangeAgentStateAction, CmdRunAction
from events.event import AgentState, EventSource
from events.serialization import decode
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.stub import StubRuntime
from tests.support.loops import Running
from tests.support.turn_agents import Does, asked
from tests.support.waiting import WAIT_SECONDS

AWAITING = AgentState.AWAITING_USER_INPUT


async def events_until(one, fits):
    """The events of the log up to the first that fits, waiting for it."""
    found = []
    async with asyncio.timeout(WAIT_SECONDS):
        async for stored in one.stream.follow(-1):
            found.append(decode(orjson.loads(stored.body)))
            if fits(found[-1]):
                return found
    raise AssertionError(found)


def said(events):
    """The texts of the agent."""
    return [one.content for one in events if one.kind == "message" and one.source == "agent"]


async def test_a_message_that_came_during_a_turn_that_timed_out_begins_the_next_one():
    begun = asyncio.Event()

    async def work(turn):
        if asked(turn) == "one":
            begun.set()
            await asyncio.Event().wait()
        async with turn.say() as answer:
            answer.write(asked(turn))

    async with Running(Does(work), quiet_seconds=0.5) as one:
        await one.say("one")
        await begun.wait()
        await one.say("two")
        failed = await one.state(AgentState.ERROR)
        await one.state(AWAITING, failed.id)
        log = await events_until(one, lambda event: said([event]))

    assert said(log) == ["two"]
    outcomes = [one.outcome for one in log if one.kind == "turn_ended"]
    assert outcomes == ["timed_out"]


async def test_a_decision_that_came_during_a_turn_that_failed_is_carried_out_by_the_next_one():
    class Gone(StubRuntime):
        """Is gone when it carries out the first action, once that may end."""

        def __init__(self):
            super().__init__()
            self.begun, self.go_on = asyncio.Event(), asyncio.Event()

        async def perform(self, action):
            if action.command == "first":
                self.begun.set()
                await self.go_on.wait()
                raise RuntimeUnavailable("gone")
            return await super().perform(action)

    async def work(turn):
        commands = ("first", "echo second")
        await asyncio.gather(*(turn.act(CmdRunAction(command=one)) for one in commands))

    async def agree(one, approval):
        action = ChangeAgentStateAction(agent_state=AgentState.USER_CONFIRMED, of=approval)
        await one.stream.append(action, EventSource.USER)

    runtime = Gone()
    limits = {"confirmation_mode": True, "approval_patience": 0.05}
    async with Running(Does(work), runtime=runtime, **limits) as one:
        await one.say("hi")
        log = await events_until(one, lambda event: event.kind == "turn_ended")
        first, second = [event.id for event in log if event.kind == "run"]
        await agree(one, first)
        await runtime.begun.wait()
        await agree(one, second)
        await one.stream.flush()
        runtime.go_on.set()
        failed = await one.state(AgentState.ERROR)
        await one.state(AWAITING, failed.id)
        log = await events_until(one, lambda event: getattr(event, "content", "") == "second")

    assert [one.outcome for one in log if one.kind == "turn_ended"] == ["waiting", "failed"]
