"""Group commit: appends of many logs in one statement, those of one log in the order they came."""

import asyncio
import logging
import time
from asyncio import Future, Task
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from events.errors import AppendFailed, AppendUnknown, DamagedHead, EventsError
from events.stores.base import not_written
from events.stores.postgres.append import Append, arguments_of
from storage.database.base import Row
from storage.database.outcomes import INTEGRITY_CLASS, Rerun, state_of
from storage.database.postgres import PostgresPool, Role, Session
from storage.errors import Conflict, StorageError, Unavailable
from storage.promise import Promise

logger = logging.getLogger(__name__)

GROUP_LOGS = 50
GROUP_BYTES = 1024 * 1024
"""Bounds of one statement; a single append may be longer."""
MAX_WAITING = 100_000
"""Appends without an outcome; more are refused, which certainly wrote nothing."""
TRIES = 3
"""Statements that may find a log locked before one waits for the lock."""
LOCK_SECONDS = 2.0
PATIENCE_SECONDS = 2.0
"""Appends wait so long for a server that cannot be reached, and fail at once after that."""

ALONE_CLASSES = frozenset(("22", "23", "42", "P0"))
"""Classes of SQLSTATE for which one append of a group is to blame, and the others are not."""


class Waiting:
    """An append without an outcome."""

    __slots__ = ("alone", "promise", "tries", "write")

    def __init__(self, write: Append) -> None:
        self.write = write
        self.promise: Promise[None] = Promise()
        self.tries = 0
        self.alone = False
        """Whether it was in a group that failed for what one of them held."""


class GroupAppends:
    """Takes appends, and gives those of one turn of the loop to a free connection together.

    Appends of one log run in the order in which they came, each after the outcome of the one
    before; `enter` and `leave` let somebody else have a turn among them. Each outcome is told to
    `told` before anybody else, with the append and the refusal.
    """

    def __init__(
        self, pool: PostgresPool, told: Callable[[Append, EventsError | None], None]
    ) -> None:
        self._pool = pool
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._running = 0
        self._scheduled = False
        self._ready: deque[Waiting] = deque()
        self._lines: dict[int, deque[Waiting | Future[None]]] = {}
        """Logs at which somebody is at work, and those who wait for that."""
        self._tasks: set[Task[None]] = set()
        self._count = 0
        self._idle: Promise[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether an append is under way."""
        return self._running > 0

    def submit(self, write: Append) -> Promise[None]:
        """Append; the promise is rejected with errors of `events`."""
        if self._count >= MAX_WAITING or self._idle is not None:
            reason = "the store is closed" if self._idle else f"{MAX_WAITING} appends are waiting"
            return Promise[None].rejected(AppendFailed(reason))
        waiting = Waiting(write)
        self._count += 1
        self._pool.counters.waiting_writes += 1
        line = self._lines.get(write.number)
        if line is None:
            self._lines[write.number] = deque()
            self._make_ready(waiting)
        else:
            line.append(waiting)
        return waiting.promise

    async def enter(self, number: int) -> None:
        """Wait for a turn at a log, until `leave`; the caller is a task that nobody cancels."""
        line = self._lines.get(number)
        if line is None:
            self._lines[number] = deque()
            return
        turn: Future[None] = self._loop.create_future()
        line.append(turn)
        await turn

    def leave(self, number: int) -> None:
        """Let the next one at a log have its turn."""
        line = self._lines[number]
        if not line:
            del self._lines[number]
            if not self._lines and self._idle is not None:
                self._idle.resolve(None)
            return
        following = line.popleft()
        if isinstance(following, Waiting):
            self._make_ready(following)
        else:
            following.set_result(None)

    async def close(self) -> None:
        """Take nothing more, and wait until all that was taken has its outcome."""
        self._idle = Promise()
        if self._lines:
            await self._idle

    def _make_ready(self, waiting: Waiting) -> None:
        self._ready.append(waiting)
        if not self._scheduled:
            # What else this turn of the loop brings goes into the same statement.
            self._scheduled = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        while self._ready and self._running < self._pool.sizes.append:
            self._running += 1
            self._start(self._commit(self._next_group()))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _next_group(self) -> list[Waiting]:
        ready, size_bytes = self._ready, 0
        group: list[Waiting] = []
        while ready and len(group) < GROUP_LOGS and size_bytes < GROUP_BYTES:
            one = ready[0]
            if one.alone and group:
                break
            group.append(ready.popleft())
            if one.alone:
                break
            size_bytes += one.write.size_bytes
        return group

    async def _commit(self, group: list[Waiting]) -> None:
        try:
            await self._append(group)
        finally:
            self._running -= 1
            self._begin()

    async def _append(self, group: list[Waiting]) -> None:
        began = time.perf_counter()
        work = partial(_append, [one.write for one in group])
        try:
            refused = await self._pool.lend(Role.APPEND, work)
        except Rerun:
            self._again(group)
        except (Unavailable, Conflict) as error:
            await self._not_written(group, error)
        except StorageError as error:
            self._settle(group, AppendUnknown(str(error)), error)
        except Exception as error:
            logger.exception("an append ended in an unexpected way")
            self._settle(group, AppendUnknown(repr(error)), error)
        else:
            written = len(group) - len(refused)
            if written:
                self._pool.counters.committed(written, time.perf_counter() - began)
            self._tell(group, refused)

    def _tell(self, group: Sequence[Waiting], refused: dict[int, Row]) -> None:
        """Tell all outcomes of a statement in one step; what was locked is tried again."""
        if not refused:
            for one in group:
                self._end(one, None)
            return
        for one in group:
            row = refused.get(one.write.number)
            if row is None:
                self._end(one, None)
                continue
            refusal = one.write.refusal(row)
            if refusal is not None:
                self._end(one, refusal)
            else:
                self._again([one])

    def _again(self, group: Sequence[Waiting]) -> None:
        """Try appends again that others were in the way of; wait for the lock after some tries."""
        for one in group:
            one.tries += 1
            if one.tries < TRIES:
                self._make_ready(one)
            else:
                self._start(self._append_locked(one))

    async def _append_locked(self, one: Waiting) -> None:
        """Append once the log's lock is to be had."""
        write = one.write

        async def work(session: Session) -> dict[int, Row]:
            async with session.transaction(LOCK_SECONDS):
                await session.fetch("lock_head", write.number)
                return await _append([write], session)

        try:
            refused = await self._pool.lend(Role.RECORD, work)
        except (Unavailable, Conflict) as error:
            self._settle([one], not_written(error), error)
        except StorageError as error:
            self._settle([one], AppendUnknown(str(error)), error)
        except Exception as error:
            logger.exception("an append ended in an unexpected way")
            self._settle([one], AppendUnknown(repr(error)), error)
        else:
            row = refused.get(write.number)
            locked = AppendFailed(f"the log of {write.conversation_id} stays locked")
            self._end(one, None if row is None else write.refusal(row) or locked)

    async def _not_written(self, group: list[Waiting], error: StorageError) -> None:
        state = state_of(error.__cause__)
        if state[:2] in ALONE_CLASSES and len(group) > 1:
            for one in reversed(group):
                one.alone = True
                self._ready.appendleft(one)
        elif state[:2] == INTEGRITY_CLASS:
            # The head has its lock and its id is free: an event or a key is there that no commit made.
            (one,) = group
            write = one.write
            last_id = write.expected + len(write.events) - 1
            self._settle(group, DamagedHead(write.conversation_id, write.expected, last_id), error)
        elif not state and self._may_wait():
            await asyncio.sleep(self._pool.breaker.pause_seconds)
            self._ready.extendleft(reversed(group))
        else:
            self._settle(group, not_written(error), error)

    def _may_wait(self) -> bool:
        """Whether the server has not been away for long."""
        since = self._pool.breaker.failing_since
        return since is not None and self._loop.time() - since < PATIENCE_SECONDS

    def _settle(self, group: Sequence[Waiting], refusal: EventsError, cause: Exception) -> None:
        refusal.__cause__ = cause
        for one in group:
            self._end(one, refusal)

    def _end(self, one: Waiting, refusal: EventsError | None) -> None:
        self._count -= 1
        self._pool.counters.waiting_writes -= 1
        self.leave(one.write.number)
        self._told(one.write, refusal)
        if refusal is None:
            one.promise.resolve(None)
        else:
            one.promise.reject(refusal)


async def _append(group: Sequence[Append], session: Session) -> dict[int, Row]:
    """Append to logs in one statement; return the rows of those that were refused, by number."""
    if len(group) == 1 and group[0].is_one:
        ((appended,),) = await session.fetch("append_one", *group[0].as_one())
        if appended is not None:
            return {}
    rows = await session.fetch("append_logs", *arguments_of(group))
    return {row[0]: row for row in rows}


async def append_in(session: Session, write: Append) -> None:
    """Append in the transaction of a session that holds the log's lock. Raises what refuses it."""
    refused = await _append([write], session)
    if refused:
        stays = AppendFailed(f"the log of {write.conversation_id} stays locked")
        raise write.refusal(refused[write.number]) or stays
