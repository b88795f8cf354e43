"""PostgreSQL failed over to its standby under a server that goes on: nothing acknowledged is lost."""

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest

from events.event import AgentState
from storage.database.postgres import PostgresPool, Role
from storage.errors import OutcomeUnknown
from tests.support.checker import DeliveryChecker, Received
from tests.support.clients import joined
from tests.support.failover import ask_at, failover_pair
from tests.support.postgres import SECRET_KEY
from tests.support.postgres_rounds import CONVERSATIONS_WRITTEN, Load, is_ready
from tests.support.remote import as_stored, process_over
from tests.support.sse import sse_frames
from tests.support.waiting import until

READY_SECONDS = 5.0
"""Longest time from the moment in which a host takes writes until the server is ready."""
UNLIMITED = {"max_concurrent_conversations": 1_000, "max_iterations": 1_000_000}


async def test_a_failover_to_a_synchronous_standby_loses_and_doubles_nothing_acknowledged(
    tmp_path, record_property
):
    async with failover_pair(synchronous=True) as pair:
        settings = {"storage": "postgres", "database_url": pair.url, "secret_key": SECRET_KEY}
        async with process_over(tmp_path, **settings, **UNLIMITED) as (server, api):
            load = Load(server.url, await api.create_many(CONVERSATIONS_WRITTEN))
            sending = asyncio.create_task(load.run())
            await load.more()
            await pair.fail_over()
            began = time.monotonic()
            await until(lambda: is_ready(api))
            took = time.monotonic() - began
            await load.more()

            # The old primary comes back as the only one there is.
            await asyncio.to_thread(pair.standby.crash)
            pair.primary.launch()
            await asyncio.to_thread(pair.primary.wait)

            async def asks_the_old_primary():
                assert not await is_ready(api)
                return b"it was replaced: it is on timeline 1" in server.stderr

            await until(asks_the_old_primary)
            pair.standby.launch()
            await asyncio.to_thread(pair.standby.wait)
            await load.more()

            load.ended = True
            await sending
            acknowledged = 0
            for conversation_id, history in load.histories.items():
                history.check(await api.log(conversation_id))
                acknowledged += history.acknowledgements

    record_property("figures", f"{acknowledged} acknowledged, ready again after {took:.1f} s")
    assert took <= READY_SECONDS


async def say_and_rest(client, text):
    """Send a message, and wait until the agent has answered it."""
    said = await client.say(text)
    await client.state(AgentState.AWAITING_USER_INPUT, after=said["id"])


async def came_back_to(client, log, first_id):
    """The events of a client since it came back, as far as the log, were sent from there on, once."""
    await client.until(lambda one: one.cursor >= log[-1]["id"])
    connections = [Received(first_id - 1, one.events) for one in client.connections[1:]]
    connections[0].events = [one for one in connections[0].events if one["id"] < len(log)]
    assert len(connections) == 1
    DeliveryChecker(as_stored(log)).check(connections)


async def test_what_an_asynchronous_failover_lost_is_counted_and_told_and_nobody_keeps_it(
    tmp_path, record_property
):
    async with (
        failover_pair(synchronous=False) as pair,
        process_over(
            tmp_path,
            storage="postgres",
            database_url=pair.url,
            secret_key=SECRET_KEY,
            metrics="open",
            **UNLIMITED,
        ) as (server, api),
    ):
        busy, idle, spared = await api.create_many(3)
        async with (
            joined(server.url, busy, reconnection=True) as writer,
            joined(server.url, idle, reconnection=True) as reader,
            joined(server.url, spared, reconnection=True) as bystander,
            sse_frames(server.url, idle) as frames,
        ):
            for client in (writer, reader, bystander):
                await say_and_rest(client, "kept")
            kept = {one: len(await api.log(one)) for one in (busy, idle)}

            async def lost():
                for client in (writer, reader):
                    await say_and_rest(client, "lost")
                return {one: len(await api.log(one)) for one in kept}

            gone = await pair.lose_what(lost)
            await until(lambda: is_ready(api))
            # Appended at once, so that lost ids are given again before a client is back.
            for number in range(20):
                await until(partial(is_taken, api, busy, f"new {number}"))
            followed = [frame async for frame in frames if frame.name == "event"]
            assert followed[-1].data["id"] == gone[idle] - 1
            await reader.until(lambda one: len(one.connections) > 1)
            for client in (reader, bystander):
                await say_and_rest(client, "more")

            for client, one in ((writer, busy), (reader, idle)):
                log = await api.log(one)
                assert "lost" not in str(log)
                await came_back_to(client, log, kept[one])
            async with sse_frames(server.url, idle, followed[-1].id, end="now") as anew:
                again = [frame.data["id"] async for frame in anew if frame.name == "event"]
            assert again == [*range(kept[idle], len(await api.log(idle)))]
            assert len(bystander.connections) == 1
        exposed = (await api.client.get("/metrics")).text
    count = sum(gone[one] - kept[one] for one in gone)
    assert f"parley_lost_events_total {count}.0" in exposed
    for one in gone:
        told = f"{one} has lost its events {kept[one]}-{gone[one] - 1}, which had been acknowledged"
        assert server.stderr.count(told.encode()) == 1
    record_property("figures", f"{count} events lost of {len(gone)} conversations")


async def is_taken(api, conversation_id, text):
    return (await api.say(conversation_id, text, text)).status_code == 200


@asynccontextmanager
async def waiting_commit():
    """A pool whose commits wait for a standby that does not answer; what it writes, and the pair."""
    async with failover_pair(synchronous=True) as pair:
        pool = PostgresPool(pair.url, deadline_seconds=60.0)
        try:
            await pool.run(Role.RECORD, lambda one: one.execute("CREATE TABLE made (name text)"))
            pair.standby.freeze()
            try:
                yield pool, pair
            finally:
                pair.standby.thaw()
        finally:
            await pool.close()


async def made(pair):
    return [name for (name,) in await ask_at(pair.primary, "SELECT name FROM made ORDER BY name")]


def makes(name):
    return lambda session: session.execute(f"INSERT INTO made VALUES ('{name}')")  # noqa: S608


async def test_a_commit_that_waits_for_a_standby_is_never_cancelled():
    async with waiting_commit() as (pool, pair):
        caller = asyncio.create_task(pool.run(Role.RECORD, makes("abandoned")))

        async def waits():
            query = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            return bool(await ask_at(pair.primary, query))

        await until(waits)
        caller.cancel()
        await asyncio.wait([caller])
        pool.deadline_seconds = 0.3
        with pytest.raises(OutcomeUnknown, match=r"no answer within 0\.3 s"):
            await pool.run(Role.RECORD, makes("late"))

        # A cancelled commit would be seen by everybody, and be on no standby.
        assert await made(pair) == []

        pair.standby.thaw()

        async def are_made():
            return await made(pair) == ["abandoned", "late"]

        await until(are_made)
