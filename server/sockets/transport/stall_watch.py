"""Detects clients that do not read, and ends their connections; the state all connections share."""

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
"""Unsent bytes the kernel may hold for a connection; more would hide a slow reader."""
WRITE_LIMIT_BYTES = 4 * 1024
UNTAKEN_LIMIT_BYTES = 256 * 1024 * 1024
"""Bytes that may wait in the write buffers of all paused connections together."""
CHECKS_PER_STALL = 5
TCP_NOTSENT_LOWAT = 25
"""Linux; the socket module names it from Python 3.12 on."""


class Flushable(Protocol):
    """A connection whose output can be flushed."""

    def flush(self) -> None:
        """Write the output that is due."""

    def abort(self) -> None:
        """End the connection at once."""


class Traffic:
    """State shared by the connections of one server: stall deadline, counters, connections with output due."""

    def __init__(self, stall_seconds: float) -> None:
        self.stall_seconds = stall_seconds
        self.paused = 0
        """Number of times that writing was paused."""
        self.aborted = 0
        """Connections aborted because they stalled, or because too many bytes were untaken."""
        self.untaken_limit_bytes = UNTAKEN_LIMIT_BYTES
        self._untaken: dict[StallWatch, int] = {}
        """Bytes in the write buffers of paused connections; the first has waited longest."""
        self._untaken_bytes = 0
        self.unsent: list[Flushable] = []
        """Connections to flush at the end of this iteration of the event loop."""

    def hold(self, watch: "StallWatch", size_bytes: int) -> None:
        """Count the untaken bytes of a connection; beyond the limit, abort those paused longest.

        No event is lost: their clients reconnect with their cursor and read the log.
        """
        self._untaken_bytes += size_bytes - self._untaken.get(watch, 0)
        self._untaken[watch] = size_bytes
        while self._untaken_bytes > self.untaken_limit_bytes and len(self._untaken) > 1:
            oldest = next(iter(self._untaken))
            self.release(oldest)
            oldest.cut()

    def release(self, watch: "StallWatch") -> None:
        """Stop counting a connection that is no longer paused, or is gone."""
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
    """Aborts a paused transport that stalls; a slow reader that reads is left alone.

    A transport stalls when neither its write buffer nor the bytes in the kernel have shrunk for
    `stall_seconds`.
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
        """Stop watching: the transport is no longer paused, or is gone."""
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
    """Return the bytes not yet acknowledged by the peer: in the write buffer and in the kernel."""
    held = transport.get_write_buffer_size()
    with contextlib.suppress(OSError, AttributeError, ValueError):
        connection = transport.get_extra_info("socket")
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        held += struct.unpack("i", answer)[0]
    return held


def end(transport: Transport, loop: AbstractEventLoop, traffic: Traffic) -> None:
    """Close without a close frame, so that the client reconnects by itself.

    Buffered output is sent first; a reader that does not take it is aborted.
    """
    transport.close()
    if transport.get_write_buffer_size():
        loop.call_later(traffic.stall_seconds, abort, transport)


def abort(transport: Transport) -> None:
    """End the connection at once; buffered output is lost, in the kernel as well.

    Without the reset the kernel would keep the output for minutes for an absent reader.
    """
    # A socket that is closed already: ValueError from uvloop, AttributeError from asyncio.
    with contextlib.suppress(OSError, AttributeError, ValueError):
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(AttributeError):  # from asyncio, for a transport that is gone
        transport.abort()


def bound_unsent(listener: socket.socket) -> None:
    """Limit the unsent bytes in the kernel of every connection that this socket accepts."""
    with contextlib.suppress(OSError):
        # Not every platform has the option; the write limit bounds memory there as well.
        listener.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_LIMIT_BYTES)
