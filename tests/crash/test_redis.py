"""A Redis that is killed, frozen, emptied, or drops who listens: appends go on, and nothing is lost."""

import asyncio
import signal
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from events.follower import Follower
from events.stores.postgres.store import PostgresEventStore
from server.cluster.doorbell import Doorbell
from server.cluster.following import Following
from server.cluster.redis_channel import RedisChannel
from storage.database.postgres import number_of
from tests.support.postgres import open_postgres
from tests.support.redis import redis_server
from tests.support.streams import USER, message, open_stream
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio

FAR = 1_000.0
"""Seconds between two looks where the doorbell alone is to say when to look."""
LOOK_SECONDS = 0.1
DEAF_SECONDS = 2.5
"""An echo is waited for 1.5 s; the rest is for a busy machine."""
BACK_SECONDS = 10.0
"""A doorbell pauses 5 s at most before it connects anew; the rest is for a busy machine."""


class World:
    """A process that appends and one that follows, over one PostgreSQL and one Redis."""

    def __init__(self, stream, writer, bells):
        self.redis = redis_server()
        self.stream = stream
        self.writer = writer
        self.bells = bells

    @property
    def hears(self):
        return all(bell.hears for bell in self.bells)

    @property
    def is_level(self):
        return self.stream.next_id == self.writer.next_id

    async def append(self, count=20):
        for number in range(count):
            await self.writer.append(message(str(number)), USER)

    async def ask(self, *command):
        async with Redis.from_url(self.redis.url) as redis:
            return await redis.execute_command(*command)


@asynccontextmanager
async def node(pool, channel, incarnation, look_seconds):
    """One process: its store rings after each append, and its doorbell says what to read."""
    store = PostgresEventStore(pool)
    follower = Follower(store, look_seconds=look_seconds, calm_seconds=FAR)
    following = Following(follower, number_of)
    running = asyncio.get_running_loop().create_task(follower.run())
    try:
        async with Doorbell(channel, following, incarnation=incarnation) as bell:
            store.appended = bell.ring
            yield store, following, bell
    finally:
        running.cancel()
        await asyncio.wait([running])
        await follower.close()
        await store.close()


@asynccontextmanager
async def cluster(folder, look_seconds=FAR):
    server = redis_server()
    channel = RedisChannel(server.url, f"parley:{folder.name}")
    try:
        async with (
            open_postgres(folder) as here,
            open_postgres(folder) as there,
            node(here, channel, 1, look_seconds) as (ours, following, ear),
            node(there, channel, 2, look_seconds) as (theirs, _, mouth),
        ):
            stream, writer = await open_stream(ours), await open_stream(theirs)
            following.add(stream)
            world = World(stream, writer, (ear, mouth))
            await until(lambda: world.hears)
            yield world
    finally:
        if server.runs:
            server.signal(signal.SIGCONT)
        else:
            server.start()


def kill(redis):
    redis.kill()
    return redis.start


def freeze(redis):
    redis.signal(signal.SIGSTOP)
    return lambda: redis.signal(signal.SIGCONT)


@pytest.mark.parametrize("fault", [kill, freeze])
async def test_without_redis_appends_go_on_and_looks_bring_them_to_the_others(fault, tmp_path):
    async with cluster(tmp_path, LOOK_SECONDS) as world:
        clock = asyncio.get_running_loop().time
        heal = fault(world.redis)
        began = clock()
        await world.append()
        await until(lambda: not any(bell.hears for bell in world.bells))
        deaf_after = clock() - began
        await until(lambda: world.is_level)
        heal()
        healed = clock()
        await until(lambda: world.hears)
        back_after = clock() - healed

    assert deaf_after < DEAF_SECONDS
    assert back_after < BACK_SECONDS


@pytest.mark.parametrize("fault", [kill, freeze])
async def test_a_doorbell_that_hears_again_brings_what_was_missed(fault, tmp_path):
    async with cluster(tmp_path) as world:
        heal = fault(world.redis)
        await until(lambda: not any(bell.hears for bell in world.bells))
        await world.append()
        heal()
        healed = asyncio.get_running_loop().time()
        await until(lambda: world.is_level)

        assert world.stream.next_id == 20
        assert asyncio.get_running_loop().time() - healed < BACK_SECONDS


@pytest.mark.parametrize("command", [("FLUSHALL",), ("CLIENT", "KILL", "TYPE", "pubsub")])
async def test_what_is_appended_while_redis_is_disturbed_arrives_without_a_look(command, tmp_path):
    async with cluster(tmp_path) as world:
        for _ in range(5):
            appending = asyncio.get_running_loop().create_task(world.append())
            await world.ask(*command)
            await appending
        await until(lambda: world.is_level)

        assert world.stream.next_id == 100


async def test_an_append_takes_no_longer_while_redis_stands_still(tmp_path):
    """Nothing but the doorbell's own task waits for Redis: the socket's deadline is 1 s."""
    async with cluster(tmp_path) as world:
        clock = asyncio.get_running_loop().time
        world.redis.signal(signal.SIGSTOP)
        slowest = 0.0
        while any(bell.hears for bell in world.bells):
            began = clock()
            await world.append(1)
            slowest = max(slowest, clock() - began)

        assert slowest < 1.0
