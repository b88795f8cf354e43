"""The usage of each turn: what the agent reported of its calls of models, and nothing of other turns."""

import pytest

from events.event import AgentState
from runtime_stub.agent import Spending
from runtime_stub.turn import Usage
from server.turns.limits import Ledger
from tests.support.live import live_server
from tests.support.remote import CONVERSATIONS, remote

AWAITING = AgentState.AWAITING_USER_INPUT


@pytest.fixture
def ledger():
    return Ledger(100, None, Spending(1.0, 1000, 100))


def test_the_usage_of_a_turn_is_what_was_reported_since_it_began(ledger):
    ledger.report(Usage("m", 500, 50, cost=3.0))
    ledger.begin_turn()
    assert ledger.turn_usage() is None

    ledger.report(Usage("m", prompt_tokens=10, completion_tokens=5, cost=0.5))
    ledger.report(Usage("m", prompt_tokens=1, completion_tokens=2))

    assert ledger.turn_usage() == {"prompt_tokens": 11, "completion_tokens": 7, "cost": 0.5}


def test_the_cost_of_a_turn_is_unknown_where_no_call_had_a_price(ledger):
    ledger.report(Usage("m", prompt_tokens=1))

    assert ledger.turn_usage() == {"prompt_tokens": 1, "completion_tokens": 0, "cost": None}


def accumulated(cost, prompt=None, completion=None):
    """Metrics as an agent accumulates them."""
    tokens = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"accumulated_cost": cost, "accumulated_token_usage": tokens}


def test_of_metrics_that_an_agent_accumulates_a_turn_has_what_they_grew_by(ledger):
    ledger.note(accumulated(1.5, 1010, 101))
    ledger.begin_turn()
    ledger.note(accumulated(2.0, 1020, 103))
    ledger.note(accumulated(2.25, 1021, 104))

    assert ledger.turn_usage() == {"prompt_tokens": 11, "completion_tokens": 3, "cost": 0.75}


def test_an_agent_that_counts_from_the_beginning_again_has_used_what_it_says(ledger):
    ledger.note(accumulated(0.25, 10, 1))

    assert ledger.turn_usage() == {"prompt_tokens": 10, "completion_tokens": 1, "cost": 0.25}


@pytest.mark.parametrize("tokens", [None, "many", {"prompt_tokens": -1}, {"prompt_tokens": 1.5}])
def test_tokens_that_are_none_count_for_nothing(ledger, tokens):
    ledger.note({"accumulated_cost": 1.5, "accumulated_token_usage": tokens})

    assert ledger.turn_usage() == {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.5}


async def test_each_turn_is_listed_with_its_own_usage():
    agent = "tests.support.turn_agents:Counting"
    async with live_server(agent_class=agent) as live, remote(live.url) as api:
        one = await live.new()
        async with live.joined(one) as client:
            await client.state(AWAITING)
            for text in ("a", "nothing", "b"):
                said = await client.say(text)
                await client.state(AWAITING, after=said["id"])
        found = (await api.client.get(f"{CONVERSATIONS}/{one}/turns")).json()["turns"]

    used = {"prompt_tokens": 11, "completion_tokens": 7, "cost": 0.75}
    assert [turn["usage"] for turn in found] == [used, None, used]
