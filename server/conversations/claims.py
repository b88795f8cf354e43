"""Claims to the loops of conversations: made before each start, by the process that would run it.

A manager of one process asks nobody. In a cluster the claims are rows that all processes share, and
a process runs loops under a lease, which it loses when it cannot say that it lives.
"""

from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from events.fence import Fence
from server.agent.lease import Lease


@dataclass(frozen=True, slots=True)
class Held:
    """The loop is this process's: it appends under the fence."""

    fence: Fence | None = None
    """None: the fence follows from the stream, as nobody else claims."""


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Another process that lives holds the loop, and takes up what is in the log."""

    node: str


@dataclass(frozen=True, slots=True)
class Waits:
    """All slots of the user are taken, or this process was declared dead; claim again later."""


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such log, as of a conversation that was deleted, or no place in line any more."""


Claimed: TypeAlias = Held | HeldBy | Waits | Gone

HELD = Held()


class Claims(Protocol):
    """Claims to loops, shared by the processes that may run them."""

    @property
    def lease(self) -> Lease:
        """The lease under which this process runs loops."""

    def claim(
        self, conversation_id: str, owner: str | None, *, has_work: bool, in_line: bool = False
    ) -> Coroutine[Any, Any, Claimed]:
        """Claim a loop for this process. Claiming again what it holds makes a new fence.

        One that Waits stays in line until it is claimed or released. `has_work` says that a message
        is to be answered; such loops come first. With `in_line` it was told to wait before: it is Gone
        once somebody has given up its place, or a loop has run. Raises StorageError, StoreUnavailable.
        """

    def release(self, conversation_id: str) -> Coroutine[Any, Any, None]:
        """Give back a loop, or its place in line; nothing where another holds it.

        Nothing either once this process was declared dead: then others take over. What cannot be
        given back now is given back later. Raises nothing.
        """


class LoopRow(NamedTuple):
    """A loop as every process knows it."""

    conversation_id: str
    user_id: str | None
    node: str | None
    """The name of the process that holds it; None while it waits, or is being taken over."""
    here: bool
    """Whether this process holds it."""
    waits: bool
    """Whether it is in line for a slot."""
    working: bool


class SharedClaims(Claims, Protocol):
    """Claims with what processes ask of each other. All calls raise StorageError, StoreUnavailable."""

    async def loop_of(self, conversation_id: str) -> LoopRow | None:
        """Return a conversation's loop; None if it has none, and none waits."""

    async def loops_of(self, user_id: str | None, only: Collection[str] | None) -> list[LoopRow]:
        """Return a user's loops; those of `only` unless it is None."""

    async def every_loop(self) -> list[LoopRow]:
        """Return the loops of all users."""

    async def ask_to_stop(self, conversation_id: str) -> None:
        """Ask the process that holds a loop to stop it; what only waits loses its place in line."""

    async def asked_to_stop(self) -> list[str]:
        """Return the conversations whose loops this process is asked to stop."""

    async def take_over(self, most: int) -> list[LoopRow]:
        """Claim loops of processes that were declared dead, those at work first, and return them.

        What stands in line for such a process leaves the line, and is returned to be claimed.
        """

    async def waiting_users(self) -> set[str | None]:
        """Return the users of whom a loop is in line."""
