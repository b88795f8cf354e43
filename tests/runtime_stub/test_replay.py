"""The agent that acts again and then leaves the conversation to another."""

from events.actions import CmdRunAction, MessageAction
from events.event import EventSource
from runtime_stub.agent import Spending
from runtime_stub.replay import ReplayAgent
from runtime_stub.scripted import ScriptedAgent


def said(content):
    return MessageAction(content=content, source=EventSource.USER)


async def test_the_recorded_actions_come_first_and_then_the_other_agent_decides():
    recorded = [CmdRunAction(command="ls"), MessageAction(content="done")]
    agent = ReplayAgent(recorded, ScriptedAgent())
    agent.resume(Spending())

    agent.observe(said("the recorded question"))
    steps = [await agent.step(), await agent.step(), await agent.step()]
    agent.observe(said("a new question"))
    answer = await agent.step()
    await agent.close()

    assert steps == [*recorded, None]
    assert isinstance(answer, MessageAction)
    assert "a new question" in answer.content


async def test_a_message_during_the_replay_is_not_lost():
    agent = ReplayAgent([CmdRunAction(command="ls")], ScriptedAgent())

    agent.observe(said("the recorded question"))
    agent.observe(said("and another"))
    assert await agent.step() == CmdRunAction(command="ls")

    answer = await agent.step()
    assert isinstance(answer, MessageAction)
    assert "and another" in answer.content


def test_the_opening_text_is_the_other_agents():
    inner = ScriptedAgent()

    agent = ReplayAgent([], inner)

    assert agent.system_prompt() == inner.system_prompt()
    assert agent.metrics() == inner.metrics()


def test_it_goes_on_while_recorded_actions_are_left_and_until_later_questions_are_answered():
    agent = ReplayAgent([CmdRunAction(command="ls")], ScriptedAgent())

    assert agent.goes_on
    assert not ReplayAgent([], ScriptedAgent()).goes_on
