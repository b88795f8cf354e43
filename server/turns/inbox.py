"""The messages of the user that wait for the agent, as far as a loop holds them in memory."""

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

    def __bool__(self) -> bool:
        return bool(self._held) or self.unheld_from is not None

    def put(self, message: MessageAction) -> None:
        """Add a message of the log."""
        if self.unheld_from is not None or len(self._held) >= HELD_MESSAGES:
            self.unheld_from = message.id if self.unheld_from is None else self.unheld_from
        else:
            self._held.append(message)

    def first_id(self) -> int | None:
        """Return the id of the first message that waits."""
        return self._held[0].id if self._held else self.unheld_from

    def take(self) -> Sequence[MessageAction]:
        """Take out every message that is held."""
        taken = tuple(self._held)
        self._held.clear()
        return taken

    def remove(self, message: MessageAction) -> None:
        """Take one message out."""
        if message in self._held:
            self._held.remove(message)
