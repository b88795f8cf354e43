"""The Database contract over PostgreSQL: each script in a transaction of its own."""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TypeVar

from storage.database.base import (
    Database,
    Result,
    Row,
    Script,
    Translate,
    as_it_is,
)
from storage.database.outcomes import Rerun
from storage.database.postgres import PostgresPool, Role, Session
from storage.errors import OutcomeUnknown, StorageError, Unavailable
from storage.promise import Promise

T = TypeVar("T")

logger = logging.getLogger(__name__)

MARK = "\ufdd0"
MARKED, NO_CHARACTER = MARK + "\ufdd1", MARK + "\ufdd2"
"""Stand-ins in a text for a MARK, which no writing uses, and for the character 0."""

LOCK_SECONDS = 5.0
RUNS = 4
"""Runs of a script that others are in the way of, until it runs while no other one does."""


class PostgresDatabase(Database):
    """Scripts over connections for records.

    Those of this process run one after the other, in the order of the calls. Those of others run at
    the same time, as if they did not: a script that cannot be fitted in between them runs anew, and
    in the end alone.
    """

    def __init__(self, pool: PostgresPool) -> None:
        self.counters = pool.counters
        self._pool = pool
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def closed(self) -> bool:
        """See Database."""
        return self._pool.closed

    def submit(self, script: Script[T], *, failure: Translate = as_it_is) -> Promise[T]:
        """See Database."""
        promise: Promise[T] = Promise()
        task = asyncio.get_running_loop().create_task(self._write(script, failure, promise))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return promise

    async def _write(self, script: Script[T], failure: Translate, promise: Promise[T]) -> None:
        try:
            async with self._turn:
                promise.resolve(await self._run(script))
        except _Raised as raised:
            promise.reject(raised.error)
        except StorageError as error:
            promise.reject(failure(error))
        except Exception as error:
            logger.exception("a script ended in an unexpected way")
            promise.reject(failure(OutcomeUnknown(repr(error))))

    async def _run(self, script: Script[T]) -> T:
        for _ in range(RUNS):
            with suppress(Rerun):
                return await self._pool.lend(Role.RECORD, partial(self._in_transaction, script))
        # An append to the same log comes in between again and again: now others wait for this one.
        return await self._pool.lend(Role.RECORD, partial(self._alone, script))

    async def _in_transaction(self, script: Script[T], session: Session) -> T:
        first = f"LOCK TABLE {self._pool.schema}.migrations IN ROW SHARE MODE"
        async with session.transaction(LOCK_SECONDS, serializable=True, first=first):
            return await _steps_of(script, session)

    async def _alone(self, script: Script[T], session: Session) -> T:
        """Run a script while no other one runs anywhere; each statement sees what was committed then."""
        first = f"LOCK TABLE {self._pool.schema}.migrations IN EXCLUSIVE MODE"
        async with session.transaction(LOCK_SECONDS, first=first):
            return await _steps_of(script, session)

    async def reach(self) -> None:
        """See Medium. Raises Unavailable also where it takes no writes."""
        ((is_standby,),) = await self._pool.fetch(Role.READ, "reach")
        if is_standby:
            raise Unavailable("PostgreSQL takes no writes at this host: it is a standby")

    def oldest_write_seconds(self) -> float:
        """See Medium."""
        return self._pool.oldest_write_seconds()

    async def read(self, script: Script[T]) -> T:
        """See Database. Each statement sees what was committed when it began."""
        try:
            return await self._pool.run(Role.READ, partial(_steps_of, script))
        except _Raised as raised:
            raise raised.error from None

    async def close(self) -> None:
        """See Database."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._pool.close()


class _Raised(Exception):
    """An error that a script raised, which belongs to its caller."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def stored_text(text: str) -> str:
    """Return a text without the one character that PostgreSQL's text cannot hold."""
    if not ("\0" in text or MARK in text):
        return text
    return text.replace(MARK, MARKED).replace("\0", NO_CHARACTER)


def given_text(text: str) -> str:
    """Return a text of a row as it was given to `stored_text`."""
    if MARK not in text:
        return text
    return text.replace(NO_CHARACTER, "\0").replace(MARKED, MARK)


def _stored(value: object) -> object:
    return stored_text(value) if isinstance(value, str) else value


def _given(value: object) -> object:
    return given_text(value) if isinstance(value, str) else value


async def _steps_of(script: Script[T], session: Session) -> T:
    steps = script()
    result: Result | None = None
    while True:
        try:
            # The first step is sent nothing, as generators want it.
            statement = steps.send(result)  # type: ignore[arg-type]
        except StopIteration as stop:
            value: T = stop.value
            return value
        except Exception as error:
            raise _Raised(error) from error
        many = statement.parameters if statement.many else (statement.parameters,)
        rows: list[Row] = []
        for parameters in many:
            found = await session.fetch(statement.query, *map(_stored, parameters))
            rows += [tuple(map(_given, row)) for row in found]
        # Whoever asks how many rows a statement touched has it return them.
        result = Result(rows, len(rows))
