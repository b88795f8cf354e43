"""Seals complete pages of logs in the background: what is read as one row takes less of the server."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Callable

from events.stores.postgres.pages import PAGE_BYTES
from storage.database.postgres import PostgresPool, Role
from storage.errors import Conflict, StorageError

logger = logging.getLogger(__name__)

MAX_DUE = 10_000
"""Logs that may wait; others are found when they are opened, or fill a page."""
REST_FACTOR = 9
"""While appends are under way, a rest takes so many times as long as the transaction before it."""
LONGEST_REST_SECONDS = 1.0
PAUSE_SECONDS = 2.0
"""Seconds without a try after PostgreSQL did not answer."""


class Sealer:
    """Knows which logs may have pages to seal, and seals them one transaction at a time.

    A log is due when an append fills a page of it, and when its head tells that pages are left,
    as after a crash. Several processes may seal the same logs. Where PostgreSQL is away, what is
    due waits for the next append that succeeds.
    """

    def __init__(self, pool: PostgresPool, page_events: int, is_busy: Callable[[], bool]) -> None:
        self._pool = pool
        self._page_events = page_events
        self._is_busy = is_busy
        self._loop = asyncio.get_running_loop()
        self._due: dict[int, None] = {}
        """Numbers of logs, in the order of their turns."""
        self._passed_over: dict[int, None] = {}
        """Logs of which nothing was to be sealed at the last try, and which have filled no page since."""
        self._task: Task[None] | None = None
        self._retry_at = 0.0
        self._closed = False

    def appended(self, number: int, next_id: int, count: int) -> None:
        """Note an append: so many events, from that id on."""
        end_id, page_events = next_id + count, self._page_events
        if end_id // page_events != next_id // page_events and end_id >= 2 * page_events:
            self._passed_over.pop(number, None)
            self._add(number)
        elif self._due and self._task is None:
            self._wake()

    def seen(self, number: int, next_id: int, sealed: int) -> None:
        """Note the head of a log, whose events below `sealed` are in pages."""
        if next_id - sealed >= 2 * self._page_events and number not in self._passed_over:
            self._add(number)

    async def finish(self) -> None:
        """Wait until nothing is due, or PostgreSQL is away."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Seal nothing more; a transaction under way goes on to its end."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await self.finish()

    def _add(self, number: int) -> None:
        if len(self._due) < MAX_DUE:
            self._due[number] = None
        if self._task is None:
            self._wake()

    def _wake(self) -> None:
        if not self._closed and self._loop.time() >= self._retry_at:
            self._task = self._loop.create_task(self._seal_all())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            logger.error("sealing has ended in an unexpected way", exc_info=task.exception())
        if self._due:
            self._wake()

    async def _seal_all(self) -> None:
        while self._due:
            number = next(iter(self._due))
            del self._due[number]
            began = self._loop.time()
            try:
                sealed = await self._seal(number)
            except Conflict as error:
                logger.warning("a page of the log with number %d is not sealed: %s", number, error)
                sealed = False
            except StorageError as error:
                logger.info("sealing pages pauses: %s", error)
                self._due.setdefault(number)
                self._retry_at = self._loop.time() + PAUSE_SECONDS
                return
            if sealed:
                self._due.setdefault(number)  # it may have more, behind the others
            elif number not in self._due:  # it has filled no page meanwhile
                self._pass_over(number)
            if self._is_busy():
                rest = REST_FACTOR * (self._loop.time() - began)
                await asyncio.sleep(min(rest, LONGEST_REST_SECONDS))

    async def _seal(self, number: int) -> bool:
        """Seal the oldest page of a log that is rows; return whether there was one."""
        ((sealed,),) = await self._pool.fetch(
            Role.RECORD, "seal_page", number, self._page_events, PAGE_BYTES
        )
        return bool(sealed)

    def _pass_over(self, number: int) -> None:
        self._passed_over[number] = None
        if len(self._passed_over) > MAX_DUE:
            del self._passed_over[next(iter(self._passed_over))]
