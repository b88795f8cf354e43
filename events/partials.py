"""The partials of a stream: texts that are shown while they are written, each part of one event.

A piece of a partial is neither in the log nor acknowledged nor replayed: it is told live, or as
part of the journal, the text told so far of the partials that are open. The event is the truth.
It names the partial it completes, and all that was told is a prefix of its text, unless a secret
was learnt meanwhile. All that is told of a partial is told before its event is published and
nothing after it; a partial is open until the step in which its event is published or the partial
is dropped.
"""

import asyncio
import logging
import secrets
from asyncio import Future, TimerHandle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from events.batch import Appended, Settled
from events.errors import PartialOver, TextTooLong, TooManyPartials
from events.event import Event, EventSource
from events.piece_mask import PieceMask
from events.redaction import Redactor

logger = logging.getLogger(__name__)

MAX_OPEN = 16
"""Maximum number of open partials of one stream."""
MAX_CHARACTERS = 2 * 1024 * 1024
"""Maximum characters of one partial."""
UNTOLD_CHARACTERS = 64 * 1024
"""Unsent characters beyond which `flush` waits."""
DROPPED_KEPT = 64
"""Partials dropped last of which the reason is known."""


class Piece(NamedTuple):
    """Part of a partial's text: the characters (code points of masked text) from `at` to `to`."""

    id: str
    kind: str
    field: str
    turn: int
    at: int
    to: int
    text: str


class Dropped(NamedTuple):
    """A partial that will be no event: `anew`, `empty`, or `failed` if it could not be appended."""

    id: str
    why: str


Followed: TypeAlias = tuple[Mapping[str, int], Sequence[Piece | Dropped], Mapping[str, int]]
"""The characters a reader held, the pieces it lacked, and the characters it holds with those."""
Told: TypeAlias = Callable[[Sequence[Piece | Dropped]], None]
"""Receives the pieces of a stream's partials; must neither wait nor raise."""


class Pace:
    """Seconds between two pieces of one conversation, for all streams of a server.

    Pieces give way to events: while the event loop is late, `adapt` doubles the interval up to the
    longest one, and restores it afterwards. Where nobody is told of pieces, the longest one counts.
    """

    __slots__ = ("_least", "longest", "seconds")

    def __init__(self, seconds: float = 0.05, longest_seconds: float = 0.5) -> None:
        self.seconds = self._least = seconds
        self.longest = max(seconds, longest_seconds)

    def adapt(self, late: bool) -> None:  # noqa: FBT001 - a fact it is told
        """Double the interval, or halve it down to that which is set."""
        if late:
            self.seconds = min(self.longest, self.seconds * 2)
        else:
            self.seconds = max(self._least, self.seconds / 2)


Append: TypeAlias = Callable[[Event, EventSource, Settled], None]
"""Appends an event: `EventStream.submit` or that of a HeldStream, for an own event."""


class Partial:
    """A text that is being written. `told` is how many characters of its masked form are told."""

    __slots__ = (
        "_ending",
        "_fed",
        "_fed_length",
        "_length",
        "_mask",
        "_partials",
        "_shown",
        "_written",
        "field",
        "id",
        "kind",
        "over",
        "told",
        "turn",
    )

    def __init__(
        self,
        partials: "Partials",
        redactor: Redactor,
        partial_id: str,
        kind: str,
        field: str,
        turn: int,
    ) -> None:
        self.id = partial_id
        self.kind = kind
        self.field = field
        self.turn = turn
        self.told = 0
        self.over = False
        """Whether it is closed: its event is committed, or it was dropped."""
        self._partials = partials
        self._mask = PieceMask(redactor)
        self._ending = False
        self._shown: list[str] = []
        self._written: list[str] = []
        self._length = 0
        self._fed = self._fed_length = 0
        """Of what is written, the tokens and characters that the mask was given."""

    @property
    def has_untold(self) -> bool:
        """Whether text was written that is not processed yet."""
        return self._fed < len(self._written)

    @property
    def text(self) -> str:
        """The whole text written so far, without masks: for its event only."""
        return "".join(self._written)

    @property
    def shown(self) -> str:
        """The text sent so far, masked."""
        if len(self._shown) > 1:
            self._shown = ["".join(self._shown)]
        return self._shown[0] if self._shown else ""

    def write(self, text: str) -> None:
        """Add to the text; never waits.

        Raises TextTooLong, taking nothing, beyond MAX_CHARACTERS, and PartialOver.
        """
        if self._ending or self.over:
            raise PartialOver(f"the partial {self.id} takes no more text")
        length = self._length + len(text)
        if length > MAX_CHARACTERS:
            raise TextTooLong(f"a text may have at most {MAX_CHARACTERS:,} characters")
        if not text:
            return
        self._length = length
        self._written.append(text)
        self._partials.wake()

    async def flush(self) -> None:
        """Wait while more than UNTOLD_CHARACTERS are not told yet."""
        while self._length - self._fed_length > UNTOLD_CHARACTERS and not self.over:
            await self._partials.next_telling()

    def finish(self, event: Event, source: EventSource, append: Append, settled: Settled) -> None:
        """Tell the rest and append the event that holds the text; nothing more may be written.

        The partial is closed in the step in which the event becomes durable, before it is published.
        If it cannot be appended, the partial is dropped and `settled` is told why; an error that
        `append` raises at once is raised here.
        Raises PartialOver.
        """
        if self._ending or self.over:
            raise PartialOver(f"the partial {self.id} takes no more text")
        self._ending = True
        self._partials.tell_rest(self)

        def close(outcome: Appended | Exception) -> None:
            if isinstance(outcome, Exception):
                self._partials.drop(self, "failed")
            else:
                self._partials.close(self)
            settled(outcome)

        try:
            append(event.model_copy(update={"partial": self.id, "turn": self.turn}), source, close)
        except BaseException:
            self._partials.drop(self, "failed")
            raise

    def drop(self, why: str) -> None:
        """Take back what was told: it will be no event. A partial that is over stays as it is."""
        if not self.over:
            self._partials.drop(self, why)

    def take_piece(self, *, last: bool = False) -> Piece | None:
        """Return the text that may be sent now; for Partials."""
        text = self._mask.feed("".join(self._written[self._fed :]), last=last)
        self._fed, self._fed_length = len(self._written), self._length
        if not text:
            return None
        at, self.told = self.told, self.told + len(text)
        self._shown.append(text)
        return Piece(self.id, self.kind, self.field, self.turn, at, self.told, text)

    def piece_since(self, held: int) -> Piece | None:
        """Return the text that a reader with so many characters lacks."""
        if held >= self.told:
            return None
        return Piece(self.id, self.kind, self.field, self.turn, held, self.told, self.shown[held:])


class Partials:
    """The open partials of one stream, in the order in which they were begun."""

    __slots__ = (
        "_began",
        "_changed",
        "_dropped",
        "_followed",
        "_life",
        "_open",
        "_pace",
        "_redactor",
        "_taps",
        "_telling",
        "_timer",
        "_told_at",
        "tellings",
    )

    def __init__(
        self, redactor: Redactor, pace: Pace, changed: Callable[[], None] | None = None
    ) -> None:
        """`changed` is called when something was told, and when a partial is over."""
        self._changed = changed
        self._redactor = redactor
        self._pace = pace
        self._life = secrets.token_hex(4)
        """Ids of an earlier life of the stream are never given again."""
        self._began = 0
        self._open: dict[str, Partial] = {}
        self._dropped: deque[Dropped] = deque(maxlen=DROPPED_KEPT)
        self.tellings = 0
        """Grows with all that is told, and with each partial that is closed."""
        self._followed: Followed | None = None
        """The last result of `follow`, and its argument: most readers of a conversation hold the same."""
        self._taps: tuple[Told, ...] = ()
        self._timer: TimerHandle | asyncio.Handle | None = None
        self._told_at = float("-inf")
        self._telling: Future[None] | None = None

    @property
    def open(self) -> Sequence[Partial]:
        """The open partials."""
        return tuple(self._open.values())

    def begin(self, kind: str, field: str, turn: int) -> Partial:
        """Open a partial; it is told of with its first piece. Raises TooManyPartials."""
        if len(self._open) >= MAX_OPEN:
            raise TooManyPartials(f"at most {MAX_OPEN} texts may be written at a time")
        self._began += 1
        partial = Partial(self, self._redactor, f"{self._life}-{self._began}", kind, field, turn)
        self._open[partial.id] = partial
        return partial

    def follow(
        self, held: Mapping[str, int]
    ) -> tuple[Sequence[Piece | Dropped], Mapping[str, int]]:
        """Return what a reader lacks that holds so many characters, and what it then holds.

        It lacks what was told beyond them, and of partials it holds that are open no more that they
        were dropped: an event of theirs it has, if it has read all that is published. Until more is
        told, readers that hold the same are given the same objects.
        """
        if self._followed is not None and self._followed[0] == held:
            return self._followed[1:]
        pieces: list[Piece | Dropped] = [
            self._dropped_as(one) for one in held if one not in self._open
        ]
        for partial in self._open.values():
            piece = partial.piece_since(held.get(partial.id, 0))
            if piece is not None:
                pieces.append(piece)
        after = {one.id: one.told for one in self._open.values() if one.told}
        self._followed = (dict(held), pieces, after)
        return pieces, after

    def tap(self, told: Told) -> Callable[[], None]:
        """Call `told` with all that is told from now on, until the call given back."""
        self._taps += (told,)
        self._hasten()

        def stop() -> None:
            self._taps = tuple(one for one in self._taps if one is not told)

        return stop

    def wake(self) -> None:
        """Schedule pieces of the written text: the first at once, others in the server's interval.

        While nobody is told of them, it is the longest one.
        """
        if self._timer is None:
            watched = self._taps or self._telling is not None
            self._schedule(self._pace.seconds if watched else self._pace.longest)

    def _hasten(self) -> None:
        """Go over to the server's interval: somebody is told, or waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._schedule(self._pace.seconds)

    def _schedule(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = self._told_at + seconds
        if due <= loop.time():
            # With what else this turn of the loop brings.
            self._timer = loop.call_soon(self._tell)
        else:
            self._timer = loop.call_at(due, self._tell)

    async def next_telling(self) -> None:
        """Wait until everything written so far is sent."""
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_future()
            self._hasten()
        await asyncio.shield(self._telling)

    def tell_rest(self, partial: Partial) -> None:
        """Tell the rest of a partial that is about to become an event."""
        piece = partial.take_piece(last=True)
        if piece is not None:
            self._hand_out((piece,))

    def close(self, partial: Partial) -> None:
        """Forget a partial of which the event is committed."""
        partial.over = True
        self._open.pop(partial.id, None)
        self._note_telling()

    def drop(self, partial: Partial, why: str) -> None:
        """Forget a partial that will be no event, and say so if anything of it was told."""
        if partial.over:
            return
        self.close(partial)
        if partial.told:
            dropped = Dropped(partial.id, why)
            self._dropped.append(dropped)
            self._hand_out((dropped,))

    def end(self) -> None:
        """Stop: the stream takes no more events.

        What was told of a text without an event stays open, for its checkpoint.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for partial in self.open:
            partial.over = True
            if not partial.told:
                self.close(partial)
        self._wake_flushing()

    def _dropped_as(self, partial_id: str) -> Dropped:
        known = (one for one in reversed(self._dropped) if one.id == partial_id)
        return next(known, Dropped(partial_id, "empty"))

    def _tell(self) -> None:
        self._timer = None
        self._told_at = asyncio.get_running_loop().time()
        pieces = [
            piece
            for piece in (partial.take_piece() for partial in self.open if partial.has_untold)
            if piece is not None
        ]
        if pieces:
            self._hand_out(pieces)
        self._wake_flushing()

    def _note_telling(self) -> None:
        self.tellings += 1
        self._followed = None
        if self._changed is not None:
            self._changed()

    def _hand_out(self, pieces: Sequence[Piece | Dropped]) -> None:
        self._note_telling()
        for told in self._taps:
            try:
                told(pieces)
            except Exception:
                logger.exception("a callback for pieces failed")

    def _wake_flushing(self) -> None:
        if self._telling is not None:
            self._telling.set_result(None)
            self._telling = None
