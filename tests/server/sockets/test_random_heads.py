"""Random request heads from 500 connections at once, a short run; the long one is `scripts/soak doors`."""

import pytest

from tests.support.doors_run import run_doors
from tests.support.seeds import chosen_seed

HEADS = 2500


@pytest.mark.parametrize("delivery", ["direct", "engine"])
async def test_every_connection_is_answered_or_closed_in_time_and_none_is_left(
    delivery, tmp_path, record_property
):
    seed = chosen_seed()
    figures = await run_doors(tmp_path, seed, HEADS, delivery)
    record_property("figures", f"{figures} (seed {seed})")

    assert not figures.late
    assert figures.left_open == 0
    assert figures.tracebacks == 0, figures.logged
    assert figures.heads >= HEADS
