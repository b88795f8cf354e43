"""Streams of one process keep up with what another one appends, by the doorbell."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from events.follower import Follower
from events.stores.memory import MemoryEventStore
from events.stores.postgres.store import PostgresEventStore
from server.cluster.doorbell import Doorbell
from server.cluster.following import Following
from server.cluster.postgres_channel import PostgresChannel
from storage.database.postgres import number_of
from tests.support.exchange import Exchange
from tests.support.postgres import open_postgres
from tests.support.streams import USER, message, open_stream
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio

FAR = 1_000.0
"""Seconds between two looks where rings alone are to bring what was appended."""


@asynccontextmanager
async def node(store, channel, incarnation, *, look_seconds=FAR, **hearers):
    """A doorbell and a following over a store."""
    follower = Follower(store, look_seconds=look_seconds, calm_seconds=look_seconds)
    following = Following(follower, number_of, **hearers)
    running = asyncio.get_running_loop().create_task(follower.run())
    try:
        async with Doorbell(channel, following, incarnation=incarnation) as bell:
            await until(lambda: bell.hears)
            yield bell, following
    finally:
        running.cancel()
        await asyncio.wait([running])
        await follower.close()


@pytest.fixture
def store():
    return MemoryEventStore()


@pytest.fixture
def exchange():
    return Exchange()


async def test_a_ring_brings_an_open_stream_up_and_a_log_that_is_not_open_is_passed_over(
    store, exchange
):
    ours, theirs = await open_stream(store, "c"), await open_stream(store, "c")
    async with node(store, exchange, 1) as (_, following), node(store, exchange, 2) as (bell, _):
        following.add(ours)
        await theirs.append(message("a"), USER)
        bell.ring(number_of("another"), 9)
        bell.ring(number_of("c"), 1)
        await until(lambda: ours.next_id == 1)


async def test_a_stream_that_is_discarded_is_not_brought_up(store, exchange):
    left, right = await open_stream(store, "c"), await open_stream(store, "d")
    theirs = [await open_stream(store, name) for name in "cd"]
    async with node(store, exchange, 1) as (_, following), node(store, exchange, 2) as (bell, _):
        for one in (left, right):
            following.add(one)
        following.discard(left)
        for one in theirs:
            await one.append(message("a"), USER)
            bell.ring(number_of(one.conversation_id), 1)
        await until(lambda: right.next_id == 1)

    assert left.next_id == 0


async def test_a_message_that_is_lost_is_made_up_for_by_a_look_at_the_next_one(store, exchange):
    ours, theirs = await open_stream(store, "c"), await open_stream(store, "c")
    async with node(store, exchange, 1) as (_, following), node(store, exchange, 2) as (bell, _):
        following.add(ours)
        await theirs.append(message("a"), USER)
        exchange.carries = lambda _: 0
        sent = len(exchange.sent)
        bell.ring(number_of("c"), 1)
        await until(lambda: len(exchange.sent) > sent)
        exchange.carries = lambda _: 1
        bell.ring(number_of("another"), 1)
        await until(lambda: ours.next_id == 1)


async def test_without_a_doorbell_looks_bring_what_was_appended(store, exchange):
    ours, theirs = await open_stream(store, "c"), await open_stream(store, "c")
    async with node(store, exchange, 1, look_seconds=0.01) as (_, following):
        following.add(ours)
        exchange.cut()
        await theirs.append(message("a"), USER)
        await until(lambda: ours.next_id == 1)


async def test_what_is_no_append_is_told_of_conversations_that_are_open_here(store, exchange):
    changed: list[str] = []
    notices: list[tuple[str, object]] = []
    ours = await open_stream(store, "c")
    async with (
        node(
            *(store, exchange, 1),
            changed=changed.append,
            noticed=lambda *one: notices.append(one),
        ) as (_, following),
        node(store, exchange, 2) as (bell, _),
    ):
        following.add(ours)
        bell.look_at(number_of("another"))
        bell.look_at(number_of("c"))
        bell.notice("c", {"type": "title"})
        await until(lambda: notices)

    assert changed == ["c"]
    assert notices == [("c", {"type": "title"})]


async def test_what_one_process_appends_to_postgresql_rings_at_the_other(tmp_path):
    async with (
        open_postgres(tmp_path) as here,
        open_postgres(tmp_path) as there,
    ):
        ours, theirs = PostgresEventStore(here), PostgresEventStore(there)
        stream, writer = await open_stream(ours, "c"), await open_stream(theirs, "c")
        async with (
            node(ours, PostgresChannel(here), 1) as (_, following),
            node(theirs, PostgresChannel(there), 2) as (bell, _),
        ):
            theirs.appended = bell.ring
            following.add(stream)
            for number in range(5):
                await writer.append(message(str(number)), USER)
            await until(lambda: stream.next_id == 5)
            # Both append at once: whoever is overtaken forms its events for the new end.
            await asyncio.gather(
                *(one.append(message("x"), USER) for one in (stream, writer) for _ in range(20))
            )
            await until(lambda: stream.next_id == 45)
        for one in (ours, theirs):
            await one.close()


async def test_a_look_tells_of_a_log_that_was_deleted_although_no_ring_did(store, exchange):
    changed: list[str] = []
    stream = await open_stream(store, "c")
    await stream.append(message("a"), USER)
    looks = node(store, exchange, 1, look_seconds=0.01, changed=changed.append)
    async with looks as (_, following):
        following.add(stream)
        await store.delete("c")
        await until(lambda: "c" in changed)
        following.discard(stream)
