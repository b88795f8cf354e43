from typing import Any

import pytest

from events.summary import SummaryChange, fold

STAMP = "2026-03-02T09:15:07.120334Z"


def metrics(cost: Any = 0.5, **usage: Any) -> dict[str, Any]:
    return {"accumulated_cost": cost, "accumulated_token_usage": usage}


def test_an_event_sets_the_last_id_and_time_and_nothing_else():
    change = fold(None, 4, {"timestamp": STAMP, "action": "message"})

    assert change == SummaryChange(last_event_id=4, last_updated_at=STAMP)


def test_metrics_set_cost_and_tokens():
    payload = {"llm_metrics": metrics(1, prompt_tokens=800, completion_tokens=40)}

    change = fold(None, 0, payload)

    assert change.accumulated_cost == 1.0
    assert isinstance(change.accumulated_cost, float)
    assert (change.prompt_tokens, change.completion_tokens, change.total_tokens) == (800, 40, 840)


def test_the_newest_event_wins_and_what_it_does_not_say_stays():
    first = {
        "timestamp": STAMP,
        "observation": "agent_state_changed",
        "llm_metrics": metrics(prompt_tokens=1, completion_tokens=2),
    }
    later = {"timestamp": "2026-03-02T09:16:00.000000Z", "llm_metrics": {"accumulated_cost": 0.25}}

    change = fold(fold(None, 0, first), 1, later)

    assert change == SummaryChange(
        last_event_id=1,
        last_updated_at="2026-03-02T09:16:00.000000Z",
        accumulated_cost=0.25,
        prompt_tokens=1,
        completion_tokens=2,
        total_tokens=3,
        last_state_id=0,
    )


def test_the_newest_state_is_remembered_by_its_id():
    state = {"observation": "agent_state_changed", "source": "environment"}

    change = fold(fold(fold(None, 0, state), 5, state), 6, {"action": "change_agent_state"})

    assert change.last_state_id == 5


def test_an_event_without_a_time_keeps_the_known_one():
    change = fold(SummaryChange(last_updated_at=STAMP), 1, {"timestamp": 7})

    assert change.last_updated_at == STAMP


@pytest.mark.parametrize("cost", [None, True, "1", -1, float("nan"), float("inf"), 10**400, []])
def test_a_malformed_cost_is_left_out(cost):
    known = SummaryChange(accumulated_cost=0.5)

    change = fold(known, 1, {"llm_metrics": metrics(cost, prompt_tokens=1)})

    assert change.accumulated_cost == 0.5
    assert change.total_tokens == 1


@pytest.mark.parametrize("count", [None, True, "1", -1, 1.5, 2**63])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_malformed_tokens_are_left_out(name, count):
    known = SummaryChange(prompt_tokens=1, completion_tokens=2, total_tokens=3)

    change = fold(known, 1, {"llm_metrics": metrics(0.75, **{name: count})})

    assert (change.prompt_tokens, change.completion_tokens, change.total_tokens) == (1, 2, 3)
    assert change.accumulated_cost == 0.75


@pytest.mark.parametrize("given", [None, 7, [], {}, {"accumulated_token_usage": []}])
def test_metrics_of_another_shape_change_nothing(given):
    assert fold(None, 1, {"llm_metrics": given}) == SummaryChange(last_event_id=1)


@pytest.mark.parametrize(
    ("payload", "is_said"),
    [
        ({"action": "message", "source": "user"}, True),
        ({"action": "message", "source": "agent"}, True),
        ({"action": "finish", "source": "agent"}, True),
        ({"action": "message", "source": "environment"}, False),
        ({"action": "run", "source": "agent"}, False),
        ({"action": "recall", "source": "user"}, False),
        ({"observation": "agent_state_changed", "source": "environment"}, False),
        ({"observation": "message", "source": "user"}, False),
    ],
)
def test_states_and_results_are_no_messages(payload, is_said):
    known = SummaryChange(last_message_at="2026-01-01T00:00:00.000000Z")

    change = fold(known, 1, {"timestamp": STAMP, **payload})

    assert change.last_updated_at == STAMP
    assert change.last_message_at == (STAMP if is_said else known.last_message_at)
