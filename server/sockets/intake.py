"""Back-pressure: reading from a client stops while too many of its events are unanswered."""

import asyncio
from abc import ABC, abstractmethod

HOLD_AT = 512
"""Unanswered events of one client at which reading from it stops; a long event counts as several,
so that they hold at most 8 MiB."""
RESUME_AT = HOLD_AT // 2


class Intake(ABC):
    """The source of a client's events. `held` is set while reading from it is stopped."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = False

    def note(self, unanswered: int) -> None:
        """Stop reading at `HOLD_AT` unanswered events; resume at `RESUME_AT`."""
        if self.held:
            if unanswered <= RESUME_AT:
                self.held = False
                self._hold(hold=False)
        elif unanswered >= HOLD_AT:
            self.held = True
            self._hold(hold=True)

    @abstractmethod
    def close(self) -> None:
        """Stop handing on events: the client has left."""

    @abstractmethod
    def _hold(self, *, hold: bool) -> None: ...


class AwaitedIntake(Intake):
    """The source of a client whose messages are read by a task, which waits here."""

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
