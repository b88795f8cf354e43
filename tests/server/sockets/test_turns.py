"""Replays that are many share one part of each turn of the loop, in the order in which they came."""

import asyncio
import time

import pytest

from server.sockets.frames import SHARE_BYTES, SHARE_SECONDS, WOKEN, ReplayScheduler
from tests.support.waiting import WAIT_SECONDS

Served = tuple[int, int]
"""The turn of the loop in which a slice was worked on, and whose it was."""
MANY = 3 * WOKEN


def work_for(seconds: float) -> None:
    ends = time.perf_counter() + seconds
    while time.perf_counter() <= ends:
        continue


class Loop:
    """Counts the turns of the loop, as somebody else who wants his turn."""

    def __init__(self) -> None:
        self.turn = 0
        self.served = asyncio.Event()

    async def run(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


async def replay(turns, loop, name, done, slices=3, seconds=2 * SHARE_SECONDS):
    for _ in range(slices):
        await turns.acquire()
        done.append((loop.turn, name))
        loop.served.set()
        work_for(seconds)


async def run(*replays, loop):
    counting = asyncio.create_task(loop.run())
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*replays)
    counting.cancel()


async def test_of_many_long_slices_one_is_worked_on_in_a_turn_of_the_loop():
    turns, loop = ReplayScheduler(), Loop()
    done: list[Served] = []

    await run(*(replay(turns, loop, name, done) for name in range(MANY)), loop=loop)

    assert len(done) == 3 * MANY
    in_a_turn = [[one for one, _ in done].count(turn) for turn in {one for one, _ in done}]
    assert max(in_a_turn) == 1


async def test_who_came_first_is_served_first_and_nobody_a_second_time_before_all_were():
    turns, loop = ReplayScheduler(), Loop()
    done: list[Served] = []

    await run(*(replay(turns, loop, name, done) for name in range(MANY)), loop=loop)

    # The first had its turn before the others came, and then waits before them.
    everybody = [*range(MANY)]
    assert [name for _, name in done] == [0, *everybody, *everybody, *everybody[1:]]


async def test_so_many_bytes_are_sent_in_a_turn_of_the_loop_and_a_slice_more():
    turns, loop = ReplayScheduler(), Loop()
    done: list[Served] = []

    async def send(name):
        for _ in range(4):
            await turns.acquire()
            turns.sent(SHARE_BYTES // 2 + 1)
            done.append((loop.turn, name))

    await run(*(send(name) for name in range(WOKEN)), loop=loop)

    in_a_turn = [[one for one, _ in done].count(turn) for turn in {one for one, _ in done}]
    assert max(in_a_turn) == 2


async def test_short_slices_share_a_turn_of_the_loop():
    turns, loop = ReplayScheduler(), Loop()
    done: list[Served] = []

    await run(
        *(replay(turns, loop, name, done, seconds=0.0) for name in range(4 * WOKEN)), loop=loop
    )

    assert done[-1][0] - done[0][0] < len(done) / 2


async def test_who_is_alone_does_not_wait():
    first_step = ReplayScheduler().acquire()
    try:
        first_step.send(None)
    except StopIteration:
        waited = False
    else:
        waited = True
    assert not waited


async def test_one_who_leaves_while_waiting_takes_nobodys_turn():
    turns, loop = ReplayScheduler(), Loop()
    done: list[Served] = []
    work = [asyncio.create_task(replay(turns, loop, name, done)) for name in range(MANY)]
    await loop.served.wait()
    for one in work[1::2]:
        one.cancel()

    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*work, return_exceptions=True)

    assert {name for _, name in done} == set(range(0, MANY, 2))
    assert len(done) == 3 * len(work[::2])


@pytest.mark.parametrize("turns_later", range(4))
async def test_many_who_leave_at_once_take_the_others_turns_with_them_at_no_moment(turns_later):
    turns, loop = ReplayScheduler(), Loop()
    done: list[Served] = []
    work = [asyncio.create_task(replay(turns, loop, name, done)) for name in range(MANY)]
    await loop.served.wait()
    for _ in range(turns_later):  # some of those who leave may have been called up just now
        await asyncio.sleep(0)
    for one in work[: 2 * WOKEN]:
        one.cancel()

    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*work, return_exceptions=True)

    assert [name for _, name in done].count(MANY - 1) == 3


@pytest.mark.parametrize("pause", range(6))
async def test_who_comes_back_from_elsewhere_stands_behind_all_who_wait(pause):
    turns, loop = ReplayScheduler(), Loop()
    done: list[Served] = []

    async def send(name):
        while len(done) < 10 * MANY:
            await turns.acquire()
            turns.sent(SHARE_BYTES)
            done.append((loop.turn, name))
            for _ in range(pause):  # until the client has taken it
                await asyncio.sleep(0)

    await run(*(send(name) for name in range(MANY)), loop=loop)

    served = [[name for _, name in done].count(one) for one in range(MANY)]
    assert min(served) >= 9, served
