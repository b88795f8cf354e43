"""The websocket protocol under Engine.IO, made to notice readers that do not read."""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from asyncio import BaseTransport, TimerHandle, Transport
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from server.sockets.inbound import Inbound

EXTENSION = "parley.transport"
UNSENT_LIMIT_BYTES = 16 * 1024
"""Unsent bytes the kernel may hold for a connection: more would hide that its reader is slow."""
WRITE_LIMIT_BYTES = 4 * 1024
CHECKS_PER_STALL = 5
END_OF_REQUEST = b"\r\n\r\n"
TCP_NOTSENT_LOWAT = 25
"""Linux; the socket module names it from Python 3.12 on."""


class Listener(Protocol):
    """Takes over a websocket once it is accepted: nothing of it goes to the application then."""

    def receive(self, message: bytes, *, text: bool) -> None:
        """A message that no receiver took; must not raise."""

    def lost(self) -> None:
        """The connection is over."""


class Nowhere:
    """In place of the queue to an application that is not asked; a real one takes 3 KB."""

    def put_nowait(self, message: object) -> None:
        """Drop it: the listener was told."""


NOWHERE = Nowhere()


class GuardedProtocol(WebSocketsSansIOProtocol):
    """Hands itself to the application in the scope, and aborts a connection that stands still.

    Standing still means: writing is paused, and for `stall_seconds` neither the write buffer nor
    what the kernel holds has shrunk. A slow reader that reads at all is left alone.
    """

    stall_seconds: ClassVar[float] = 10.0
    aborted: ClassVar[int] = 0
    """Connections aborted for standing still, in this process."""
    paused: ClassVar[int] = 0
    """How often writing was paused, in this process."""

    flowing: bool = True
    """Whether writing is neither paused nor over."""
    receiver: Callable[[bytes], bool] | None = None
    """Takes text messages before Engine.IO does; False leaves one to it."""
    listener: Listener | None = None
    """Takes everything else; None where the application does."""
    due: list[bytes]
    """What is written at the end of this turn of the loop, in one piece."""
    unsent: ClassVar[list["GuardedProtocol"]] = []
    """Connections with something due."""
    _inbound: Inbound | None = None
    _watch: TimerHandle | None = None
    _held_bytes: int = 0
    _moved_at: float = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        """Bound what the transport may hold; for the kernel see `bound_unsent`."""
        super().connection_made(transport)
        self.due = []
        self.transport.set_write_buffer_limits(high=WRITE_LIMIT_BYTES, low=0)

    def take_over(self, transport: Transport, listener: Listener) -> None:
        """Begin behind a handshake that is answered already; the application learns of nothing."""
        self.connection_made(transport)
        self.listener = listener
        self.queue = cast("asyncio.Queue[Any]", NOWHERE)
        self.handshake_initiated = self.handshake_complete = True
        self.conn.state = State.OPEN
        # Made for the state before: it would read a request first.
        self.conn.parser = self.conn.parse()
        next(self.conn.parser)
        self._inbound = Inbound(self._take_text, super().data_received)
        transport.set_protocol(self)

    async def run_asgi(self) -> None:
        """Run the application with this protocol in reach."""
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions[EXTENSION] = self
        await super().run_asgi()

    def pause_writing(self) -> None:
        """Start to watch whether the reader reads."""
        super().pause_writing()
        self.flowing = False
        type(self).paused += 1
        self._held_bytes = self._held()
        self._moved_at = self.loop.time()
        self._schedule()

    def resume_writing(self) -> None:
        """Stop watching."""
        super().resume_writing()
        self.flowing = not self.close_sent
        self._unschedule()

    def send_receive_event_to_app(self) -> None:
        """Hand a message that the library has read to the listener, or else to the application."""
        if self.listener is None:
            super().send_receive_event_to_app()
            return
        frames, self.frames = self.frames, []
        text = self.curr_msg_data_type == "text"
        message = b"".join(frames)
        if not self.close_sent and not (text and self._take_text(message)):
            self.listener.receive(message, text=text)

    def data_received(self, data: bytes) -> None:
        """Let the library shake hands; from the first frame on `Inbound` cuts what comes."""
        if self._inbound is not None:
            self._inbound.feed(data)
            return
        super().data_received(data)
        if self.handshake_initiated and data.find(END_OF_REQUEST) == len(data) - len(
            END_OF_REQUEST
        ):
            # Nothing came behind the request, so the next byte begins a frame.
            self._inbound = Inbound(self._take_text, super().data_received)

    def _take_text(self, message: bytes) -> bool:
        """A whole text message: an event, or else one for the listener."""
        if self.close_sent or self.conn.current_size is not None:
            return False
        if self.receiver is not None and self.receiver(message):
            return True
        if self.listener is None:
            return False
        self.listener.receive(message, text=True)
        return True

    def push(self, frames: bytes) -> None:
        """Write with whatever else this turn of the loop brings for the connection."""
        if not self.due:
            if not self.unsent:
                self.loop.call_soon(self.flush_all)
            self.unsent.append(self)
        self.due.append(frames)

    @classmethod
    def flush_all(cls) -> None:
        """Write what is due on every connection."""
        unsent, cls.unsent = cls.unsent, []
        for protocol in unsent:
            protocol.flush()

    def flush(self) -> None:
        """Write what is due now, in one piece: every write is a system call."""
        if self.due:
            frames, self.due = self.due, []
            if not self.close_sent:
                self.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def hold_reading(self, *, hold: bool) -> None:
        """Take nothing more from the client for a while, or go on."""
        if self.transport.is_closing() or self.read_paused:
            return
        if hold:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def handle_ping(self) -> None:
        """Answer, unless writing is paused: one who only pings must not fill the buffer."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching, and tell the listener."""
        self._unschedule()
        self.flowing = False
        super().connection_lost(exc)
        if self.listener is not None:
            self.listener.lost()

    def end(self) -> None:
        """Close the connection without a farewell, so that the client comes back by itself.

        What is buffered is sent first; a reader that does not take it is aborted.
        """
        if self.transport.is_closing():
            return
        self.transport.close()
        self.loop.call_later(self.stall_seconds, self.abort)

    def abort(self) -> None:
        """End the connection at once; what is buffered is lost, in the kernel, too.

        Without the reset the kernel would keep it for minutes for a reader that is not there.
        """
        with contextlib.suppress(OSError, AttributeError):
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _schedule(self) -> None:
        self._watch = self.loop.call_later(self.stall_seconds / CHECKS_PER_STALL, self._check)

    def _unschedule(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _check(self) -> None:
        held = self._held()
        now = self.loop.time()
        if held < self._held_bytes:
            self._moved_at = now
        self._held_bytes = held
        if now - self._moved_at >= self.stall_seconds:
            type(self).aborted += 1
            self.abort()
        else:
            self._schedule()

    def _held(self) -> int:
        """Bytes not yet acknowledged by the peer: in the write buffer and in the kernel."""
        held = self.transport.get_write_buffer_size()
        with contextlib.suppress(OSError, AttributeError, ValueError):
            connection = self.transport.get_extra_info("socket")
            answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
            held += struct.unpack("i", answer)[0]
        return held


def bound_unsent(listener: socket.socket) -> None:
    """Bound what the kernel may hold unsent of every connection that comes in by this socket."""
    with contextlib.suppress(OSError):
        # Not every platform knows the option; the write limit bounds memory there, too.
        listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_LIMIT_BYTES)


def protocol_of(scope: Mapping[str, Any]) -> GuardedProtocol | None:
    """The protocol of a websocket request; None for any other request."""
    protocol = scope.get("extensions", {}).get(EXTENSION)
    return protocol if isinstance(protocol, GuardedProtocol) else None


def guarded(stall_seconds: float) -> type[GuardedProtocol]:
    """The protocol class with its own patience and counters."""
    return type(
        "GuardedProtocol",
        (GuardedProtocol,),
        {"stall_seconds": stall_seconds, "aborted": 0, "paused": 0, "unsent": []},
    )
