"""The frames that are not whole text messages, as the library reads them: for the short way."""

from collections.abc import Iterator
from typing import cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol


class OtherFrames:
    """Control frames, fragments, binary and what is malformed, of one connection."""

    __slots__ = ("_binary", "_fragments", "_library")

    def __init__(self, longest_bytes: int) -> None:
        self._library = ServerProtocol(state=State.OPEN, max_size=longest_bytes)
        self._fragments = bytearray()
        self._binary = False

    @property
    def within_message(self) -> bool:
        """Whether a message has begun whose last fragment has not come."""
        return self._library.current_size is not None

    @property
    def closing(self) -> bool:
        """Whether a farewell was said, by either side."""
        return self._library.state is not State.OPEN

    @property
    def malformed(self) -> bool:
        """Whether the client broke the protocol's rules."""
        return self._library.parser_exc is not None

    def widen(self, longest_bytes: int) -> None:
        """Take messages up to this length from now on."""
        self._library.max_message_size = longest_bytes

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool] | None]:
        """Read what was received: for each frame the message it completes, and whether it is text."""
        self._library.receive_data(data)
        for event in self._library.events_received():
            yield self._message(cast("Frame", event))

    def say_restart(self) -> None:
        """Say farewell: the server will be back. See uvicorn's protocols."""
        self._library.send_close(CloseCode.SERVICE_RESTART)

    def answer(self) -> bytes:
        """The frames that are to be sent now: pongs, a farewell."""
        return b"".join(self._library.data_to_send())

    def close(self) -> None:
        """Nothing is read any more: the library's parser leads back to itself, and would stay."""
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
