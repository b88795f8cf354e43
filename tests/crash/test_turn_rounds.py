"""Kills and stops at random moments of turns: each question is answered once, or told not to be."""

import pytest

from tests.support.seeds import chosen_seed
from tests.support.turn_rounds import run_turn_rounds

ROUNDS = 5


@pytest.mark.parametrize(("storage", "agent"), [("sqlite", "BusyAgain"), ("local", "Busy")])
@pytest.mark.timeout(180)
async def test_no_question_is_lost_or_answered_twice_whenever_the_server_is_cut_short(
    storage, agent, tmp_path, record_property
):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_turn_rounds(tmp_path, seed, ROUNDS, storage, agent)

    record_property("figures", str(figures))
    assert figures.rounds == ROUNDS
    assert figures.counts["answered"] > 0
