"""A PostgreSQL primary and its standby, of which the second can take the first one's place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from tests.support.postgres import DATABASE, PostgresServer
from tests.support.waiting import until


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


async def ask_at(server: PostgresServer, query: str) -> "list[asyncpg.Record]":
    """Return the rows of a query at one of them."""
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


@asynccontextmanager
async def failover_pair(*, synchronous: bool) -> AsyncIterator[Pair]:
    """A primary whose standby has all that it has committed, and follows it."""
    primary = PostgresServer()
    servers = [primary]
    try:
        primary.start()
        primary.create()
        standby = PostgresServer(copy_of=primary)
        servers.append(standby)
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
