"""A PostgreSQL primary and its standby, of which the second can take the first one's place."""

import asyncio
import atexit
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import asyncpg

from tests.support.postgres import DATABASE, PostgresServer
from tests.support.waiting import until

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two servers of one cluster and the address that names both."""

    primary: PostgresServer
    standby: PostgresServer

    @property
    def url(self) -> str:
        """The address of whichever of them takes writes."""
        hosts = f"{self.primary.folder},{self.standby.folder}"
        return f"postgresql://{DATABASE}@/{DATABASE}?host={hosts}&target_session_attrs=read-write"

    async def fail_over(self) -> None:
        """End the primary without a word and have the standby take writes."""
        await asyncio.to_thread(self.primary.kill)
        await asyncio.to_thread(self.standby.promote)

    async def lose_what(self, done: Callable[[], Awaitable[T]]) -> T:
        """Do that while the standby is away, then end the primary and have the standby take writes."""
        position = (await ask_at(self.primary, "SELECT pg_current_wal_lsn()::text"))[0][0]

        async def has_all() -> bool:
            query = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
            return bool((await ask_at(self.standby, query))[0][0])

        await until(has_all)
        await asyncio.to_thread(self.standby.crash)
        result = await done()
        await asyncio.to_thread(self.primary.kill)
        self.standby.launch()
        await asyncio.to_thread(self.standby.wait)
        await asyncio.to_thread(self.standby.promote)
        return result


async def ask_at(server: PostgresServer, query: str) -> "list[asyncpg.Record]":
    """Return the rows of a query at one of them."""
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


@cache
def _prepared() -> PostgresServer:
    """A cluster with the database in it, which has ended: copies of it take no time to make."""
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    server.create()
    server.stop()
    return server


@asynccontextmanager
async def failover_pair(*, synchronous: bool) -> AsyncIterator[Pair]:
    """A primary whose standby has all that it has committed, and follows it."""
    primary = PostgresServer(copy_of=_prepared())
    servers = [primary]
    try:
        standby = PostgresServer(copy_of=_prepared())
        servers.append(standby)
        standby.follow(primary)
        primary.start()
        standby.start()

        async def follows() -> bool:
            return bool(
                await ask_at(primary, "SELECT FROM pg_stat_replication WHERE state = 'streaming'")
            )

        await until(follows)
        if synchronous:
            await ask_at(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            await ask_at(primary, "SELECT pg_reload_conf()")

            async def waits() -> bool:
                query = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"
                return bool(await ask_at(primary, query))

            await until(waits)
        yield Pair(primary, standby)
    finally:
        for one in reversed(servers):
            one.remove()
