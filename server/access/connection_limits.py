"""Connection limits, in all and per address, and the deadline for handshakes."""

import asyncio
import logging
from asyncio import TimerHandle
from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf
from time import monotonic

from server.access.rate_limits import RateClass, Rates
from server.config.settings import ServerConfig
from server.errors import WRONG_KEY, NotAvailable, RateLimited, Refused

logger = logging.getLogger(__name__)


class Allowance:
    """Whoever takes one lowers `tokens` by one; only when none is left the clock is looked at."""

    __slots__ = ("_at", "_burst", "_rate", "tokens")

    def __init__(self, per_second: float, burst: float) -> None:
        self.tokens = burst
        self._rate = per_second
        self._burst = burst
        self._at = monotonic()

    def lacking(self) -> float:
        """Fill with what time has brought; the seconds until no token is lacking, 0.0 if none is."""
        now = monotonic()
        self.tokens = min(self._burst, self.tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, -self.tokens / self._rate)


UNLIMITED = Allowance(1.0, inf)
"""Never lacks one, and may be shared by all."""


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


MAX_REMEMBERED = 10_000
"""Addresses whose allowance is known; the oldest is forgotten."""
SHARE = 8
"""One address may have this part of the handshakes under way."""
PACE = 2
"""Packets of any kind may come so many times as fast as events; then they wait in the kernel."""
RETRY_SECONDS = 5.0


class Crowd:
    """The clients of one server: network connections, and sessions that poll.

    Nothing is counted for unlimited addresses but the whole.
    """

    def __init__(self, config: ServerConfig, rates: Rates) -> None:
        self.rates = rates
        self.cut = 0
        """Places that were taken back: too slow, crowded out, or banned."""
        self._config = config
        self._places = 0
        self._by_address: Counter[str] = Counter()
        self._waiting: dict[Place, None] = {}
        self._waiting_by_address: dict[str, dict[Place, None]] = {}
        self._allowances: dict[str, tuple[Allowance, Pace]] = {}

    def __len__(self) -> int:
        return self._places

    @property
    def handshakes(self) -> int:
        """Connections whose handshake is not complete."""
        return len(self._waiting)

    def check(self, address: str) -> None:
        """Raise RateLimited when no more can come from an address, NotAvailable from any."""
        if self._places >= self._config.max_connections:
            raise NotAvailable("The server has reached its limit of connections; try again later")
        self._check_address(address)

    def _check_address(self, address: str) -> None:
        crowded = self._by_address[address] >= self._config.max_connections_per_address
        if not self._by_address[address]:
            del self._by_address[address]
        if crowded or self.rates.is_banned(address):
            raise RateLimited(RETRY_SECONDS)

    def enter(self, address: str, end: Callable[[], object]) -> "Place":
        """A place of an address; `end` takes it back. Raises what `check` raises."""
        self.check(address)
        place = Place(self, address, end)
        self._places += 1
        self._count(address, 1)
        return place

    def allowance(self, address: str) -> Allowance:
        """Return the token bucket for events that the connections of an address share."""
        return self._allowed(address)[0]

    def pace(self, address: str) -> Pace:
        """Return the token bucket for packets that the connections of an address share."""
        return self._allowed(address)[1]

    def _allowed(self, address: str) -> tuple[Allowance, Pace]:
        if self.rates.addresses.is_unlimited(address):
            return UNLIMITED, UNPACED
        found = self._allowances.pop(address, None)
        if found is None:
            rate, burst = self._config.actions_per_second, self._config.action_burst
            found = Allowance(rate, burst), Pace(PACE * rate, PACE * burst)
        # Kept beyond the last connection, so that to come again is no way to more.
        self._allowances[address] = found
        if len(self._allowances) > MAX_REMEMBERED:
            del self._allowances[next(iter(self._allowances))]
        return found

    def _count(self, address: str, change: int) -> None:
        if self.rates.addresses.is_unlimited(address):
            return
        self._by_address[address] += change
        if self._by_address[address] <= 0:
            del self._by_address[address]

    def _wait(self, place: "Place") -> TimerHandle:
        """Note a handshake; where there are too many, the oldest gives way."""
        mine = self._waiting_by_address.setdefault(place.address, {})
        share = max(1, self._config.max_handshakes // SHARE)
        if len(mine) >= share and not self.rates.addresses.is_unlimited(place.address):
            next(iter(mine)).take_back()
        elif len(self._waiting) >= self._config.max_handshakes:
            next(iter(self._waiting)).take_back()
        self._waiting[place] = None
        self._waiting_by_address.setdefault(place.address, {})[place] = None
        loop = asyncio.get_running_loop()
        return loop.call_later(self._config.handshake_seconds, place.take_back)

    def _settle(self, place: "Place") -> None:
        del self._waiting[place]
        mine = self._waiting_by_address[place.address]
        del mine[place]
        if not mine:
            del self._waiting_by_address[place.address]


def _nothing() -> None:
    """Ends whoever has left."""


class Place:
    """One client's, until it leaves."""

    __slots__ = ("_crowd", "_end", "_left", "_timer", "address")

    def __init__(self, crowd: Crowd, address: str, end: Callable[[], object]) -> None:
        self.address = address
        self._crowd = crowd
        self._end = end
        self._left = False
        self._timer: TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether the client owes a word."""
        return self._timer is not None

    def wait(self) -> None:
        """From now on the client owes a word; without one it is ended after a while."""
        if self._timer is None and not self._left:
            self._timer = self._crowd._wait(self)  # noqa: SLF001 - of one module

    def settle(self) -> None:
        """The client has said what it wants."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._crowd._settle(self)  # noqa: SLF001 - of one module

    def end_by(self, end: Callable[[], object]) -> None:
        """Call this to end the client, from now on."""
        self._end = end

    def move(self, address: str) -> None:
        """It is another address's, as a proxy says. Raises RateLimited."""
        if address == self.address:
            return
        self._crowd._check_address(address)  # noqa: SLF001 - of one module
        waiting = self.waiting
        self.settle()
        self._crowd._count(self.address, -1)  # noqa: SLF001 - of one module
        self.address = address
        self._crowd._count(address, 1)  # noqa: SLF001 - of one module
        if waiting:
            self.wait()

    def violated(self) -> None:
        """The client broke the protocol."""
        self._crowd.rates.violated(self.address)

    def refused(self, refused: Refused) -> None:
        """The client was not let in, and may ask once more."""
        if str(refused) == WRONG_KEY:
            self._crowd.rates.note(RateClass.FAILURES, self.address)
        self.wait()

    def take_back(self) -> None:
        """End the client, which said nothing."""
        self.settle()
        self._crowd.cut += 1
        logger.info(
            "closed a connection of %s: it sent no complete request or CONNECT in time",
            self.address,
        )
        self.violated()
        self._end()

    def leave(self) -> None:
        """The client is gone."""
        self.settle()
        self._end = _nothing  # it leads back to the connection, and would hold it
        if not self._left:
            self._left = True
            self._crowd._places -= 1  # noqa: SLF001 - of one module
            self._crowd._count(self.address, -1)  # noqa: SLF001 - of one module
