"""The lock of a schema, which PostgreSQL keeps as long as its holder is connected."""

import asyncio
import hashlib
import logging
from asyncio import Future, Task
from contextlib import suppress

import asyncpg

from storage.database.postgres import PostgresPool
from storage.database.postgres_hosts import in_time
from storage.errors import SchemaLocked, Unavailable

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""Seconds a start waits for a holder that is gone, which PostgreSQL may not know yet."""
TRY_SECONDS = 0.1
BEAT_SECONDS = 5.0
"""Seconds between two looks whether the connection is still there; also those a look may take."""
LONGEST_PAUSE_SECONDS = 2.0
KEEPALIVES = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)
"""Has PostgreSQL end the session of a machine that is gone without a word after 25 seconds."""
TAKE = "SELECT pg_try_advisory_lock($1)"
TAKE_SHARED = "SELECT pg_try_advisory_lock_shared($1)"


class SchemaLock:
    """Keeps other servers away from the schema of a pool.

    With `shared` it keeps only those away that take the lock alone, and they keep it away. The lock is gone with its connection, and taken again at once. Where another server was first
    then, the pool refuses all writes until that one is gone. Through a pooler there are no sessions,
    and so there is no lock, unless the pool has an address past it.
    """

    def __init__(
        self,
        pool: PostgresPool,
        *,
        shared: bool = False,
        patience_seconds: float = PATIENCE_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._pool = pool
        self._query = TAKE_SHARED if shared else TAKE
        self._patience_seconds = patience_seconds
        self._beat_seconds = beat_seconds
        self._number = number_of_lock(pool.schema)
        self._task: Task[None] | None = None
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def take(self) -> None:
        """Take the lock, and keep it until `close`. Raises SchemaLocked, Unavailable."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._patience_seconds
        while not await self._try():
            if loop.time() > ends:
                raise SchemaLocked(self._pool.schema)
            await asyncio.sleep(TRY_SECONDS)
        self._task = loop.create_task(self._keep())

    async def close(self) -> None:
        """Let others have the schema."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._drop()

    async def _try(self) -> bool:
        """Connect and take the lock unless another has it. Raises Unavailable."""
        self._connection = connection = await self._pool.connect_directly()
        try:
            with in_time(connection, self._beat_seconds):
                await connection.execute(KEEPALIVES)
                taken = await connection.fetchval(self._query, self._number)
        except Exception as error:  # see the driver's habits in storage.database.postgres
            await self._drop()
            raise Unavailable(f"PostgreSQL: {type(error).__name__}") from error
        if not taken:
            await self._drop()
        return bool(taken)

    async def _keep(self) -> None:
        while True:
            await self._lost()
            await self._drop()
            await self._take_again()

    async def _lost(self) -> None:
        """Wait until the connection with the lock is gone."""
        connection = self._connection
        if connection is None:
            return
        ended: Future[None] = asyncio.get_running_loop().create_future()

        def end(_: object) -> None:
            if not ended.done():
                ended.set_result(None)

        connection.add_termination_listener(end)
        while not ended.done() and not connection.is_closed():
            await asyncio.wait([ended], timeout=self._beat_seconds)
            try:
                with in_time(connection, self._beat_seconds):
                    await connection.fetchval("SELECT 1")
            except Exception as error:  # noqa: BLE001 - whatever it is, the connection is of no use
                logger.debug("the connection that holds the schema is gone: %r", error)
                return

    async def _take_again(self) -> None:
        while True:
            pause = TRY_SECONDS
            try:
                if await self._try():
                    if self._pool.refusal is not None:
                        logger.warning("no other server uses the schema any more; accepting writes")
                    self._pool.refusal = None
                    return
                if self._pool.refusal is None:
                    self._pool.refusal = str(SchemaLocked(self._pool.schema))
                    logger.error("%s; no more writes are accepted", self._pool.refusal)
                pause = LONGEST_PAUSE_SECONDS
            except Unavailable:
                pause = max(pause, self._pool.direct_pause_seconds)
            await asyncio.sleep(pause)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.close(timeout=self._beat_seconds)
            connection.terminate()


def number_of_lock(schema: str) -> int:
    """Return the number of the lock of the server that uses a schema."""
    digest = hashlib.sha256(f"parley server of {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
