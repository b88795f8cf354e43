"""Texts that are being written, as clients of the socket are sent them."""

from collections.abc import Mapping, Sequence

import orjson

from events.live import Delta, Opened, delta_of
from events.partials import Dropped, Partials, Piece
from server.sockets.protocol import websocket_frame

DELTA_OUT = "oh_delta"
PREFIX = f'42["{DELTA_OUT}",'.encode()


class DeltaFeed:
    """The part that one client lacks of the partials of its conversation, as long as it is not live.

    A session may turn live in the step in which `next_frame` returns None: then its client holds all
    that was told, as live clients do.
    """

    __slots__ = ("_held", "_opened", "_partials")

    def __init__(self, partials: Partials, held: Mapping[str, int]) -> None:
        self._partials = partials
        self._held = dict(held)
        """Characters the client holds."""
        self._opened = False
        """Whether it was told what is open since it left the live path."""

    def next_frame(self, characters: int) -> bytes | None:
        """Return the next frame, of a piece of at most so many characters; None if it lacks nothing."""
        told = [one for one in self._partials.open if one.told]
        at = {one.id: min(self._held.get(one.id, 0), one.told) for one in told}
        if not self._opened or self._held.keys() - at.keys():
            self._opened = True
            self._held = {one: held for one, held in at.items() if held}
            return _frame(delta_of(Opened([(one, at[one.id]) for one in told])))
        for one in told:
            piece = one.piece_since(at[one.id])
            if piece is not None:
                to = min(piece.to, piece.at + characters)
                self._held[one.id] = to
                return _frame(delta_of(piece._replace(to=to, text=piece.text[: to - piece.at])))
        return None

    def leave(self) -> None:
        """Note that the session has left the live path: its client holds what is told now."""
        self._held = {one.id: one.told for one in self._partials.open if one.told}
        self._opened = False


def delta_frames(told: Sequence[Piece | Dropped]) -> bytes:
    """Return the websocket frames of what is told of partials, joined."""
    return b"".join(_frame(delta_of(one)) for one in told)


def _frame(delta: Delta) -> bytes:
    return websocket_frame(b"%b%b]" % (PREFIX, orjson.dumps(delta)))
