"""Random input at every door: all of it is taken whole or refused in readable words."""

import pytest

from tests.support.fuzz_run import run_target
from tests.support.fuzz_targets import TARGETS
from tests.support.seeds import VARIABLE, chosen_seed

INPUTS = 20_000
"""Of all targets together."""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_every_input_is_taken_whole_or_refused_and_none_holds_anybody_up(target):
    seed = chosen_seed()

    figures = run_target(target, INPUTS // len(TARGETS) + 1, seed)

    assert figures.inputs * len(TARGETS) >= INPUTS, f"{VARIABLE}={seed}"
    assert 0 < figures.taken < figures.inputs, f"{VARIABLE}={seed}: {figures}"
