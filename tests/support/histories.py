"""Random histories of a state machine, as many as it takes to have tried what they are there for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

ROUNDS = 10


def try_histories(
    machine: type[RuleBasedStateMachine],
    floors: Mapping[str, float],
    *,
    histories: int,
    steps: int,
    phases: Sequence[Phase] = tuple(Phase),
    first_seed: int = 0,
    **attributes: Any,
) -> Counter[str]:
    """Return what happened in all histories of a machine, which has these attributes and `figures`.

    After the first so many come more, half as many at a time, while a figure is not above its
    floor. In each history Hypothesis leaves out some of the rules, and which ones it leaves out
    depends, in spite of the seed, on the modules that are loaded: in one round a rare figure is 0
    now and then, in all of them it is not.
    """
    figures: Counter[str] = Counter()
    for number in range(ROUNDS):
        # Of a class that was made anew, since a machine keeps the seed it was given.
        tried = type("Machine", (machine,), {**attributes, "figures": figures})
        seed(first_seed + number)(tried)
        run_state_machine_as_test(
            tried,
            settings=settings(
                max_examples=histories if number == 0 else -(-histories // 2),
                stateful_step_count=steps,
                phases=phases,
                database=None,
                deadline=None,
            ),
        )
        if not short_of(floors, figures):
            break
    return figures


def short_of(floors: Mapping[str, float], figures: Counter[str]) -> dict[str, int]:
    """Return the figures that are not above their floors."""
    return {name: figures[name] for name, floor in floors.items() if figures[name] <= floor}
