"""Kills and stops in the middle of turns: each question is answered once, or told not to be."""

import itertools

import pytest

from tests.support.held_turns import Later, Moment
from tests.support.seeds import chosen_seed
from tests.support.turn_rounds import RESUMING, run_held_rounds, run_turn_rounds

ROUNDS = 24
"""Rounds of a kill or a stop at a random moment, over all storages and agents."""
HELD_ROUNDS = 2
"""One kill and one stop at the named moments, for each storage and agent."""
KINDS = list(itertools.product(("sqlite", "local"), ("Held", "HeldAgain")))


@pytest.mark.parametrize(("storage", "agent"), KINDS)
async def test_no_question_is_lost_or_answered_twice_whenever_the_server_is_cut_short(
    storage, agent, tmp_path, record_property
):
    seed, rounds = chosen_seed(), -(-ROUNDS // len(KINDS))
    record_property("figures", f"seed {seed}")

    figures = await run_turn_rounds(tmp_path, seed, rounds, storage, agent)

    record_property("figures", str(figures))
    assert figures.rounds == rounds
    assert figures.counts["answered"] > 0


@pytest.mark.parametrize(("storage", "agent"), KINDS)
async def test_a_turn_that_is_cut_short_at_a_named_moment_is_neither_lost_nor_done_twice(
    storage, agent, tmp_path, record_property
):
    figures = await run_held_rounds(tmp_path, HELD_ROUNDS, storage, agent)

    record_property("figures", str(figures))
    assert figures.counts["SIGKILL"] == figures.counts["SIGTERM"] == 1
    # A message to each moment and one more; in text after an approval only an agent that resumes stays.
    messages = HELD_ROUNDS * (len(Moment) + 1 + len(Later) - (agent != RESUMING))
    assert figures.counts["answered"] + figures.counts["told"] == messages
