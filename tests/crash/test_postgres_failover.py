"""PostgreSQL failed over to its standby under a server that goes on: nothing acknowledged is lost."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from storage.database.postgres import PostgresPool, Role
from storage.errors import OutcomeUnknown
from tests.support.failover import ask_at, failover_pair
from tests.support.postgres import SECRET_KEY
from tests.support.postgres_rounds import CONVERSATIONS_WRITTEN, Load, is_ready
from tests.support.remote import process_over
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
