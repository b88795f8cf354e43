"""Clients that come and go while texts are written and servers die hold what was written."""

from tests.support.delta_cuts import run_delta_cuts
from tests.support.seeds import chosen_seed

CUTS = 100


async def test_whoever_wanders_holds_the_beginning_of_a_text_or_its_event(
    tmp_path, record_property
):
    seed = chosen_seed()
    record_property("figures", f"seed {seed}")

    figures = await run_delta_cuts(tmp_path, seed, CUTS, "sqlite", wanderers=16, kill_seconds=3.0)

    record_property("figures", str(figures))
    assert figures.cuts >= CUTS
    assert figures.in_text > 0
    assert figures.kills > 0
    assert figures.texts > 0
