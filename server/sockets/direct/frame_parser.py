"""Splits a client's bytes into websocket frames (RFC 6455, section 5.2), without the library.

A whole text message in one frame, which is what clients send, is unmasked here. Everything else
(control frames, fragments, binary, malformed or long frames) is passed to the library unchanged.
"""

from collections.abc import Callable, Iterator
from typing import cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol


class UncommonFrames:
    """Parses one connection's control frames, fragments, binary and malformed frames."""

    __slots__ = ("_binary", "_fragments", "_library")

    def __init__(self, longest_bytes: int) -> None:
        self._library = ServerProtocol(state=State.OPEN, max_size=longest_bytes)
        self._fragments = bytearray()
        self._binary = False

    @property
    def within_message(self) -> bool:
        """Whether a fragmented message is incomplete."""
        return self._library.current_size is not None

    @property
    def closing(self) -> bool:
        """Whether either side has sent a close frame."""
        return self._library.state is not State.OPEN

    @property
    def malformed(self) -> bool:
        """Whether the client broke the protocol's rules."""
        return self._library.parser_exc is not None

    def widen(self, longest_bytes: int) -> None:
        """Take messages up to this length from now on."""
        self._library.max_message_size = longest_bytes

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool] | None]:
        """Parse received data; yield for each frame the message it completes, and if it is text."""
        self._library.receive_data(data)
        for event in self._library.events_received():
            yield self._message(cast("Frame", event))

    def say_restart(self) -> None:
        """Say farewell: the server will be back. See uvicorn's protocols."""
        self._library.send_close(CloseCode.SERVICE_RESTART)

    def answer(self) -> bytes:
        """Return the frames to send now: pongs, a close frame."""
        return b"".join(self._library.data_to_send())

    def close(self) -> None:
        """Stop reading and release the library's parser, which is part of a reference cycle."""
        self._library.parser.close()

    def _message(self, frame: Frame) -> tuple[bytes, bool] | None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._binary = frame.opcode is Opcode.BINARY
        elif frame.opcode is not Opcode.CONT:
            return None  # the library answers control frames by itself
        self._fragments += frame.data
        if not frame.fin:
            return None
        message = bytes(self._fragments)
        self._fragments.clear()
        return message, not self._binary


try:
    from websockets.speedups import apply_mask
except ImportError:  # the library was built without its C part
    from websockets.utils import apply_mask

WHOLE_TEXT = 0x81
MASKED = 0x80
HELD_BYTES = 64 * 1024
"""The longest frame that is buffered here; a longer one is streamed into the library."""
LONG, VERY_LONG = 126, 127


def _taken(_message: bytes) -> bool:
    return True


def _left(_data: bytes) -> None:
    """Do nothing: the client has left."""


class FrameParser:
    """One connection's incoming bytes, from the first frame on.

    `take` gets each whole text message and returns whether it was handled; `leave` gets the bytes
    of all other frames, in order.
    """

    __slots__ = ("_held", "_lacking_bytes", "_leave", "_library_bytes", "_lost", "_take")

    def __init__(self, take: Callable[[bytes], bool], leave: Callable[[bytes], None]) -> None:
        self._take = take
        self._leave = leave
        self._held = b""
        self._lacking_bytes = 0
        """Of the frame that is held, once its head has come."""
        self._library_bytes = 0
        self._lost = False

    @property
    def lacking_bytes(self) -> int:
        """Bytes missing of the current frame; 0 if not known."""
        return self._library_bytes or self._lacking_bytes

    def close(self) -> None:
        """Stop parsing and release the callbacks."""
        self._take, self._leave = _taken, _left

    def feed(self, data: bytes) -> None:
        """Parse received data."""
        if self._lost:
            self._leave(data)
            return
        if self._held:
            data, self._held = self._held + data, b""
            self._lacking_bytes = 0
        start = self._finish_long(data) if self._library_bytes else 0
        while start < len(data):
            end = self._cut(data, start)
            if end is None:
                return
            start = end

    def _finish_long(self, data: bytes) -> int:
        """Pass the rest of a long frame to the library; return where the next frame begins."""
        due = data[: self._library_bytes]
        self._library_bytes -= len(due)
        self._leave(due)
        return len(due)

    def _cut(self, data: bytes, start: int) -> int | None:
        """Deal with the frame at `start`; where it ends, or None when the rest was put away."""
        received = len(data)
        if received - start < 2:  # noqa: PLR2004 - the shortest header
            self._held = data[start:]
            return None
        size = data[start + 1] ^ MASKED
        body = start + 6
        if size >= LONG:
            if size > VERY_LONG:  # it is not masked: from here on nothing is certain
                self._lost = True
                self._leave(data[start:])
                return None
            body += 2 if size == LONG else 8
            size = int.from_bytes(data[start + 2 : body - 4], "big")
        end = body + size
        if body > received or (end > received and end - start <= HELD_BYTES):
            self._held = data[start:]
            self._lacking_bytes = 0 if body > received else end - received
            return None
        if end > received:
            self._library_bytes = end - received
            self._leave(data[start:])
            return None
        if data[start] != WHOLE_TEXT or not self._take(
            apply_mask(data[body:end], data[body - 4 : body])
        ):
            self._leave(data[start:end])
        return end
