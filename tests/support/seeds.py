"""Random choices of a run that can be made again: set TEST_SEED to the seed it told."""

import os
import secrets
from random import Random

VARIABLE = "TEST_SEED"


def chosen_seed() -> int:
    """The seed that is asked for, else any."""
    return int(os.environ.get(VARIABLE) or secrets.randbelow(2**31))


def choices(seed: int) -> Random:
    """The choices that follow from a seed."""
    return Random(seed)  # noqa: S311 - to be repeated, not to be secret
