"""Bits of a storage that change at rest: nothing wrong is served, and nothing is lost without a word."""

import pytest

from tests.support.bit_flips import run_flips
from tests.support.report import counted
from tests.support.seeds import chosen_seed

FLIPS = 40


@pytest.mark.parametrize("kind", ["local", "sqlite"])
async def test_after_a_flipped_bit_nothing_wrong_is_served_and_damage_is_told(
    kind, tmp_path, record_property
):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_flips(tmp_path, seed, FLIPS, kind)

    record_property("figures", counted(figures))
    assert figures.total() == FLIPS
