"""The claim under which the holder of a log's agent loop appends."""

import secrets
from typing import NamedTuple

THIS_PROCESS = secrets.randbits(63)
"""The holder of the claims that this process makes by itself."""


class Fence(NamedTuple):
    """A claim to hold the loop of a log.

    `number` is at least 1 and grows with each claim. `holder` is drawn at random by the process
    that claims, from 63 bits, so that two claims with the same number can be distinguished.
    """

    number: int
    holder: int

    def is_stale(self, held: "Fence | None") -> bool:
        """Return whether a log held by `held` refuses this claim."""
        return held is not None and self != held and self.number <= held.number

    @classmethod
    def after(cls, held: "Fence | None") -> "Fence":
        """Return a claim of this process that takes the loop over from `held`."""
        return cls(1 if held is None else held.number + 1, THIS_PROCESS)
