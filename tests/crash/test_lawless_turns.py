"""A server whose agents break every rule of a turn answers the next message, and another's."""

import pytest

from events.event import AgentState
from tests.crash.test_lost_turns import AWAITING, kind, of_agent, with_agent
from tests.support.clients import joined
from tests.support.remote import CONVERSATIONS, remote
from tests.support.servers import server_process

pytestmark = pytest.mark.timeout(60)

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
    async with (
        server_process(tmp_path, environment=with_agent("Lawless")) as server,
        remote(server.url) as api,
    ):
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
    assert of_agent(others) == [f"Heard 'after {rule}'" for rule in RULES]
    assert of_agent(log)[-1] == "Heard 'hi'"
    assert "PLANTED-WORD" not in str(log)
    assert len([one for one in log if kind(one) == "turn_ended"]) == len(RULES) + 1
    assert len({one["id"] for one in log}) == len(log)


@pytest.mark.parametrize("word", ["slow", "hang", "run"])
async def test_a_conversation_deleted_in_a_turn_and_a_turn_stopped_twice_leave_nothing(
    tmp_path, word
):
    paused = {"action": "change_agent_state", "args": {"agent_state": "paused"}}
    async with (
        server_process(tmp_path, environment=with_agent("Answering")) as server,
        remote(server.url) as api,
    ):
        created = await api.create()
        async with joined(server.url, created) as client:
            first = await client.state(AWAITING)
            await client.say(word)
            await client.state(AgentState.RUNNING, after=first["id"])
            deleted = await api.client.delete(f"{CONVERSATIONS}/{created}")
        created = await api.create()
        async with joined(server.url, created) as client:
            await client.state(AWAITING)
            said = await client.say(word)
            await client.state(AgentState.RUNNING, after=said["id"])
            await client.send(paused)
            await client.send(paused)
            await client.state(AgentState.PAUSED, after=said["id"])
            said = await client.say("hi")
            await client.state(AWAITING, after=said["id"])
        log = await api.log(created)
        code = await server.stop()

    assert (deleted.status_code, code) == (200, 0)
    outcomes = [one["extras"]["outcome"] for one in log if kind(one) == "turn_ended"]
    assert outcomes == ["stopped", "done"]
    assert of_agent(log)[-1].endswith("attempt 1")
