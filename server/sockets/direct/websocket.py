"""A websocket on its transport, for the short way: frames in, frames out, and who does not read.

The frames that clients send are cut by `Inbound`; what is no whole text message `OtherFrames` reads.
"""

import asyncio
from asyncio import AbstractEventLoop, Transport
from collections.abc import Callable
from typing import Protocol

from server.access.connection_limits import UNPACED, Pace, Place
from server.sockets.direct.frame_parser import Inbound, OtherFrames
from server.sockets.protocol import JOIN_BYTES, MAX_MESSAGE_BYTES
from server.sockets.transport.stall_watch import WRITE_LIMIT_BYTES, StallWatch, Traffic, abort, end

FLOWING = asyncio.Event()
"""Shared by all that were never paused: nobody ever waits for it."""
FLOWING.set()
SLICE_BYTES = 512
"""Bytes of one client parsed before the others get their turn: a few short events."""
LONG_SLICE_BYTES = 16 * 1024
"""As much of a frame that has begun: nothing is done with it before it is whole."""
WIDE_SLICE_BYTES = 64 * 1024
"""The same for one to whom no limits apply."""


class Listener(Protocol):
    """Takes what comes on a websocket. Must not raise."""

    def receive(self, message: bytes, *, text: bool) -> None:
        """A message that the websocket's receiver did not take."""

    def lost(self) -> None:
        """The connection is over."""


class Websocket(asyncio.Protocol):
    """One open websocket, behind its handshake. There are many: each holds only what it needs."""

    __slots__ = (
        "_coming",
        "_ends",
        "_fed",
        "_holds",
        "_inbound",
        "_listener",
        "_longest_bytes",
        "_other_frames",
        "_pace",
        "_slice_bytes",
        "_traffic",
        "_unfed",
        "_watch",
        "behind",
        "due",
        "flowing",
        "loop",
        "place",
        "receiver",
        "transport",
        "writable",
    )

    def __init__(
        self,
        transport: Transport,
        loop: AbstractEventLoop,
        traffic: Traffic,
        ends: set["Websocket"],
        place: Place,
        pace: Pace = UNPACED,
    ) -> None:
        self.transport = transport
        self.loop = loop
        self.writable = FLOWING
        self.flowing = True
        """Whether writing is neither paused nor over."""
        self.behind: Callable[[], None] | None = None
        """Called when writing is paused or over."""
        self.receiver: Callable[[bytes], bool] | None = None
        """Is given text messages before the listener; False leaves one to it."""
        self.due: list[bytes] = []
        """Output collected for one write at the end of this iteration of the event loop."""
        self.place = place
        self._pace = pace
        self._holds = 0
        self._coming = False
        """Whether a slice is about to be looked at, or waits its turn among the address's."""
        self._unfed = b""
        self._fed = 0
        self._slice_bytes = WIDE_SLICE_BYTES if pace is UNPACED else SLICE_BYTES
        self._longest_bytes = JOIN_BYTES
        self._traffic = traffic
        self._ends = ends
        self._listener: Listener | None = None
        self._inbound = Inbound(self._take_text, self._leave)
        self._other_frames: OtherFrames | None = None
        self._watch: StallWatch | None = None
        transport.set_write_buffer_limits(high=WRITE_LIMIT_BYTES, low=0)

    def open(self, listener: Listener) -> None:
        """Take the transport over."""
        self._listener = listener
        self._ends.add(self)
        self.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Cut it, a slice in each turn of the loop."""
        if len(data) <= self._slice_bytes and not self._unfed and not self._pace.crowded:
            self._inbound.feed(data)
            return
        self.transport.pause_reading()
        self._unfed = self._unfed[self._fed :] + data
        self._fed = 0
        self._come()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        """Tell everybody, the listener last."""
        self._ends.discard(self)
        self.place.leave()
        self._unfed = b""
        self._pace.leave(self._take_turn)
        self._inbound.close()
        if self._other_frames is not None:
            self._other_frames.close()
            self._other_frames = None
        self._unwatch()
        self._stop_flowing()
        self.behind = self.receiver = None
        self.writable.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.lost()

    def pause_writing(self) -> None:
        """Start to watch whether the reader reads."""
        if self.writable is FLOWING:
            self.writable = asyncio.Event()
        self.writable.clear()
        self._watch = StallWatch(self.transport, self.loop, self._traffic)
        self._stop_flowing()

    def resume_writing(self) -> None:
        """Stop watching."""
        self.writable.set()
        self.flowing = not self.transport.is_closing()
        self._unwatch()

    def push(self, frames: bytes) -> None:
        """Write with whatever else this turn of the loop brings for the connection."""
        if not self.due:
            if not self._traffic.unsent:
                self.loop.call_soon(self._traffic.flush_all)
            self._traffic.unsent.append(self)
        self.due.append(frames)

    def send_live(self, frames: bytes) -> None:
        """Write at once, or with what is due."""
        if self.due:
            self.due.append(frames)
        else:
            self.transport.write(frames)

    def flush(self) -> None:
        """Write what is due now, in one piece: every write is a system call."""
        if self.due:
            frames, self.due = self.due, []
            if not self.transport.is_closing():
                self.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def hold_reading(self, *, hold: bool) -> None:
        """Take nothing more from the client for a while, or go on when nobody else holds it."""
        self._holds += 1 if hold else -1
        if self.transport.is_closing():
            return
        if hold:
            self.transport.pause_reading()
        elif not self._holds:
            if self._unfed:
                self._come()
            else:
                self.transport.resume_reading()

    def widen(self) -> None:
        """Take messages of full length: the client has joined."""
        self._longest_bytes = MAX_MESSAGE_BYTES
        if self._other_frames is not None:
            self._other_frames.widen(MAX_MESSAGE_BYTES)

    def shutdown(self) -> None:
        """The server ends: say so."""
        if not self.transport.is_closing():
            others = self._others()
            others.say_restart()
            self._answer(others)

    def end(self) -> None:
        """Close the connection without a farewell."""
        end(self.transport, self.loop, self._traffic)

    def abort(self) -> None:
        """End the connection at once."""
        abort(self.transport)

    def _come(self) -> None:
        if not self._coming:
            self._coming = True
            self.loop.call_soon(self._line_up)

    def _line_up(self) -> None:
        """Look at a slice, or leave what comes faster than it may in the kernel, with the client."""
        if self._pace.crowded:
            self._pace.wait(self._take_turn)
        else:
            self._take_turn()

    def _take_turn(self) -> None:
        self._coming = False
        if self._holds > 0 or not self._unfed:
            return
        lacking = min(self._inbound.lacking_bytes, LONG_SLICE_BYTES)
        part = self._unfed[self._fed : self._fed + max(self._slice_bytes, lacking)]
        self._fed += len(part)
        if self._fed >= len(self._unfed):
            self._unfed, self._fed = b"", 0
        self._inbound.feed(part)
        if self._holds > 0 or self.transport.is_closing():
            return
        if self._unfed:
            self._come()
        else:
            self.transport.resume_reading()

    def _stop_flowing(self) -> None:
        self.flowing = False
        if self.behind is not None:
            self.behind()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _take_text(self, message: bytes) -> bool:
        """Take a text message that came in one frame."""
        self._pace.tokens -= 1
        if self._other_frames is not None and self._other_frames.within_message:
            return False  # in the midst of fragments it is a fault, which the library tells
        if self.receiver is None or not self.receiver(message):
            self._pass_on(message, text=True)
        return True

    def _pass_on(self, message: bytes, *, text: bool) -> None:
        if self._listener is not None and not self.transport.is_closing():
            self._listener.receive(message, text=text)

    def _others(self) -> OtherFrames:
        """Made for the first frame that needs it."""
        if self._other_frames is None:
            self._other_frames = OtherFrames(self._longest_bytes)
        return self._other_frames

    def _leave(self, data: bytes) -> None:
        others = self._others()
        for completed in others.feed(data):
            self._pace.tokens -= 1
            if completed is None:
                continue
            message, text = completed
            if not (text and self.receiver is not None and self.receiver(message)):
                self._pass_on(message, text=text)
        self._answer(others)

    def _answer(self, others: OtherFrames) -> None:
        """Send what the library has to say; when that is a farewell, end."""
        frames = others.answer()
        # One who only pings and reads nothing must not fill the buffer.
        if frames and (self.flowing or others.closing) and not self.transport.is_closing():
            self.flush()
            self.transport.write(frames)
        if others.malformed:
            self.place.violated()
        if others.closing:
            self.end()
