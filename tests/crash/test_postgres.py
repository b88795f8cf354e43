"""Backends ended at work, and crashes of PostgreSQL: nothing acknowledged is lost, nothing doubled."""

import asyncio
from functools import partial

from tests.support.append_load import Load
from tests.support.backends import open_postgres_events
from tests.support.postgres import postgres_server, terminate_backends

ACKNOWLEDGED = 60
"""Acknowledgements between two blows."""
CRASHES = 2
TERMINATIONS = 8
"""Before each crash."""


async def strike(load: Load) -> None:
    """End backends and crash the server, each time once there is new work under way."""
    server = postgres_server()
    for _ in range(CRASHES):
        for _ in range(TERMINATIONS):
            await load.more(ACKNOWLEDGED)
            await terminate_backends()
        await load.more(ACKNOWLEDGED)
        load.up.clear()
        await asyncio.to_thread(server.crash)
        server.launch()
        await asyncio.to_thread(server.wait)
        load.up.set()
    await load.more(ACKNOWLEDGED)


async def test_whatever_ends_at_work_nothing_acknowledged_is_lost_and_nothing_is_doubled(
    tmp_path, record_property
):
    load = Load()
    async with open_postgres_events(tmp_path, deadline_seconds=60.0) as store:
        async with asyncio.timeout(250):
            await load.run(store, partial(strike, load))
        unknown = store.counters.appends_unknown

    async with open_postgres_events(tmp_path) as store:
        await load.check(store)
    record_property(
        "figures",
        f"{load.acknowledged} acknowledged, {load.refused} refused, {unknown} unknown, over"
        f" {CRASHES * TERMINATIONS} terminations and {CRASHES} crashes",
    )
