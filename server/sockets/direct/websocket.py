"""A direct websocket on its transport: frames in, frames out, and a watch on stalled readers.

`FrameParser` splits incoming bytes into frames; `UncommonFrames` reads those that are not a whole
text message.
"""

import asyncio
from asyncio import AbstractEventLoop, Transport
from collections.abc import Callable
from typing import Protocol

from server.access.connection_limits import UNLIMITED_QUEUED, Admission, QueuedTokenBucket
from server.sockets.direct.frame_parser import FrameParser, UncommonFrames
from server.sockets.protocol import JOIN_BYTES, MAX_MESSAGE_BYTES
from server.sockets.transport.stall_watch import WRITE_LIMIT_BYTES, StallWatch, Traffic, abort, end

FLOWING = asyncio.Event()
"""Shared by all connections that were never paused; it is always set."""
FLOWING.set()
SLICE_BYTES = 512
"""Bytes of one client parsed per iteration of the event loop: a few short events."""
LONG_SLICE_BYTES = 16 * 1024
"""Bytes parsed per iteration of a frame that has begun: nothing happens before it is whole."""
WIDE_SLICE_BYTES = 64 * 1024
"""Bytes parsed per iteration for a client without limits."""


class Listener(Protocol):
    """Receives the messages of a websocket. Must not raise."""

    def receive(self, message: bytes, *, text: bool) -> None:
        """Handle a message that the websocket's receiver did not take."""

    def lost(self) -> None:
        """Handle the end of the connection."""


class Websocket(asyncio.Protocol):
    """One open websocket after its handshake. There are many, so each holds little."""

    __slots__ = (
        "_ends",
        "_fed",
        "_holds",
        "_inbound",
        "_listener",
        "_longest_bytes",
        "_other_frames",
        "_packet_bucket",
        "_scheduled",
        "_slice_bytes",
        "_traffic",
        "_unfed",
        "_watch",
        "admission",
        "behind",
        "due",
        "flowing",
        "loop",
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
        admission: Admission,
        packet_bucket: QueuedTokenBucket = UNLIMITED_QUEUED,
    ) -> None:
        self.transport = transport
        self.loop = loop
        self.writable = FLOWING
        self.flowing = True
        """Whether writing is neither paused nor over."""
        self.behind: Callable[[], None] | None = None
        """Called when writing is paused or over."""
        self.receiver: Callable[[bytes], bool] | None = None
        """Gets each text message before the listener does; returns False to leave it to the listener."""
        self.due: list[bytes] = []
        """Output collected for one write at the end of this iteration of the event loop."""
        self.admission = admission
        self._packet_bucket = packet_bucket
        self._holds = 0
        self._scheduled = False
        """Whether a slice is scheduled, or queued in the address's token bucket."""
        self._unfed = b""
        self._fed = 0
        self._slice_bytes = WIDE_SLICE_BYTES if packet_bucket is UNLIMITED_QUEUED else SLICE_BYTES
        self._longest_bytes = JOIN_BYTES
        self._traffic = traffic
        self._ends = ends
        self._listener: Listener | None = None
        self._inbound = FrameParser(self._take_text, self._hand_over)
        self._other_frames: UncommonFrames | None = None
        self._watch: StallWatch | None = None
        transport.set_write_buffer_limits(high=WRITE_LIMIT_BYTES, low=0)

    def open(self, listener: Listener) -> None:
        """Become the protocol of the transport."""
        self._listener = listener
        self._ends.add(self)
        self.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Parse the data, one slice in each iteration of the event loop."""
        if len(data) <= self._slice_bytes and not self._unfed and not self._packet_bucket.exhausted:
            self._inbound.feed(data)
            return
        self.transport.pause_reading()
        self._unfed = self._unfed[self._fed :] + data
        self._fed = 0
        self._schedule_slice()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        """Release everything, then tell the listener."""
        self._ends.discard(self)
        self.admission.leave()
        self._unfed = b""
        self._packet_bucket.leave(self._parse_slice)
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
        """Start the watch for a stalled reader."""
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
        """Write at the end of this iteration of the event loop, together with other output."""
        if not self.due:
            if not self._traffic.unsent:
                self.loop.call_soon(self._traffic.flush_all)
            self._traffic.unsent.append(self)
        self.due.append(frames)

    def send_live(self, frames: bytes) -> None:
        """Write at once, or after output that is already due."""
        if self.due:
            self.due.append(frames)
        else:
            self.transport.write(frames)

    def flush(self) -> None:
        """Write the output that is due in one piece: every write is a system call."""
        if self.due:
            frames, self.due = self.due, []
            if not self.transport.is_closing():
                self.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def hold_reading(self, *, hold: bool) -> None:
        """Stop reading from the client, or resume when this was the last hold."""
        self._holds += 1 if hold else -1
        if self.transport.is_closing():
            return
        if hold:
            self.transport.pause_reading()
        elif not self._holds:
            if self._unfed:
                self._schedule_slice()
            else:
                self.transport.resume_reading()

    def widen(self) -> None:
        """Accept messages of full length, as for a client that has joined."""
        self._longest_bytes = MAX_MESSAGE_BYTES
        if self._other_frames is not None:
            self._other_frames.widen(MAX_MESSAGE_BYTES)

    def shutdown(self) -> None:
        """Tell the client that the server stops."""
        if not self.transport.is_closing():
            others = self._others()
            others.say_restart()
            self._answer(others)

    def end(self) -> None:
        """Close the connection without a close frame."""
        end(self.transport, self.loop, self._traffic)

    def abort(self) -> None:
        """End the connection at once."""
        abort(self.transport)

    def _schedule_slice(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._queue_slice)

    def _queue_slice(self) -> None:
        """Parse a slice, or queue if the bucket is exhausted; unread bytes then wait in the kernel."""
        if self._packet_bucket.exhausted:
            self._packet_bucket.wait(self._parse_slice)
        else:
            self._parse_slice()

    def _parse_slice(self) -> None:
        self._scheduled = False
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
            self._schedule_slice()
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
        self._packet_bucket.tokens -= 1
        if self._other_frames is not None and self._other_frames.within_message:
            return False  # an error within a fragmented message, which the library reports
        if self.receiver is None or not self.receiver(message):
            self._pass_on(message, text=True)
        return True

    def _pass_on(self, message: bytes, *, text: bool) -> None:
        if self._listener is not None and not self.transport.is_closing():
            self._listener.receive(message, text=text)

    def _others(self) -> UncommonFrames:
        """Return the parser of uncommon frames, created for the first one."""
        if self._other_frames is None:
            self._other_frames = UncommonFrames(self._longest_bytes)
        return self._other_frames

    def _hand_over(self, data: bytes) -> None:
        others = self._others()
        for completed in others.feed(data):
            self._packet_bucket.tokens -= 1
            if completed is None:
                continue
            message, text = completed
            if not (text and self.receiver is not None and self.receiver(message)):
                self._pass_on(message, text=text)
        self._answer(others)

    def _answer(self, others: UncommonFrames) -> None:
        """Send the library's frames; end the connection after a close frame."""
        frames = others.answer()
        # A client that only pings and reads nothing must not fill the buffer.
        if frames and (self.flowing or others.closing) and not self.transport.is_closing():
            self.flush()
            self.transport.write(frames)
        if others.malformed:
            self.admission.violated()
        if others.closing:
            self.end()
