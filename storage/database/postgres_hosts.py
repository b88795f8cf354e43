"""The hosts of a PostgreSQL database's address: the one that takes writes, and none that was replaced.

The driver tries several hosts within one deadline, so that one that does not answer keeps it from the
others, and knows nothing of a primary that comes back after its standby has been promoted. So each
host is tried by itself here, and says where its history stands before it is used.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol

import asyncpg

from storage.database.postgres_url import Host, hosts_of
from storage.errors import Unavailable

logger = logging.getLogger(__name__)

LONGEST_BACKOFF_SECONDS = 2.0
FIRST_BACKOFF_SECONDS = 0.1
KEPT_STATEMENTS = 100
NO_IDENTITY = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedFunctionError,
)
"""The answers of a service that does not say which cluster and timeline it is on."""


class Breaker:
    """Refuses to connect for a while after it failed, longer each time; lets one try then."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._retry_at = 0.0
        self._reason = ""
        self.failing_since: float | None = None
        """When the first of the failures in a row was, by the loop's clock."""

    @property
    def pause_seconds(self) -> float:
        """Return how long nobody may connect from now on."""
        return max(0.0, self._retry_at - self._clock())

    def check(self) -> None:
        """Raise Unavailable during the pause."""
        if self.pause_seconds > 0:
            raise Unavailable(f"PostgreSQL cannot be reached: {self._reason}")

    def failed(self, reason: str) -> None:
        """Begin a pause. Its length is random, so that several servers do not come together."""
        now = self._clock()
        limit = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self._failures)
        pause = random.uniform(FIRST_BACKOFF_SECONDS / 2, limit)  # noqa: S311 - no secret
        self._failures = min(self._failures + 1, 10)
        self._retry_at = now + pause
        self._reason = reason
        self.failing_since = now if self.failing_since is None else self.failing_since

    def connected(self) -> None:
        """End the row of failures."""
        self._failures = 0
        self._retry_at = 0.0
        self.failing_since = None


class Moved(Protocol):
    """Is called when earlier connections lead to a host that is not to be used any more."""

    def __call__(self, *, ends_work: bool, promoted: bool = False) -> None:
        """Let go of idle connections; with `ends_work` also close those that are at work.

        `promoted`: the host to use from now on was a standby until a moment ago.
        """


class Identity(NamedTuple):
    """The history that a host goes on with."""

    system: int
    """The number that `initdb` gave the cluster, which its standbys share."""
    timeline: int
    """Grows each time a standby is promoted."""


class History:
    """The newest history that this process has seen; hosts that stand before it are refused."""

    def __init__(self) -> None:
        self.newest: Identity | None = None

    def check(self, found: Identity) -> bool:
        """Return whether the host found is the first one seen after a promotion.

        Raises Unavailable for one that was replaced, and for one of another cluster.
        """
        newest = self.newest or found
        if newest.system != found.system:
            raise Unavailable(
                f"it belongs to the cluster {found.system}, and what was written here lies in"
                f" {newest.system}"
            )
        if newest.timeline > found.timeline:
            raise Unavailable(
                f"it was replaced: it is on timeline {found.timeline}, and {newest.timeline} was seen"
            )
        self.newest = found
        return newest != found


class Address:
    """An address of the database, to which one connects at a time, and nobody during a pause.

    One that does not answer keeps nobody from another. Of several hosts the one used last is tried
    first, and each has its part of the time; one that takes no writes is passed over. `moved` is
    called before the connection that it is about is returned.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float],
        history: History,
        identify: str,
        moved: Moved,
        *,
        has_sessions: bool,
    ) -> None:
        self.breaker = Breaker(clock)
        self.has_sessions = has_sessions
        """Whether a session lasts as long as its connection, so that statements stay prepared."""
        self._url = url
        self._clock = clock
        self._history = history
        self._identify = identify
        self._moved = moved
        # A single one is left to the driver, which also reads what an address need not say.
        hosts: list[Host] = []
        with suppress(ValueError):  # the driver says so, too
            hosts = hosts_of(url)
        self._hosts: Sequence[Host | None] = hosts if len(hosts) > 1 else [None]
        self._used: Host | None = None
        """The host of the newest connection."""
        self._connecting = asyncio.Lock()

    async def connect(self, seconds: float) -> "asyncpg.Connection[asyncpg.Record]":
        """Return a new connection, which is the caller's to close. Raises Unavailable."""
        self.breaker.check()
        async with self._connecting:
            self.breaker.check()
            reasons: list[str] = []
            for host in sorted(self._hosts, key=lambda one: one != self._used):
                try:
                    connection = await self._connect_to(host, seconds / len(self._hosts))
                except Exception as error:  # noqa: BLE001 - see the driver's habits in storage.database.postgres
                    reason = _reason_of(error)
                    reasons.append(reason if host is None else f"{host}: {reason}")
                    if host == self._used and isinstance(error, OSError):
                        self._moved(ends_work=False)
                    continue
                self.breaker.connected()
                if host != self._used and self._used is not None:
                    self._moved(ends_work=True)
                self._used = host
                return connection
            self.breaker.failed("; ".join(reasons))
            raise Unavailable(f"PostgreSQL cannot be reached: {'; '.join(reasons)}")

    async def _connect_to(
        self, host: Host | None, seconds: float
    ) -> "asyncpg.Connection[asyncpg.Record]":
        ends = self._clock() + seconds
        named: dict[str, Any] = {}
        if host is not None:
            # Whether it takes writes is asked below.
            named = {"host": host.name, "port": host.port, "target_session_attrs": "any"}
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            self._url,
            timeout=seconds,
            statement_cache_size=KEPT_STATEMENTS if self.has_sessions else 0,
            **named,
        )
        try:
            with in_time(connection, ends - self._clock()):
                await self._examine(connection, host)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _examine(
        self, connection: "asyncpg.Connection[asyncpg.Record]", host: Host | None
    ) -> None:
        """Raise Unavailable where the host is none to write to."""
        try:
            (found,) = await connection.fetch(self._identify)
        except NO_IDENTITY as error:
            logger.debug("PostgreSQL does not say which history it goes on with: %r", error)
            (found,) = await connection.fetch(
                "SELECT current_setting('transaction_read_only') = 'on', NULL, NULL"
            )
        takes_no_writes, system, timeline = found
        if takes_no_writes and host is not None:
            raise Unavailable("it takes no writes")
        if system is None or timeline is None:
            return
        identity = Identity(system, timeline)
        is_new = self._history.newest is None
        if self._history.check(identity):
            logger.warning("PostgreSQL was failed over: timeline %d of %d", timeline, system)
            self._moved(ends_work=True, promoted=True)
        elif is_new:
            logger.info("PostgreSQL is on timeline %d of the cluster %d", timeline, system)


@contextmanager
def in_time(connection: "asyncpg.Connection[asyncpg.Record]", seconds: float) -> Iterator[None]:
    """Close a connection that does not answer within so many seconds. Raises TimeoutError then.

    At a timeout of its own the driver would make another one, to have the statement cancelled.
    """
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        connection.terminate()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield
    except Exception as error:
        if expired:
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


def _reason_of(error: Exception) -> str:
    """Return why a connection failed, in words that hold nothing of the address's password.

    The server's words and the system's do not. The driver's own about an address that it cannot read
    may quote any part of that; see `check_url`.
    """
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncpg.PostgresError | OSError | Unavailable) and str(error):
        return " ".join(str(error).split())
    return type(error).__name__
