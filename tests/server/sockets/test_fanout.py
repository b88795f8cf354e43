"""Fanout: every level client gets what is published, whatever becomes of the others."""

from events.stores.memory import MemoryEventStore
from server.sockets.fanout import Fanout
from tests.support.streams import AGENT, message, open_stream


class Client:
    """The end of a way that works, or of one that leads nowhere any more."""

    def __init__(self, fanout: Fanout, *, gone: bool = False) -> None:
        self.fanout = fanout
        self.gone = gone
        self.got = b""
        self.aborted = False
        fanout.enter(self, self.send)  # type: ignore[arg-type]  # only `abort` is asked of a session

    def send(self, frames: bytes) -> None:
        if self.gone:
            raise RuntimeError("the handler is closed")
        self.got += frames

    def abort(self) -> None:
        self.aborted = True
        self.fanout.leave(self)  # type: ignore[arg-type]


async def test_a_way_that_fails_ends_its_client_and_harms_no_other():
    stream = await open_stream(MemoryEventStore())
    fanout = Fanout(stream)
    first, lost, last = Client(fanout), Client(fanout, gone=True), Client(fanout)

    for text in ("a", "b"):
        await stream.append(message(text), AGENT)

    assert lost.aborted
    assert not first.aborted
    assert first.got == last.got
    assert first.got.count(b"oh_event") == 2
    await stream.close()


async def test_who_has_left_gets_nothing_more():
    stream = await open_stream(MemoryEventStore())
    fanout = Fanout(stream)
    stays, leaves = Client(fanout), Client(fanout)
    await stream.append(message("a"), AGENT)

    leaves.abort()
    await stream.append(message("b"), AGENT)

    assert stays.got.count(b"oh_event") == 2
    assert leaves.got.count(b"oh_event") == 1
    await stream.close()
