"""The websocket protocol under Engine.IO, made to notice readers that do not read."""

import contextlib
import fcntl
import socket
import struct
import termios
from asyncio import BaseTransport, TimerHandle
from typing import Any, ClassVar, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

EXTENSION = "parley.transport"
UNSENT_LIMIT_BYTES = 16 * 1024
"""Unsent bytes the kernel may hold for a connection: more would hide that its reader is slow."""
WRITE_LIMIT_BYTES = 4 * 1024
CHECKS_PER_STALL = 5
TCP_NOTSENT_LOWAT = 25
"""Linux; the socket module names it from Python 3.12 on."""


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

    _watch: TimerHandle | None = None
    _held_bytes: int = 0
    _moved_at: float = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        """Bound what the kernel and the transport may hold."""
        super().connection_made(transport)
        with contextlib.suppress(OSError, AttributeError):
            # Not every platform knows the option; the write limit bounds memory there, too.
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_LIMIT_BYTES)
        self.transport.set_write_buffer_limits(high=WRITE_LIMIT_BYTES, low=0)

    async def run_asgi(self) -> None:
        """Run the application with this protocol in reach."""
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions[EXTENSION] = self
        await super().run_asgi()

    def pause_writing(self) -> None:
        """Start to watch whether the reader reads."""
        super().pause_writing()
        type(self).paused += 1
        self._held_bytes = self._held()
        self._moved_at = self.loop.time()
        self._schedule()

    def resume_writing(self) -> None:
        """Stop watching."""
        super().resume_writing()
        self._unschedule()

    def handle_ping(self) -> None:
        """Answer, unless writing is paused: one who only pings must not fill the buffer."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._unschedule()
        super().connection_lost(exc)

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


def guarded(stall_seconds: float) -> type[GuardedProtocol]:
    """The protocol class with its own patience and counters."""
    return type(
        "GuardedProtocol",
        (GuardedProtocol,),
        {"stall_seconds": stall_seconds, "aborted": 0, "paused": 0},
    )
