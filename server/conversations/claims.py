"""Who may run a conversation's loop: asked before each start, by the process that would run it.

A manager of one process asks nobody. In a cluster the claims are rows that all processes share, and
a process runs loops under a lease, which it loses when it cannot say that it lives.
"""

from typing import NamedTuple, Protocol, TypeAlias

from events.fence import Fence
from server.agent.lease import Lease


class Held(NamedTuple):
    """The loop is this process's: it appends under the fence."""

    fence: Fence | None = None
    """None: the fence follows from the stream, as nobody else claims."""


class HeldBy(NamedTuple):
    """Another process that lives holds the loop, and takes up what is in the log."""

    node: str


class Waits(NamedTuple):
    """All slots of the user are taken; claim again when one may be free."""


class Gone(NamedTuple):
    """The conversation was deleted, or this process was declared dead."""


Claimed: TypeAlias = Held | HeldBy | Waits | Gone

HELD = Held()


class Claims(Protocol):
    """Claims to loops, shared by the processes that may run them."""

    @property
    def lease(self) -> Lease:
        """The lease under which this process runs loops."""

    async def claim(self, conversation_id: str, owner: str | None, *, has_work: bool) -> Claimed:
        """Claim a loop for this process. Claiming again what it holds makes a new fence.

        One that Waits stays in line until it is claimed or released. `has_work` says that a message
        is to be answered; such loops come first. Raises StorageError, StoreUnavailable.
        """

    async def release(self, conversation_id: str) -> None:
        """Give back a loop, or its place in line; nothing where another holds it.

        What cannot be given back now is given back later. Raises nothing.
        """
