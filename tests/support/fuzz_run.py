"""Gives one target many inputs and counts; the same seed gives the same ones."""

import time
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st

from tests.support.fuzz_mutants import variants
from tests.support.fuzz_targets import Target

VARIANTS = 24
"""Inputs made of each one that is drawn."""

HANG_SECONDS = 0.1
"""Time of this thread's own, so that a busy machine is no hang."""


@dataclass
class Figures:
    """The outcome of one target's inputs."""

    name: str
    inputs: int = 0
    taken: int = 0
    slowest_seconds: float = 0.0

    def __str__(self) -> str:
        slowest = self.slowest_seconds * 1000
        return f"{self.name}: {self.inputs} inputs, {self.taken} taken, slowest {slowest:.1f} ms"


def run_target(target: Target, inputs: int, chosen_seed: int) -> Figures:
    """Give a target that many inputs. Raises AssertionError, or what the target let through."""
    figures = Figures(target.name)

    @seed(chosen_seed)
    @settings(
        max_examples=ceil(inputs / (VARIANTS + 1)),
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(target.inputs, st.integers(0, 2**32))
    def check(drawn: Any, choices: int) -> None:
        for value in variants(drawn, Random(choices), VARIANTS):  # noqa: S311 - to be repeated
            _check_one(target, value, figures)

    check()
    return figures


def _check_one(target: Target, value: Any, figures: Figures) -> None:
    try:
        taken, elapsed = _timed(target, value)
        if elapsed > HANG_SECONDS:
            # The collector's turn comes once, a hang every time.
            taken, elapsed = _timed(target, value)
    except Exception as error:
        error.add_note(f"{target.name}: {ascii(value)[:4000]}")
        raise
    figures.inputs += 1
    figures.taken += taken
    figures.slowest_seconds = max(figures.slowest_seconds, elapsed)
    assert elapsed < HANG_SECONDS, f"{target.name} took {elapsed:.3f} s for {ascii(value)[:2000]}"


def _timed(target: Target, value: Any) -> tuple[bool, float]:
    begun = time.thread_time()
    return target.check(value), time.thread_time() - begun
