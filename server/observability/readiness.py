"""The readiness probe: whether requests should be sent here, and if not, why."""

import asyncio
import logging
import os
import time
from asyncio import Task
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from server.config.settings import ServerConfig
from storage.counters import Counters
from storage.errors import StorageError
from storage.lock import is_held_by_this_process
from storage.medium import Medium

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Seconds the disk and the storage may take to answer."""
SETTLE_SECONDS = 2.5
"""Seconds without a failed append before a probe write may declare the storage healthy again."""
FRESH_SECONDS = 1.0
"""Seconds a probe without findings stays valid."""

STOPPING = "stopping"
DRAINING = "draining"
LOCK_LOST = "the lock of the data directory is lost"
READ_ONLY = "the data directory cannot be written"
NO_ANSWER = "the disk does not answer"
NO_DATABASE = "the database does not answer"
NOT_STORED = "the last write failed"
NEARLY_FULL = "the disk is nearly full"
FILES_LOST = "files of the storage were removed or replaced"
TAKEN = "another server has taken the storage over"
NO_BUCKET = "the object store does not answer"

UNANSWERED = {"postgres": NO_DATABASE, "cloud": NO_BUCKET}
"""By the kind of storage, where it is no disk that answers."""

STORAGE = "storage"
"""The part that is degraded while a storage that several servers may share takes no writes."""

Prove = Callable[[], Awaitable[None]]
"""Makes a small durable write. Raises what the storage raises."""


class Verdict(NamedTuple):
    """The outcome of a probe: why requests should go elsewhere, and what works in part only."""

    reasons: list[str]
    degraded: list[str]


def nobody() -> bool:
    """Say that no other server is known whose storage answers."""
    return False


class Readiness:
    """The probe behind `/ready`.

    Nothing runs between probes; a passing problem is noticed by the next. `intake` gives the reason
    why no requests are accepted. A data directory is examined: its lock, free space, write
    permission; a database elsewhere is asked whether it takes writes. The `medium` says whether its
    files are in place, and how old its oldest write is: one that takes longer than a look may is no
    answer. After a failed append a small write is
    tried, so that a server that gets no requests any more finds out that it could take some.

    A PostgreSQL that does not answer is a reason only for a server that is cut off from it alone:
    once it has been away for `not_ready_seconds`, and while `others_answer` says that the storage of
    another server answers. Where nobody reaches it, or there is nobody else, requests have nowhere
    better to go: the server keeps its clients, serves what it holds in memory, and is degraded.
    """

    def __init__(
        self,
        config: ServerConfig,
        intake: Callable[[], list[str]],
        counters: Counters,
        prove: Prove | None = None,
        *,
        medium: Medium | None = None,
        others_answer: Callable[[], bool] = nobody,
        look_seconds: float = LOOK_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._look_seconds = look_seconds
        self._settle_seconds = settle_seconds
        self._intake = intake
        self._counters = counters
        is_local = config.storage_kind in {"sqlite", "local"}
        self._data_dir = config.data_dir if is_local else None
        self._no_answer = UNANSWERED.get(config.storage_kind, NO_ANSWER)
        self._min_free_bytes = config.min_free_disk_bytes
        self._passing = (
            {self._no_answer, NOT_STORED} if config.storage_kind == "postgres" else set()
        )
        """Reasons that other servers may have as well."""
        self._not_ready_seconds = config.not_ready_seconds
        self._others_answer = others_answer
        self._away_since: float | None = None
        self._prove = prove
        self._medium = medium or Medium()
        self._looking: Task[list[str]] | None = None
        self._found: list[str] = []
        self._found_at = float("-inf")

    async def reasons(self) -> list[str]:
        """Return why requests should not be sent here; nothing when they should."""
        return (await self.verdict()).reasons

    async def verdict(self) -> Verdict:
        """Probe, and return whether requests should be sent here, and what does not work."""
        found = await self._find()
        now = time.monotonic()
        if self._passing.isdisjoint(found):
            self._away_since = None
            return Verdict(found, [])
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= self._not_ready_seconds and self._others_answer():
            return Verdict(found, [STORAGE])
        return Verdict([reason for reason in found if reason not in self._passing], [STORAGE])

    async def _find(self) -> list[str]:
        is_lost = self._medium.lost is not None
        found = {TAKEN: self._medium.taken, FILES_LOST: is_lost and not self._medium.taken}
        looked = await self._probe()
        if self._no_answer not in looked:
            found[self._no_answer] = self._medium.oldest_write_seconds() > self._look_seconds
        reasons = [reason for reason, holds in found.items() if holds]
        return [*self._intake(), *reasons, *looked]

    async def _probe(self) -> list[str]:
        """Probe once for all callers; a late probe is not followed by another."""
        if self._looking is None:
            fresh = time.monotonic() - self._found_at < FRESH_SECONDS
            if fresh and not self._found and not self._counters.failing:
                return []
            self._looking = asyncio.get_running_loop().create_task(self._storage_reasons())
        done, _ = await asyncio.wait([self._looking], timeout=self._look_seconds)
        if not done:
            return [self._no_answer]
        looked, self._looking = self._looking, None
        if looked is not None:
            self._found = looked.result()
            self._found_at = time.monotonic()
        return self._found

    async def _storage_reasons(self) -> list[str]:
        found: list[str] = []
        if self._data_dir is not None:
            try:
                found += await asyncio.to_thread(_examine, self._data_dir, self._min_free_bytes)
            except OSError as error:
                logger.warning("cannot check the data directory: %s", error)
                found.append(READ_ONLY)
        try:
            await self._medium.reach()
        except StorageError as error:
            logger.warning("%s: %s", self._no_answer, error)
            return [self._no_answer]
        if self._counters.failing and not await self._is_writable():
            found.append(NOT_STORED)
        return found

    async def _is_writable(self) -> bool:
        if self._prove is None:
            return False
        try:
            await self._prove()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
            logger.warning("the storage cannot be written: %r", error)
            return False
        # The write is a small one: while larger ones still fail, they are tried every second.
        if time.monotonic() - self._counters.failure_seconds < self._settle_seconds:
            return False
        self._counters.failed_at = None
        return True


def _examine(folder: Path, min_free_bytes: int) -> list[str]:
    found = []
    disk = os.statvfs(folder)
    if disk.f_flag & os.ST_RDONLY or not os.access(folder, os.W_OK | os.X_OK):
        found.append(READ_ONLY)
    if disk.f_bavail * disk.f_frsize < min_free_bytes:
        found.append(NEARLY_FULL)
    if not is_held_by_this_process(folder):
        found.append(LOCK_LOST)
    return found
