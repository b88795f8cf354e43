"""A server whose agents break every rule of a turn answers the next message, and another's."""

import pytest

from events.event import AgentState
from tests.support.clients import command, joined
from tests.support.payloads import answers, outcomes
from tests.support.remote import CONVERSATIONS, process_over
from tests.support.turn_agents import Answering, Lawless

AWAITING = AgentState.AWAITING_USER_INPUT
RULES = {
    "exit": AgentState.ERROR,
    "exit in a task": AWAITING,
    "half a character": AWAITING,
    "cancel all": AgentState.ERROR,
    "quote": AgentState.ERROR,
    "fifty": AWAITING,
}
"""Messages, and the state in which their turns end."""


async def test_whatever_an_agent_does_its_conversation_alone_pays_and_goes_on(tmp_path):
    async with process_over(tmp_path, agent_class=Lawless) as (server, api):
        other, created = await api.create(), await api.create()
        async with joined(server.url, other) as neighbour, joined(server.url, created) as client:
            await neighbour.state(AWAITING)
            await client.state(AWAITING)
            for rule, ends in RULES.items():
                said = await client.say(rule)
                await client.state(ends, after=said["id"])
                said = await neighbour.say(f"after {rule}")
                await neighbour.state(AWAITING, after=said["id"])
            said = await client.say("hi")
            await client.state(AWAITING, after=said["id"])
            code = await server.stop()
        await server.start()
        log, others = await api.log(created), await api.log(other)

    assert code == 0
    assert answers(others) == [f"Heard 'after {rule}'" for rule in RULES]
    assert answers(log)[-1] == "Heard 'hi'"
    assert "PLANTED-WORD" not in str(log)
    assert len(outcomes(log)) == len(RULES) + 1
    assert len({one["id"] for one in log}) == len(log)


@pytest.mark.parametrize("word", ["slow", "hang", "run"])
async def test_a_conversation_deleted_in_a_turn_and_a_turn_stopped_twice_leave_nothing(
    tmp_path, word
):
    async with process_over(tmp_path, agent_class=Answering) as (server, api):
        created = await api.create()
        async with joined(server.url, created) as client:
            await client.set_to_work(word)
            deleted = await api.client.delete(f"{CONVERSATIONS}/{created}")
        created = await api.create()
        async with joined(server.url, created) as client:
            said = await client.set_to_work(word)
            await client.send(command("paused"))
            await client.send(command("paused"))
            await client.state(AgentState.PAUSED, after=said["id"])
            said = await client.say("hi")
            await client.state(AWAITING, after=said["id"])
        log = await api.log(created)
        code = await server.stop()

    assert (deleted.status_code, code) == (200, 0)
    assert outcomes(log) == ["stopped", "done"]
    assert answers(log)[-1].endswith("attempt 1")
