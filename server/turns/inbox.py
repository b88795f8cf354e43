"""Inbox, the messages of a log that no turn has taken up."""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Sequence

from events.actions import MessageAction

HELD_MESSAGES = 200
"""Messages that are held; of more only the first id is, and they are read from the log again."""


class Inbox:
    """Messages in log order that no turn has taken up.

    Bounded: beyond HELD_MESSAGES those that come are left in the log, from `unheld_from` on, until
    the ones before them have been taken up.
    """

    def __init__(self) -> None:
        self._held: deque[MessageAction] = deque()
        self.unheld_from: int | None = None
        self.seen = -1
        """The event up to which the log has been read."""
        self._waiter: tuple[int, Future[None]] | None = None

    def __bool__(self) -> bool:
        return bool(self._held) or self.unheld_from is not None

    @property
    def open_from(self) -> int:
        """The id of the first message that waits, else that of the next event."""
        waiting = self._held[0].id if self._held else self.unheld_from
        return self.seen + 1 if waiting is None else waiting

    def put(self, message: MessageAction) -> None:
        """Add a message of the log."""
        if self.unheld_from is not None or len(self._held) >= HELD_MESSAGES:
            self.unheld_from = message.id if self.unheld_from is None else self.unheld_from
        else:
            self._held.append(message)

    def messages(self) -> Sequence[MessageAction]:
        """Return every message that is held."""
        return tuple(self._held)

    def take(self) -> Sequence[MessageAction]:
        """Take out every message that is held."""
        taken = tuple(self._held)
        self._held.clear()
        return taken

    def put_back(self, message: MessageAction) -> None:
        """Add a message that was taken out and that nothing has answered: it comes first."""
        self._held.appendleft(message)

    def remove(self, message: MessageAction) -> None:
        """Take one message out."""
        if message in self._held:
            self._held.remove(message)

    def saw(self, event_id: int) -> None:
        """Note that the log has been read up to an event."""
        self.seen = event_id
        if self._waiter is not None and event_id >= self._waiter[0]:
            _, waiter = self._waiter
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def level(self, event_id: int) -> None:
        """Wait until the log has been read up to an event; one may wait at a time."""
        if self.seen < event_id:
            waiter: Future[None] = asyncio.get_running_loop().create_future()
            self._waiter = (event_id, waiter)
            await waiter
