"""How fast the connections of one address are looked at: none before the others, a slice at a time."""

import asyncio
from asyncio import TimerHandle
from collections import OrderedDict
from collections.abc import Callable
from math import inf

from server.sockets.allowance import Allowance


class Pace(Allowance):
    """An allowance with a queue: whoever finds it used up, or others before him, waits his turn.

    The turn is a call; who is called takes what he needs in it, and comes again for more. One is
    called in a turn of the loop, since not all that is looked at takes a token.
    """

    __slots__ = ("_timer", "_waiting")

    def __init__(self, per_second: float, burst: float) -> None:
        super().__init__(per_second, burst)
        self._waiting: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._timer: TimerHandle | None = None

    @property
    def crowded(self) -> bool:
        """Whether whoever comes now has to wait."""
        return bool(self._waiting) or (self.tokens < 0 and self.lacking() > 0)

    def wait(self, turn: Callable[[], None]) -> None:
        """Call `turn`, once, when it is its turn; the order is that of the calls of this."""
        self._waiting[turn] = None
        if self._timer is None:
            self._set_timer()

    def leave(self, turn: Callable[[], None]) -> None:
        """Wait no more."""
        self._waiting.pop(turn, None)

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.lacking(), self._call_up)

    def _call_up(self) -> None:
        self._timer = None
        try:
            if self._waiting and not self.lacking():
                turn, _ = self._waiting.popitem(last=False)
                turn()
        finally:
            if self._waiting:
                self._set_timer()


UNPACED = Pace(1.0, inf)
"""Never lacks a token, and may be shared by all."""
