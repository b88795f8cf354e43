"""Keeps the open streams of a process up with logs to which other processes append."""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress

from events.errors import EventsError
from events.stores.base import EventStore
from events.stream import EventStream

logger = logging.getLogger(__name__)

HEADS_AT_ONCE = 1_000
"""Logs whose ends are asked for together."""


class Follower:
    """Tells streams how far their logs have come; one a process, none where the store is its own.

    A ring says that a log has come so far. Rings are hints: they may be lost, doubled, late or
    wrong, and `run` looks at all ends besides, every `look_seconds`, or every `calm_seconds` while
    the doorbell says that it hears. Enter a stream before its head is read, or look at it after.
    """

    def __init__(
        self, store: EventStore, *, look_seconds: float, calm_seconds: float = 15.0
    ) -> None:
        self._store = store
        self._look_seconds = look_seconds
        self._calm_seconds = calm_seconds
        self._streams: dict[str, EventStream] = {}
        self._hears = False
        self._heard = asyncio.Event()

    def add(self, stream: EventStream) -> None:
        """Follow the log of a stream; there is one of each log."""
        self._streams[stream.conversation_id] = stream

    def discard(self, stream: EventStream) -> None:
        """Follow it no more; unknown ones are no error."""
        if self._streams.get(stream.conversation_id) is stream:
            del self._streams[stream.conversation_id]

    def rung(self, rings: Iterable[tuple[str, int]]) -> None:
        """Take conversations and how far their logs have come; never waits."""
        for conversation_id, next_id in rings:
            stream = self._streams.get(conversation_id)
            if stream is not None:
                stream.reach(next_id)

    def heard(self, *, hears: bool) -> None:
        """Be told whether the doorbell hears; when that changes, `run` looks at once."""
        if hears != self._hears:
            self._hears = hears
            self._heard.set()

    async def look(self) -> None:
        """Ask for the ends of all logs; what lies behind is read on, without being waited for.

        Raises StoreUnavailable. The deleted ones are left to whoever closes their streams.
        """
        streams = list(self._streams.values())
        for begin in range(0, len(streams), HEADS_AT_ONCE):
            part = streams[begin : begin + HEADS_AT_ONCE]
            heads = await self._store.heads([one.conversation_id for one in part])
            for stream, head in zip(part, heads, strict=True):
                if not head.deleted:
                    stream.reach(head.next_id)

    async def run(self) -> None:
        """Look again and again, until it is cancelled."""
        while True:
            seconds = self._calm_seconds if self._hears else self._look_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._heard.wait()
            self._heard.clear()
            try:
                async with asyncio.timeout(max(seconds, self._calm_seconds)):
                    await self.look()
            except (EventsError, TimeoutError) as error:
                logger.warning("cannot look at the ends of the open logs: %r", error)
            except Exception:
                logger.exception("cannot look at the ends of the open logs")
