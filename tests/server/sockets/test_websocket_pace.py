"""The share of the loop that the connections of a busy address take: a slice, and no more than it has."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import uvloop
from websockets.frames import Frame, Opcode

from server.access.client_address import Addresses
from server.access.connection_limits import UNLIMITED_QUEUED, ConnectionLimits, QueuedTokenBucket
from server.access.rate_limits import RateLimits
from server.config.settings import ServerConfig
from server.sockets.direct.websocket import SLICE_BYTES, Websocket
from server.sockets.transport.stall_watch import Traffic
from tests.support.waiting import WAIT_SECONDS, until

BODY = b"t" * 58
FRAME_BYTES = len(BODY) + 6
SLICE_FRAMES = SLICE_BYTES // FRAME_BYTES


def frames(count: int) -> bytes:
    return b"".join(
        bytes(Frame(Opcode.TEXT, BODY).serialize(mask=True, extensions=[])) for _ in range(count)
    )


class Ear:
    """A websocket on a real transport, and what it hands on."""

    def __init__(self, packet_bucket: QueuedTokenBucket) -> None:
        self.packet_bucket = packet_bucket
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
        admission = ConnectionLimits(config, RateLimits(config, Addresses(config))).admit(
            "10.0.0.1", lambda: None
        )
        self._ours = Websocket(
            self._transport, loop, Traffic(5.0), set(), admission, self.packet_bucket
        )
        self._ours.receiver = self._take
        self._ours.open(self)

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
        self.deepest = min(self.deepest, self.packet_bucket.tokens)
        if self.taken == self._expected:
            self.all.set()
        return True

    def _end_turn(self) -> None:
        self.turns += 1
        self.most_in_a_turn = max(self.most_in_a_turn, self._in_turn)
        self._in_turn = 0


def with_ears(
    count: int, packet_bucket: QueuedTokenBucket, act: Callable[[list[Ear]], Awaitable[None]]
) -> list[Ear]:
    """Open so many of one address, act, and close them; they keep what they have noted."""

    async def open_and_act() -> list[Ear]:
        made = [Ear(packet_bucket) for _ in range(count)]
        async with asyncio.timeout(WAIT_SECONDS):
            for ear in made:
                await ear.open()
            await act(made)
        for ear in made:
            ear.close()
        return made

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(open_and_act())


def run(ears: int, count: int, packet_bucket: QueuedTokenBucket) -> list[Ear]:
    """Each is sent so many messages at once, until all were taken."""

    async def hear(made: list[Ear]) -> None:
        await asyncio.gather(*(ear.hear(count) for ear in made))

    return with_ears(ears, packet_bucket, hear)


@pytest.mark.parametrize("ears", [1, 10])
def test_an_address_that_is_held_back_owes_a_slice_at_most_however_many_connections_it_has(ears):
    made = run(ears, 60, QueuedTokenBucket(per_second=400, burst=40))

    assert [ear.taken for ear in made] == [60] * ears
    deepest = min(ear.deepest for ear in made)
    assert -SLICE_FRAMES - 2 <= deepest < 0


def test_who_sends_much_has_a_slice_of_it_looked_at_in_each_turn():
    (ear,) = run(1, 400, QueuedTokenBucket(per_second=1, burst=1000))

    assert ear.most_in_a_turn <= SLICE_FRAMES + 1
    assert ear.turns >= 400 // (SLICE_FRAMES + 1)


def test_whom_no_limits_apply_to_is_not_cut_into_small_slices():
    (ear,) = run(1, 400, UNLIMITED_QUEUED)

    assert ear.most_in_a_turn > 4 * SLICE_FRAMES


def test_connections_that_send_without_an_end_have_the_same_share():
    async def flood(ear: Ear) -> None:
        while True:
            await asyncio.get_running_loop().sock_sendall(ear._peer, frames(100))

    async def share(made: list[Ear]) -> None:
        floods = [asyncio.create_task(flood(ear)) for ear in made]
        await until(lambda: sum(ear.taken for ear in made) >= 1600, WAIT_SECONDS)
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)

    made = with_ears(8, QueuedTokenBucket(per_second=1000, burst=10), share)

    shares = sorted(ear.taken for ear in made)
    assert shares[-1] - shares[0] <= 3 * SLICE_FRAMES, shares


@pytest.mark.parametrize("ears", [1, 60])
def test_short_messages_ask_for_the_allowance_too(ears):
    made = run(ears, SLICE_FRAMES, QueuedTokenBucket(per_second=400, burst=40))

    assert min(ear.deepest for ear in made) >= -SLICE_FRAMES - 1


def test_a_long_message_is_not_cut_into_the_slices_of_short_ones():
    turns = 0

    async def send(made: list[Ear]) -> None:
        nonlocal turns
        (ear,) = made
        whole = asyncio.Event()

        def take(_message: bytes) -> bool:
            whole.set()
            return True

        ear._ours.receiver = take
        frame = Frame(Opcode.TEXT, b"t" * 60_000)
        data = bytes(frame.serialize(mask=True, extensions=[]))
        await asyncio.get_running_loop().sock_sendall(ear._peer, data)
        while not whole.is_set():
            turns += 1
            await asyncio.sleep(0)

    with_ears(1, QueuedTokenBucket(per_second=400, burst=40), send)

    assert turns < 40


def test_one_who_leaves_while_waiting_holds_up_nobody():
    async def wait() -> list[str]:
        packet_bucket, came = QueuedTokenBucket(per_second=100, burst=1), asyncio.Event()
        done: list[str] = []
        packet_bucket.tokens = -1.0
        waiting: list[Callable[[], None]]
        waiting = [partial(done.append, "first"), partial(done.append, "second"), came.set]
        for turn in waiting:
            assert packet_bucket.exhausted
            packet_bucket.wait(turn)
        packet_bucket.leave(waiting[0])
        async with asyncio.timeout(WAIT_SECONDS):
            await came.wait()
        assert not packet_bucket.exhausted
        return done

    assert asyncio.run(wait()) == ["second"]


def test_who_comes_while_others_wait_stands_behind_them_though_there_is_a_token():
    async def wait() -> tuple[bool, bool, bool]:
        packet_bucket, came = QueuedTokenBucket(per_second=100, burst=1), asyncio.Event()
        before = packet_bucket.exhausted
        packet_bucket.wait(came.set)
        between = packet_bucket.exhausted
        async with asyncio.timeout(WAIT_SECONDS):
            await came.wait()
        return before, between, packet_bucket.exhausted

    assert asyncio.run(wait()) == (False, True, False)


def test_a_turn_that_fails_is_not_the_last():
    async def wait() -> None:
        packet_bucket, came = QueuedTokenBucket(per_second=100, burst=1), asyncio.Event()
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: told.append(str(context["exception"]))
        )

        def fail() -> None:
            raise ValueError("no turn")

        packet_bucket.tokens = -1.0
        packet_bucket.wait(fail)
        packet_bucket.wait(came.set)
        async with asyncio.timeout(WAIT_SECONDS):
            await came.wait()
        assert told == ["no turn"]

    asyncio.run(wait())
