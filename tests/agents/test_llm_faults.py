"""Whatever a model's provider does, the turn ends in the reason for it or goes on; and quotes nothing."""

import pytest
import pytest_asyncio

from runtime_stub.turn import Reason
from tests.support import model_endpoint as words
from tests.support.provider_cases import (
    BEGUN,
    FAULTS,
    NEVER_WRITTEN,
    SECONDS,
    Case,
    done,
    passes,
    run_cases,
    stays,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOOP = (
    "I have done the same thing 6 times, each time with the same result, and stopped."
    " How shall I go on?"
)
LONG = "word " * 5_000
RUN = ("run", '{"command": "echo one"}')
READ = ("run", '{"command": "echo two"}')
CASES = {
    **FAULTS,
    "plain": done(words.plain("Good morning."), "Good morning."),
    "slow": done(words.slow(SECONDS / 3), "Good morning to you."),
    "huge": done(words.plain(LONG), LONG),
    "reasoning": done(words.reasoning("Let me see.", "Yes."), "Yes."),
    "hang once": passes(words.hang()),
    "hang": stays(words.hang(), Reason.MODEL_UNREACHABLE),
    "hang after 3": stays(words.hang(3), Reason.MODEL_UNREACHABLE, cut=[BEGUN]),
    "cut after 3 once": passes(words.cut(3)),
    "no model": stays(words.no_model(), Reason.MODEL_FAILED, requests=1),
    "garbage arguments": stays(words.garbage_arguments(), Reason.MODEL_FAILED, requests=3),
    "two calls at once": passes(words.calls(RUN, READ)),
    "loop": Case(
        [words.calls(RUN)] * 6,
        [LOOP],
        requests=6,
    ),
}
QUICK = ("401", "400", "500", "no model", "an error in the stream", "cut after 3", "loop")
"""One for each way in which something of an error comes to the server."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory):
    return await run_cases(tmp_path_factory.mktemp("server"), CASES)


@pytest.mark.parametrize("name", CASES)
async def test_a_turn_recovers_from_what_the_provider_does_or_ends_in_the_reason_for_it(run, name):
    case, outcome = CASES[name], run.outcomes[name]

    assert outcome.texts(interrupted=False) == list(case.says)
    assert outcome.texts(interrupted=True) == list(case.cut)
    assert outcome.reason == case.reason
    assert len(outcome.requests) == case.requests


@pytest.mark.parametrize("planted", NEVER_WRITTEN)
async def test_nothing_that_a_provider_sends_in_an_error_is_written_told_or_logged(run, planted):
    assert run.holding(planted) == []


@pytest.mark.parametrize("storage", ["local", "memory"])
async def test_nothing_of_an_error_is_written_on_any_other_storage(storage, tmp_path):
    run = await run_cases(tmp_path, {name: CASES[name] for name in QUICK}, storage)

    for name, outcome in run.outcomes.items():
        assert outcome.reason == CASES[name].reason
    assert [run.holding(planted) for planted in NEVER_WRITTEN] == [[] for _ in NEVER_WRITTEN]


async def test_what_stands_in_a_log_or_a_data_directory_is_found_there(run):
    assert run.holding("Good morning.") == [
        "log of events",
        "what clients were sent",
        "data directory",
    ]
    assert "log of the server" in run.holding("model-1")


async def test_a_provider_that_names_a_time_is_asked_again_after_it_and_people_are_told(run):
    outcome = run.outcomes["429 once"]
    first, second = outcome.requests

    assert second.came_at - first.came_at >= 1.0
    assert any("The model is busy; trying again in 1 s." in one for one in outcome.notices)


async def test_a_call_that_no_tool_takes_is_answered_to_the_model(run):
    unknown = run.outcomes["unknown tool once"].requests[1].messages[-1]
    garbage = run.outcomes["garbage arguments once"].requests[1].messages[-1]

    assert (unknown["role"], garbage["role"]) == ("tool", "tool")
    assert unknown["content"].startswith("There is no tool teleport. There are: ")
    assert garbage["content"] == "The arguments of run were no JSON object. Call it again."


async def test_two_calls_at_once_are_both_carried_out_and_answered_in_their_order(run):
    second = run.outcomes["two calls at once"].requests[1]

    assert [one["content"] for one in second.messages if one["role"] == "tool"] == ["one", "two"]


async def test_a_model_that_repeats_itself_is_told_so_before_its_turn_ends(run):
    requests = run.outcomes["loop"].requests
    hints = [one.messages[-1]["content"] for one in requests if one.messages[-1]["role"] == "user"]

    assert hints[1] == (
        "You have done this 4 times, each time with the same result. Do something else."
    )
    kinds = [one.get("observation") for one in run.outcomes["loop"].log]
    assert kinds.count("loop_detection") == 1


async def test_a_stream_without_usage_is_counted_by_its_characters_and_marked(run):
    counted, reported = (
        [one["llm_metrics"] for one in run.outcomes[name].log if "llm_metrics" in one][-1]
        for name in ("no usage", "plain")
    )

    assert counted["estimated"] is True
    assert counted["accumulated_token_usage"]["completion_tokens"] == len("Good morning.") // 3.5
    assert "estimated" not in reported
    assert reported["accumulated_token_usage"]["completion_tokens"] == 7


async def test_what_a_model_thinks_is_shown_as_a_thought(run):
    thoughts = [
        one["args"]["thought"]
        for one in run.outcomes["reasoning"].log
        if one.get("action") == "think"
    ]
    assert thoughts == ["Let me see."]
