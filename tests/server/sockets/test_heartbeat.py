"""A websocket that is served the short way is asked whether it lives, and cut when it does not say."""

import asyncio
from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosed

from server.sockets.protocol import PING_SECONDS, PONG_SECONDS
from tests.support.live import live_server
from tests.support.quick_loop import QuickLoop
from tests.support.raw_client import RawClient
from tests.support.waiting import until

SLACK_SECONDS = 14.0
"""A second of the loop takes 200 ms."""


class BriskLoop(QuickLoop):
    speed = 5.0


async def answer(client: RawClient, times: int, moments: list[float]) -> None:
    """Note when pings come, and answer so many of them. Raises ConnectionClosed when cut."""
    while True:
        if await client.connection.recv() == "2":
            moments.append(asyncio.get_running_loop().time())
            if len(moments) <= times + 1:
                await client.connection.send("3")


async def pinged(times: int) -> list[float]:
    """Connect, answer so many pings and no more; how long after each other what came did."""
    loop = asyncio.get_running_loop()
    moments = [loop.time()]
    async with live_server() as live, live.raw(await live.new()) as client:
        await client.connection.send("40")
        async with asyncio.timeout((times + 2) * (PING_SECONDS + SLACK_SECONDS) + PONG_SECONDS):
            with pytest.raises(ConnectionClosed):
                await answer(client, times, moments)
        moments.append(loop.time())
        await until(lambda: not len(live.application.connections), SLACK_SECONDS)
    return [later - earlier for earlier, later in pairwise(moments)]


def test_a_client_that_answers_is_kept_and_one_that_does_not_is_cut():
    with asyncio.Runner(loop_factory=BriskLoop) as runner:
        *between, last = runner.run(pinged(1))

    assert len(between) == 2
    for seconds in between:
        assert PING_SECONDS <= seconds + 0.5 <= PING_SECONDS + SLACK_SECONDS
    assert PONG_SECONDS <= last + 0.5 <= PONG_SECONDS + SLACK_SECONDS
