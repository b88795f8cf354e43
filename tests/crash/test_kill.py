"""SIGKILL at random moments under load: what was acknowledged is there, and there once."""

import pytest

from tests.support.kill_rounds import run_kill_rounds
from tests.support.seeds import chosen_seed

ROUNDS = {"sqlite": 7, "local": 7, "postgres": 5, "cloud": 5}


@pytest.mark.parametrize("storage", ROUNDS)
async def test_nothing_acknowledged_is_lost_or_doubled_by_a_kill(
    storage, tmp_path, record_property
):
    rounds = ROUNDS[storage]
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_kill_rounds(tmp_path, seed, rounds, storage)

    record_property("figures", str(figures))
    assert figures.rounds == rounds
    assert figures.fewest_acknowledged >= 50
    assert figures.acknowledged_before >= 10 * rounds
    assert figures.repeated > 0
    assert figures.known > 0
