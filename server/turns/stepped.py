"""The turn of an agent that returns its actions one by one: the default `run`."""

from events.event import AgentState
from runtime_stub.agent import Agent
from server.turns.acting import Acting
from server.turns.clocks import Clocks
from server.turns.parts import TurnParts

ENDS = frozenset((AgentState.AWAITING_USER_INPUT, AgentState.FINISHED, AgentState.REJECTED))
"""States an action may cause by itself, which a recording skips."""


class News:
    """Whether something was observed since the agent was asked last."""

    came = False


async def step_through(
    agent: Agent, parts: TurnParts, acting: Acting, clocks: Clocks, news: News
) -> AgentState:
    """Ask the agent for actions until it waits or ends; the state that is then due.

    Raises what the agent raises, LimitReached, BudgetReached, TurnOver.
    """
    acting.metrics = agent.metrics
    while True:
        await parts.level()
        parts.ledger.check()
        news.came = False
        clocks.touch()
        action = await parts.step(agent, parts.held.conversation_id)
        if action is None:
            if news.came:
                continue
            return AgentState.AWAITING_USER_INPUT
        parts.ledger.count()
        due = (await acting.carry_out(action)).due
        if due is AgentState.AWAITING_USER_INPUT and news.came:
            acting.go_on()
            continue
        if due in ENDS and agent.goes_on:
            continue
        if due is not None:
            return due
