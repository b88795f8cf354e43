"""LiveReader: the events and pieces after a cursor, in order, as they arrive."""

import asyncio
from asyncio import Future
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Self, TypeAlias

import orjson

from events.cursor import START, Cursor
from events.event import StoredEvent
from events.partials import Dropped, Partial, Piece
from events.stream import EventStream

NAMES_PARTIAL = b'"partial":"'


Delta: TypeAlias = dict[str, Any]
"""A report on partials in the form that clients are sent: its `type` is `open`, `text` or `dropped`."""


class Opened(NamedTuple):
    """The partials that are open where the backlog ends, with what the reader holds of each.

    What a reader holds and is not named here is over: its event was in the backlog, or it was
    dropped.
    """

    partials: Sequence[tuple[Partial, int]]


Given: TypeAlias = Sequence[StoredEvent] | Sequence[Piece | Dropped] | Opened


class LiveReader:
    """Reads stored events, then pieces, after a cursor as they arrive; nothing is queued.

    It is woken by what is published and told, and reads on from where it stands: a slow reader gets
    fewer and longer pieces. Of a cursor past the log's end the end counts. `cursor` is behind what
    was given last. Without `deltas` it is given events only. Use it in a `with` block, by one task
    at a time.
    """

    __slots__ = (
        "_deltas",
        "_growth",
        "_level_at",
        "_news",
        "_opened",
        "_stream",
        "_taps",
        "_woken",
        "cursor",
    )

    def __init__(self, stream: EventStream, cursor: Cursor = START, *, deltas: bool = True) -> None:
        self.cursor = Cursor(stream.resume_after(cursor.position), cursor.held)
        self._stream = stream
        self._deltas = deltas
        self._opened = False
        self._woken = False
        self._level_at = -1
        """The telling up to which it was given all pieces."""
        self._growth: Future[None] | None = None
        """The growth of the log that wakes it."""
        self._news: Future[None] | None = None
        self._taps = ExitStack()

    def __enter__(self) -> Self:
        if self._deltas:
            self._taps.callback(self._stream.partials.tap(self._wake))
        return self

    def __exit__(self, *error: object) -> None:
        self._taps.close()
        if self._growth is not None:
            self._growth.remove_done_callback(self._wake)
            self._growth = None

    def wake(self) -> None:
        """Have `next` return without anything, now or as soon as it would wait."""
        self._woken = True
        self._wake(None)

    async def next(self) -> Given | None:
        """Return what follows, waiting for it; None when the stream is closed and all is read.

        None, too, when the log has lost events. It is empty when `wake` was called.
        Events first, from the position to the end of a page; where all that is published is read,
        once what is open; then pieces. Raises what `EventStream.read` does.
        """
        while True:
            if self._stream.shortened is not None:
                return None
            end = self._stream.next_id - 1
            if self.cursor.position > end:
                self.cursor = Cursor(end, self.cursor.held)
            if self.cursor.position < end:
                events = await self._stream.read(self.cursor.position + 1)
                if events:
                    self.cursor = Cursor(events[-1].id, _without(self.cursor.held, events))
                    return events
                continue
            if self._deltas and (given := self._partials()):
                return given
            if self._stream.is_closed:
                return None
            if self._woken:
                self._woken = False
                return ()
            # No await since the position was looked at: nothing slips between.
            growth = self._stream.growth()
            if growth is not self._growth:
                self._growth = growth
                growth.add_done_callback(self._wake)
            self._news = asyncio.get_running_loop().create_future()
            try:
                await self._news
            finally:
                self._news = None

    def _partials(self) -> Sequence[Piece | Dropped] | Opened | None:
        partials, (position, held) = self._stream.partials, self.cursor
        if not self._opened:
            self._opened = True
            opened = [
                (one, min(held.get(one.id, 0), one.told)) for one in partials.open if one.told
            ]
            self.cursor = Cursor(position, {one.id: at for one, at in opened if at})
            return Opened(opened)
        if self._level_at == partials.tellings:
            return None
        self._level_at = partials.tellings
        pieces, held = partials.follow(held)
        self.cursor = Cursor(position, held)
        return pieces

    def _wake(self, _news: object) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def _without(held: Mapping[str, int], events: Sequence[StoredEvent]) -> Mapping[str, int]:
    """Return the held partials without those that these events complete."""
    if not held:
        return held
    completed = {partial_of(event) for event in events}
    return {one: at for one, at in held.items() if one not in completed}


def partial_of(event: StoredEvent) -> str | None:
    """Return the id of the partial that an event completes."""
    if NAMES_PARTIAL not in event.body:
        return None
    partial = orjson.loads(event.body).get("partial")
    return partial if isinstance(partial, str) else None


def delta_of(told: Piece | Dropped | Opened) -> Delta:
    """Return what clients are sent of it. A partial's first piece says what it is part of."""
    if isinstance(told, Piece):
        head: Delta = {"type": "text", "id": told.id}
        if told.at == 0:
            head |= {"kind": told.kind, "field": told.field, "turn": told.turn}
        return head | {"at": told.at, "to": told.to, "text": told.text}
    if isinstance(told, Dropped):
        return {"type": "dropped", "id": told.id, "why": told.why}
    return {
        "type": "open",
        "partials": [
            {"id": one.id, "kind": one.kind, "field": one.field, "turn": one.turn, "at": at}
            for one, at in told.partials
        ],
    }
