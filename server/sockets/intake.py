"""Back-pressure: the events of a client that may be unanswered before reading from it stops."""

import asyncio
from abc import ABC, abstractmethod

HOLD_AT = 512
"""Events of one client, long ones counted by their length, that are taken and unanswered before
no more is read from it: 8 MiB of long ones."""
GO_ON_AT = HOLD_AT // 2


class Intake(ABC):
    """The source of a client's events. `held`: reading from it is stopped."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = False

    def note(self, unanswered: int) -> None:
        """Hold at `HOLD_AT`, and go on when most is answered."""
        if self.held:
            if unanswered <= GO_ON_AT:
                self.held = False
                self._hold(hold=False)
        elif unanswered >= HOLD_AT:
            self.held = True
            self._hold(hold=True)

    @abstractmethod
    def close(self) -> None:
        """Take no more: the client has left."""

    @abstractmethod
    def _hold(self, *, hold: bool) -> None: ...


class AwaitedIntake(Intake):
    """Of a client whose messages are read one after the other by a task, which waits here."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        super().__init__()
        self._open: asyncio.Event | None = None

    async def ready(self) -> None:
        """Wait until the next message may be read."""
        if self._open is not None:
            await self._open.wait()

    def close(self) -> None:
        """See Intake."""
        self._hold(hold=False)

    def _hold(self, *, hold: bool) -> None:
        if hold:
            self._open = asyncio.Event()
        elif self._open is not None:
            self._open.set()
            self._open = None
