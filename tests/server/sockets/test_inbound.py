"""Inbound: whole text messages are taken, and everything else reaches the library unchanged."""

import os
from itertools import pairwise

from hypothesis import given, strategies as st
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from server.sockets.direct.frame_parser import HELD_BYTES, FrameParser

SIZES = st.sampled_from([0, 1, 125, 126, 127, 500, 65535, 65536, 70_000])
KINDS = st.sampled_from(["text", "refused text", "binary", "ping", "first part", "last part"])


def frame(kind: str, size: int) -> bytes:
    """A client's frame; a text that is to be refused begins with `r`."""
    body = b"r" + b"t" * size if kind == "refused text" else b"t" * size
    match kind:
        case "text" | "refused text":
            made = Frame(Opcode.TEXT, body)
        case "binary":
            made = Frame(Opcode.BINARY, body)
        case "ping":
            made = Frame(Opcode.PING, body[:125])
        case "first part":
            made = Frame(Opcode.TEXT, body, fin=False)
        case _:
            made = Frame(Opcode.CONT, body)
    return bytes(made.serialize(mask=True, extensions=[]))


class Ends:
    """The messages and bytes that come out."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.left = b""
        self.inbound = FrameParser(self._take, self._leave)

    def _take(self, message: bytes) -> bool:
        if message.startswith(b"r"):
            return False
        self.taken.append(message)
        return True

    def _leave(self, data: bytes) -> None:
        self.left += data


@given(
    frames=st.lists(st.tuples(KINDS, SIZES), max_size=12),
    cuts=st.lists(st.integers(0, 300_000), max_size=20),
)
def test_however_the_bytes_are_cut_each_frame_goes_its_way_in_order(frames, cuts):
    made = [(kind, size, frame(kind, size)) for kind, size in frames]
    stream = b"".join(data for _, _, data in made)
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    ends = Ends()

    for start, end in pairwise(places):
        ends.inbound.feed(stream[start:end])

    left = ends.left
    taken = iter(ends.taken)
    for kind, size, data in made:
        if left.startswith(data) and (kind != "text" or len(data) > HELD_BYTES):
            left = left.removeprefix(data)
        else:
            assert kind == "text"
            assert next(taken) == b"t" * size
    assert left == b""
    assert next(taken, None) is None


def test_bytes_that_trickle_in_one_by_one_are_put_together():
    ends = Ends()

    for byte in frame("text", 300):
        ends.inbound.feed(bytes([byte]))

    assert ends.taken == [b"t" * 300]
    assert ends.left == b""


def test_a_long_frame_streams_into_the_library_and_the_next_is_taken_again():
    ends = Ends()
    long, short = frame("text", 3 * HELD_BYTES), frame("text", 5)

    ends.inbound.feed(long[:100])
    assert ends.left == long[:100]
    ends.inbound.feed(long[100:] + short)

    assert ends.left == long
    assert ends.taken == [b"t" * 5]


def test_a_frame_that_is_not_masked_is_the_librarys_business_from_there_on():
    ends = Ends()
    bare = bytes(Frame(Opcode.TEXT, b"t").serialize(mask=False, extensions=[]))

    ends.inbound.feed(bare + frame("text", 3))
    ends.inbound.feed(frame("text", 4))

    assert ends.taken == []
    assert ends.left.startswith(bare)


def test_what_is_left_is_what_the_library_makes_sense_of():
    library = ServerProtocol()
    library.state = library.state.__class__.OPEN
    library.parser = super(ServerProtocol, library).parse()
    next(library.parser)
    inbound = FrameParser(lambda _: False, library.receive_data)
    payloads = [os.urandom(size).hex().encode() for size in (0, 40, 100, 40_000, 1)]

    for payload in payloads:
        inbound.feed(bytes(Frame(Opcode.TEXT, payload).serialize(mask=True, extensions=[])))

    received = [one for one in library.events_received() if isinstance(one, Frame)]
    assert [bytes(one.data) for one in received] == payloads
