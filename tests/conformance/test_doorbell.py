"""The doorbell over every channel that there is: rings arrive, losses are noticed, it comes back."""

from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from server.cluster.doorbell import Doorbell
from server.cluster.postgres_channel import PostgresChannel
from server.cluster.redis_channel import RedisChannel
from server.cluster.wire import LOOK, Kind
from tests.support.exchange import Exchange, Heard
from tests.support.postgres import open_postgres, postgres_server
from tests.support.redis import redis_server
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def exchange_in(_folder):
    exchange = Exchange()

    def come_back():
        exchange.is_up = True

    yield exchange, exchange.cut, come_back


@asynccontextmanager
async def redis_in(folder):
    server = redis_server()
    channel = RedisChannel(server.url, f"parley:{folder.name}")
    try:
        yield channel, server.kill, server.start
    finally:
        if not server.runs:
            server.start()


@asynccontextmanager
async def postgres_in(folder):
    server = postgres_server()
    async with open_postgres(folder) as pool:
        yield PostgresChannel(pool), server.kill, server.start


CHANNELS = {"exchange": exchange_in, "redis": redis_in, "postgres": postgres_in}


@pytest.fixture(params=[*CHANNELS])
async def world(request, tmp_path):
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(CHANNELS[request.param](tmp_path))


@asynccontextmanager
async def nodes(channel, count=3):
    async with AsyncExitStack() as stack:
        hearers = [Heard() for _ in range(count)]
        bells = [
            await stack.enter_async_context(Doorbell(channel, one, incarnation=number + 1))
            for number, one in enumerate(hearers)
        ]
        await until(lambda: all(one.hears for one in bells))
        yield bells, hearers


async def test_all_others_hear_what_one_says(world):
    channel, _, _ = world
    async with nodes(channel) as (bells, hearers):
        bells[0].ring(2**63 - 1, 7)
        bells[0].look_at(5)
        bells[0].tell(Kind.OWNERS, 9, 3)
        bells[0].tell(Kind.LOOPS, 11)
        bells[0].notice("c", {"text": "Ω"})
        await until(lambda: all(heard.notices for heard in hearers[1:]))

    for heard in hearers[1:]:
        assert heard.rings == {2**63 - 1: 7, 5: LOOK}
        assert heard.tellings == [(Kind.OWNERS, 9, 3), (Kind.LOOPS, 11, 0)]
        assert heard.notices == [("c", {"text": "Ω"})]
    assert hearers[0].rings == {}
    assert not any(heard.misses for heard in hearers)


async def test_many_rings_of_several_at_once_all_arrive_in_the_order_of_each_log(world):
    channel, _, _ = world
    count = 5_000
    async with nodes(channel) as (bells, hearers):
        for position in (1, 2, 3):
            for number in range(count):
                bells[number % 3].ring(number, position)
        expected = [
            {number: 3 for number in range(count) if number % 3 != place} for place in range(3)
        ]
        await until(lambda: [heard.rings for heard in hearers] == expected)

    for heard in hearers:
        newest: dict[int, int] = {}
        for number, position in heard.order:
            assert position >= newest.get(number, 0)
            newest[number] = position


async def test_a_channel_that_dies_is_noticed_and_used_again(world):
    channel, kill, come_back = world
    async with nodes(channel, 2) as (bells, hearers):
        kill()
        await until(lambda: not any(one.hears for one in bells))
        bells[0].ring(5, 1)
        come_back()
        await until(lambda: all(one.hears for one in bells))
        bells[0].ring(6, 1)
        await until(lambda: 6 in hearers[1].rings)

    assert hearers[1].hearing[:3] == [True, False, True]
