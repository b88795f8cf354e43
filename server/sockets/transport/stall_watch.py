"""Notices clients that do not read, and ends their connections; what all connections share."""

import contextlib
import fcntl
import logging
import socket
import struct
import termios
from asyncio import AbstractEventLoop, TimerHandle, Transport
from typing import Protocol

logger = logging.getLogger(__name__)

UNSENT_LIMIT_BYTES = 16 * 1024
"""Unsent bytes the kernel may hold for a connection: more would hide that its reader is slow."""
WRITE_LIMIT_BYTES = 4 * 1024
UNTAKEN_LIMIT_BYTES = 256 * 1024 * 1024
"""Bytes that all clients who are written to more slowly than they should be may leave untaken."""
CHECKS_PER_STALL = 5
TCP_NOTSENT_LOWAT = 25
"""Linux; the socket module names it from Python 3.12 on."""


class Flushing(Protocol):
    """A connection that may have something due."""

    def flush(self) -> None:
        """Write it."""

    def abort(self) -> None:
        """End the connection at once."""


class Traffic:
    """State shared by the connections of one server: stall deadline, counters, connections with output due."""

    def __init__(self, stall_seconds: float) -> None:
        self.stall_seconds = stall_seconds
        self.paused = 0
        """Times writing was paused."""
        self.aborted = 0
        """Connections aborted for standing still, or for what they and others left untaken."""
        self.untaken_limit_bytes = UNTAKEN_LIMIT_BYTES
        self._untaken: dict[StallWatch, int] = {}
        """Bytes in the buffers of those whose writing is paused, by who waits longest."""
        self._untaken_bytes = 0
        self.unsent: list[Flushing] = []
        """Those to flush at the end of this turn of the loop."""

    def hold(self, watch: "StallWatch", size_bytes: int) -> None:
        """Note what a client leaves untaken; too much of all, and those who began first are cut.

        They lose nothing: what they were sent is in the log, and they come back with their cursor.
        """
        self._untaken_bytes += size_bytes - self._untaken.get(watch, 0)
        self._untaken[watch] = size_bytes
        while self._untaken_bytes > self.untaken_limit_bytes and len(self._untaken) > 1:
            oldest = next(iter(self._untaken))
            self.release(oldest)
            oldest.cut()

    def release(self, watch: "StallWatch") -> None:
        """Forget a client that takes what it is sent again, or is gone."""
        self._untaken_bytes -= self._untaken.pop(watch, 0)

    def flush_all(self) -> None:
        """Write what is due on every connection."""
        unsent, self.unsent = self.unsent, []
        for connection in unsent:
            try:
                connection.flush()
            except Exception:
                logger.exception("cannot write to a client")
                connection.abort()


class StallWatch:
    """Aborts a transport that is paused and stands still; a slow reader that reads is left alone.

    Standing still means: for `stall_seconds` neither the write buffer nor what the kernel holds
    has shrunk.
    """

    __slots__ = ("_held", "_loop", "_moved_at", "_timer", "_traffic", "_transport")

    def __init__(self, transport: Transport, loop: AbstractEventLoop, traffic: Traffic) -> None:
        traffic.paused += 1
        self._transport = transport
        self._loop = loop
        self._traffic = traffic
        self._held = held_bytes(transport)
        self._moved_at = loop.time()
        self._timer: TimerHandle = self._schedule()
        traffic.hold(self, transport.get_write_buffer_size())

    def stop(self) -> None:
        """The transport flows again, or is gone."""
        self._timer.cancel()
        self._traffic.release(self)

    def cut(self) -> None:
        """Abort the transport."""
        self._timer.cancel()
        self._traffic.aborted += 1
        abort(self._transport)

    def _schedule(self) -> TimerHandle:
        seconds = self._traffic.stall_seconds / CHECKS_PER_STALL
        return self._loop.call_later(seconds, self._check)

    def _check(self) -> None:
        held = held_bytes(self._transport)
        now = self._loop.time()
        if held < self._held:
            self._moved_at = now
        self._held = held
        if now - self._moved_at >= self._traffic.stall_seconds:
            self.cut()
        else:
            self._timer = self._schedule()
            self._traffic.hold(self, self._transport.get_write_buffer_size())


def held_bytes(transport: Transport) -> int:
    """Bytes not yet acknowledged by the peer: in the write buffer and in the kernel."""
    held = transport.get_write_buffer_size()
    with contextlib.suppress(OSError, AttributeError, ValueError):
        connection = transport.get_extra_info("socket")
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        held += struct.unpack("i", answer)[0]
    return held


def end(transport: Transport, loop: AbstractEventLoop, traffic: Traffic) -> None:
    """Close without a farewell, so that the client comes back by itself.

    What is buffered is sent first; a reader that does not take it is aborted.
    """
    transport.close()
    if transport.get_write_buffer_size():
        loop.call_later(traffic.stall_seconds, abort, transport)


def abort(transport: Transport) -> None:
    """End the connection at once; what is buffered is lost, in the kernel, too.

    Without the reset the kernel would keep it for minutes for a reader that is not there.
    """
    # ValueError: uvloop's word for a socket that is closed already; AttributeError: asyncio's.
    with contextlib.suppress(OSError, AttributeError, ValueError):
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(AttributeError):  # asyncio's word for a transport that is gone
        transport.abort()


def bound_unsent(listener: socket.socket) -> None:
    """Bound what the kernel may hold unsent of every connection that comes in by this socket."""
    with contextlib.suppress(OSError):
        # Not every platform knows the option; the write limit bounds memory there, too.
        listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_LIMIT_BYTES)
