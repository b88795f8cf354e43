"""Connection limits, in all and per address, and the deadline for handshakes."""

import asyncio
import logging
from asyncio import TimerHandle
from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf
from time import monotonic

from server.access.rate_limits import RateClass, RateLimits
from server.config.settings import ServerConfig
from server.errors import WRONG_KEY, NotAvailable, RateLimited, Refused

logger = logging.getLogger(__name__)


class TokenBucket:
    """A token bucket. Callers lower `tokens` themselves, and read the clock only when it is negative."""

    __slots__ = ("_at", "_burst", "_rate", "tokens")

    def __init__(self, per_second: float, burst: float) -> None:
        self.tokens = burst
        self._rate = per_second
        self._burst = burst
        self._at = monotonic()

    def lacking(self) -> float:
        """Refill by the elapsed time; return the seconds until no token is lacking, 0.0 if none is."""
        now = monotonic()
        self.tokens = min(self._burst, self.tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, -self.tokens / self._rate)


UNLIMITED = TokenBucket(1.0, inf)
"""A bucket that never runs out; stateless, so every connection may share it."""


class QueuedTokenBucket(TokenBucket):
    """A token bucket with a queue of callbacks that run when tokens are available again.

    A callback takes the tokens it needs, and queues again for more. At most one runs in each
    iteration of the event loop, since a callback may take none.
    """

    __slots__ = ("_timer", "_waiting")

    def __init__(self, per_second: float, burst: float) -> None:
        super().__init__(per_second, burst)
        self._waiting: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._timer: TimerHandle | None = None

    @property
    def exhausted(self) -> bool:
        """Whether a new caller has to wait."""
        return bool(self._waiting) or (self.tokens < 0 and self.lacking() > 0)

    def wait(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when tokens are available, after those that waited before it."""
        self._waiting[callback] = None
        if self._timer is None:
            self._set_timer()

    def leave(self, callback: Callable[[], None]) -> None:
        """Remove a callback from the queue; nothing happens if it is not queued."""
        self._waiting.pop(callback, None)

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.lacking(), self._run_next)

    def _run_next(self) -> None:
        self._timer = None
        try:
            if self._waiting and not self.lacking():
                callback, _ = self._waiting.popitem(last=False)
                callback()
        finally:
            if self._waiting:
                self._set_timer()


UNLIMITED_QUEUED = QueuedTokenBucket(1.0, inf)
"""A bucket that never runs out; nothing queues on it, so every connection may share it."""


MAX_REMEMBERED = 10_000
"""Addresses whose buckets are remembered; the oldest is forgotten."""
SHARE = 8
"""An address may have one in this many of the pending handshakes."""
PACKETS_PER_EVENT = 2
"""Packets of any kind allowed for each event allowed; packets beyond that wait in the kernel."""
RETRY_SECONDS = 5.0


class ConnectionLimits:
    """Counts the clients of one server, in all and per address: connections and polling sessions.

    Unlimited addresses count towards the total only.
    """

    def __init__(self, config: ServerConfig, rates: RateLimits) -> None:
        self.rates = rates
        self.evicted = 0
        """Clients closed because they were too slow, displaced by newer ones, or banned."""
        self._config = config
        self._admitted = 0
        self._by_address: Counter[str] = Counter()
        self._waiting: dict[Admission, None] = {}
        self._handshakes_by_address: dict[str, dict[Admission, None]] = {}
        self._buckets: dict[str, tuple[TokenBucket, QueuedTokenBucket]] = {}

    def __len__(self) -> int:
        return self._admitted

    @property
    def handshakes(self) -> int:
        """Connections whose handshake is not complete."""
        return len(self._waiting)

    def check(self, address: str) -> None:
        """Raise RateLimited when no more can come from an address, NotAvailable from any."""
        if self._admitted >= self._config.max_connections:
            raise NotAvailable("The server has reached its limit of connections; try again later")
        self._check_address(address)

    def _check_address(self, address: str) -> None:
        is_full = self._by_address[address] >= self._config.max_connections_per_address
        if not self._by_address[address]:
            del self._by_address[address]
        if is_full or self.rates.is_banned(address):
            raise RateLimited(RETRY_SECONDS)

    def admit(self, address: str, end: Callable[[], object]) -> "Admission":
        """Admit a client; `end` is called to evict it. Raises RateLimited, NotAvailable."""
        self.check(address)
        admission = Admission(self, address, end)
        self._admitted += 1
        self._count(address, 1)
        return admission

    def event_bucket(self, address: str) -> TokenBucket:
        """Return the token bucket for events that the connections of an address share."""
        return self._buckets_of(address)[0]

    def packet_bucket(self, address: str) -> QueuedTokenBucket:
        """Return the token bucket for packets that the connections of an address share."""
        return self._buckets_of(address)[1]

    def _buckets_of(self, address: str) -> tuple[TokenBucket, QueuedTokenBucket]:
        if self.rates.addresses.is_unlimited(address):
            return UNLIMITED, UNLIMITED_QUEUED
        found = self._buckets.pop(address, None)
        if found is None:
            rate, burst = self._config.actions_per_second, self._config.action_burst
            found = (
                TokenBucket(rate, burst),
                QueuedTokenBucket(PACKETS_PER_EVENT * rate, PACKETS_PER_EVENT * burst),
            )
        # Kept beyond the last connection, so that reconnecting does not refill it.
        self._buckets[address] = found
        if len(self._buckets) > MAX_REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        return found

    def _count(self, address: str, change: int) -> None:
        if self.rates.addresses.is_unlimited(address):
            return
        self._by_address[address] += change
        if self._by_address[address] <= 0:
            del self._by_address[address]

    def _begin_handshake(self, admission: "Admission") -> TimerHandle:
        """Start the deadline of a handshake; if there are too many, evict the oldest."""
        mine = self._handshakes_by_address.setdefault(admission.address, {})
        share = max(1, self._config.max_handshakes // SHARE)
        if len(mine) >= share and not self.rates.addresses.is_unlimited(admission.address):
            next(iter(mine)).evict()
        elif len(self._waiting) >= self._config.max_handshakes:
            next(iter(self._waiting)).evict()
        self._waiting[admission] = None
        self._handshakes_by_address.setdefault(admission.address, {})[admission] = None
        loop = asyncio.get_running_loop()
        return loop.call_later(self._config.handshake_seconds, admission.evict)

    def _end_handshake(self, admission: "Admission") -> None:
        del self._waiting[admission]
        mine = self._handshakes_by_address[admission.address]
        del mine[admission]
        if not mine:
            del self._handshakes_by_address[admission.address]


def _nothing() -> None:
    """Do nothing: the end of a client that has left."""


class Admission:
    """One admitted client, counted for its address until it leaves."""

    __slots__ = ("_end", "_left", "_limits", "_timer", "address")

    def __init__(
        self, connection_limits: ConnectionLimits, address: str, end: Callable[[], object]
    ) -> None:
        self.address = address
        self._limits = connection_limits
        self._end = end
        self._left = False
        self._timer: TimerHandle | None = None

    @property
    def in_handshake(self) -> bool:
        """Whether the client has not yet sent a complete request or CONNECT."""
        return self._timer is not None

    def expect_handshake(self) -> None:
        """Evict the client unless its handshake is complete within `handshake_seconds`."""
        if self._timer is None and not self._left:
            self._timer = self._limits._begin_handshake(self)  # noqa: SLF001 - of one module

    def handshake_done(self) -> None:
        """Stop the handshake's deadline; nothing happens if none is running."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._limits._end_handshake(self)  # noqa: SLF001 - of one module

    def end_by(self, end: Callable[[], object]) -> None:
        """Replace the call that ends the client."""
        self._end = end

    def move(self, address: str) -> None:
        """Count the client for another address, reported by a proxy. Raises RateLimited."""
        if address == self.address:
            return
        self._limits._check_address(address)  # noqa: SLF001 - of one module
        in_handshake = self.in_handshake
        self.handshake_done()
        self._limits._count(self.address, -1)  # noqa: SLF001 - of one module
        self.address = address
        self._limits._count(address, 1)  # noqa: SLF001 - of one module
        if in_handshake:
            self.expect_handshake()

    def violated(self) -> None:
        """Count a protocol violation of the client."""
        self._limits.rates.violated(self.address)

    def check_failures(self) -> None:
        """Raise RateLimited if the client's address has sent too many wrong keys."""
        self._limits.rates.check(RateClass.FAILURES, self.address)

    def refused(self, refused: Refused) -> None:
        """Count a wrong key, and let the client try once more within the handshake deadline."""
        if str(refused) == WRONG_KEY:
            self._limits.rates.note(RateClass.FAILURES, self.address)
        self.expect_handshake()

    def evict(self) -> None:
        """End the client, which has not completed its handshake in time."""
        self.handshake_done()
        self._limits.evicted += 1
        logger.info(
            "closed a connection of %s: it sent no complete request or CONNECT in time",
            self.address,
        )
        self.violated()
        self._end()

    def leave(self) -> None:
        """Stop counting the client, which has gone."""
        self.handshake_done()
        self._end = _nothing  # it leads back to the connection, and would hold it
        if not self._left:
            self._left = True
            self._limits._admitted -= 1  # noqa: SLF001 - of one module
            self._limits._count(self.address, -1)  # noqa: SLF001 - of one module
