"""What the connections of one busy address may take of the loop: a slice, and no more than it has."""

import asyncio
import socket

import pytest
import uvloop
from websockets.frames import Frame, Opcode

from server.addresses import Addresses
from server.config import ServerConfig
from server.rates import Rates
from server.sockets.allowance import UNLIMITED, Allowance
from server.sockets.crowd import Crowd
from server.sockets.guard import Traffic
from server.sockets.websocket import SLICE_BYTES, Websocket

BODY = b"t" * 58
FRAME_BYTES = len(BODY) + 6
SLICE_FRAMES = SLICE_BYTES // FRAME_BYTES
DEADLINE_SECONDS = 20


def frames(count: int) -> bytes:
    return b"".join(
        bytes(Frame(Opcode.TEXT, BODY).serialize(mask=True, extensions=[])) for _ in range(count)
    )


class Ear:
    """A websocket on a real transport, and what it hands on."""

    def __init__(self, pace: Allowance) -> None:
        self.pace = pace
        self.taken = 0
        self.turns = 0
        self.most_in_a_turn = 0
        self.deepest = 0.0
        self.all = asyncio.Event()
        self._expected = 0
        self._in_turn = 0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        ours, self._peer = socket.socketpair()
        self._peer.settimeout(0)
        self._transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        config = ServerConfig()
        place = Crowd(config, Rates(config, Addresses(config))).enter("10.0.0.1", lambda: None)
        one = Websocket(self._transport, loop, Traffic(5.0), set(), place, self.pace)
        one.receiver = self._take
        one.open(self)

    def close(self) -> None:
        self._transport.abort()
        self._peer.close()

    async def hear(self, count: int) -> None:
        """Be sent so many messages, until all were taken."""
        self._expected = count
        await asyncio.get_running_loop().sock_sendall(self._peer, frames(count))
        await self.all.wait()

    def receive(self, message: bytes, *, text: bool) -> None:
        raise AssertionError

    def lost(self) -> None:
        """Nothing is kept of it."""

    def _take(self, message: bytes) -> bool:
        assert message == BODY
        if not self._in_turn:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._in_turn += 1
        self.taken += 1
        self.deepest = min(self.deepest, self.pace.tokens)
        if self.taken == self._expected:
            self.all.set()
        return True

    def _end_turn(self) -> None:
        self.turns += 1
        self.most_in_a_turn = max(self.most_in_a_turn, self._in_turn)
        self._in_turn = 0


def run(ears: int, count: int, pace: Allowance) -> list[Ear]:
    async def hear() -> list[Ear]:
        made = [Ear(pace) for _ in range(ears)]
        async with asyncio.timeout(DEADLINE_SECONDS):
            for ear in made:
                await ear.open()
            await asyncio.gather(*(ear.hear(count) for ear in made))
        for ear in made:
            ear.close()
        return made

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(hear())


@pytest.mark.parametrize("ears", [1, 10])
def test_an_address_that_is_held_back_owes_a_slice_at_most_however_many_connections_it_has(ears):
    made = run(ears, 60, Allowance(per_second=400, burst=40))

    assert [ear.taken for ear in made] == [60] * ears
    deepest = min(ear.deepest for ear in made)
    assert -SLICE_FRAMES - 2 <= deepest < 0


def test_who_sends_much_has_a_slice_of_it_looked_at_in_each_turn():
    (ear,) = run(1, 400, Allowance(per_second=1, burst=1000))

    assert ear.most_in_a_turn <= SLICE_FRAMES + 1
    assert ear.turns >= 400 // (SLICE_FRAMES + 1)


def test_whom_no_limits_apply_to_is_not_cut_into_small_slices():
    (ear,) = run(1, 400, UNLIMITED)

    assert ear.most_in_a_turn > 4 * SLICE_FRAMES
