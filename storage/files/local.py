"""Files on a local disk: contained in their root, flushed before a call returns, each write atomic."""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from storage.errors import MediumLost, OutcomeUnknown, StorageError, Unavailable
from storage.files.base import FileStore
from storage.files.folders import Folders
from storage.files.tree import Flush, flush_file
from storage.keys import check_key, check_prefix

T = TypeVar("T")

WORKERS = 8
"""Threads; the kernel joins the flushes that run at the same time."""
WAITING_LIMIT = 10_000
"""Operations that may wait for a thread; one more is refused with Unavailable."""
DEADLINE_SECONDS = 10.0
FILES_SECONDS = 5.0
FILES_PAUSE_SECONDS = 0.02
"""Seconds that an operation waits for a file descriptor if the process has reached its limit, and
seconds between two tries.

Many simultaneous connections take all descriptors until they are refused.
"""


class LocalFileStore(FileStore):
    """One folder of a case-sensitive file system, used by one process.

    After a failed flush the content of the disk is unknown: every call raises Unavailable until the
    store is opened again.
    """

    def __init__(self, folders: Folders, deadline_seconds: float) -> None:
        self._folders = folders
        self._deadline_seconds = deadline_seconds
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="files")
        self._outstanding = 0
        self._counter = threading.Lock()
        self._writes: dict[Future[Any], float] = {}
        """Start times of the writes in progress, in order."""
        self._late: dict[asyncio.Future[Any], str] = {}
        """Writes in progress whose callers have gone, with their keys."""
        self._closed = False

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        flush: Flush = flush_file,
    ) -> Self:
        """Open the folder, create it if necessary, remove leftovers of interrupted writes.

        `flush` makes the content of a descriptor durable. Raises Unavailable.
        """
        try:
            return cls(await asyncio.to_thread(Folders, root, flush), deadline_seconds)
        except OSError as error:
            raise Unavailable(f"cannot use {root}: {error.strerror or error}") from error

    async def read(self, key: str) -> bytes:
        """See FileStore."""
        return await self._run(Unavailable, check_key(key), partial(self._folders.read, key))

    async def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """See FileStore."""
        work = partial(self._folders.read_all, [check_key(key) for key in keys])
        return await self._run(Unavailable, os.path.commonprefix(keys), work)  # noqa: RUF071 - as in delete

    async def exists(self, key: str) -> bool:
        """See FileStore."""
        return await self._run(Unavailable, check_key(key), partial(self._folders.exists, key))

    async def keys(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[str]:
        """See FileStore."""
        work = partial(self._folders.keys, check_prefix(prefix), after)
        found = await self._run(Unavailable, prefix, work)
        return found if limit is None else found[:limit]

    async def create(self, key: str, content: bytes) -> None:
        """See FileStore."""
        work = partial(self._folders.create, check_key(key), content)
        await self._run(OutcomeUnknown, key, work)

    async def write(self, key: str, content: bytes) -> None:
        """See FileStore."""
        work = partial(self._folders.write, check_key(key), content)
        await self._run(OutcomeUnknown, key, work)

    async def write_all(self, files: Mapping[str, bytes]) -> None:
        """See FileStore. The folder is flushed once for each thread that has some of them."""
        written = [(check_key(key), content) for key, content in files.items()]
        share = -(-len(written) // WORKERS) or 1
        some = (written[first : first + share] for first in range(0, len(written), share))
        prefix = os.path.commonprefix([*files])  # noqa: RUF071 - as in delete
        works = (partial(self._folders.write_all, one) for one in some)
        await asyncio.gather(*(self._run(OutcomeUnknown, prefix, work) for work in works))

    async def delete(self, *keys: str) -> None:
        """See FileStore."""
        work = partial(self._folders.delete, [check_key(key) for key in keys])
        prefix = os.path.commonprefix(keys)  # noqa: RUF071 - of characters, as late writes compare
        await self._run(OutcomeUnknown, prefix, work)

    async def delete_tree(self, folder: str) -> None:
        """See FileStore."""
        work = partial(self._folders.delete_tree, check_key(folder))
        await self._run(OutcomeUnknown, folder, work)

    def oldest_write_seconds(self) -> float:
        """See Medium."""
        with self._counter:
            taken_at = next(iter(self._writes.values()), None)
        return 0.0 if taken_at is None else time.monotonic() - taken_at

    def missing(self) -> str | None:
        """See Medium."""
        return self._folders.missing()

    async def close(self) -> None:
        """See FileStore."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._workers.shutdown)
        self._folders.close()

    async def _run(self, late: type[StorageError], key: str, work: Callable[[], T]) -> T:
        if self._closed or self._outstanding >= WAITING_LIMIT:
            reason = "is closed" if self._closed else "has too many calls waiting"
            raise Unavailable(f"the file store {reason}")
        writes = late is OutcomeUnknown
        if writes and self.lost is not None:
            raise MediumLost(self.lost)
        if self._late:
            await self._wait_for_late(key)
        job = self._submit(work, writes=writes)
        answer = asyncio.wrap_future(job)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            if job.cancel():
                raise Unavailable("the disk was too busy; nothing was written or read") from error
            self._leave(answer, key)
            raise late("the disk did not answer in time") from error
        except asyncio.CancelledError:
            if not job.cancel():
                self._leave(answer, key)
            raise

    async def _wait_for_late(self, key: str) -> None:
        related = [
            answer
            for answer, other in self._late.items()
            if other.startswith(key) or key.startswith(other)
        ]
        if not related:
            return
        _, pending = await asyncio.wait(related, timeout=self._deadline_seconds)
        if pending:
            raise Unavailable("an earlier write is still in progress")

    def _leave(self, answer: asyncio.Future[Any], key: str) -> None:
        self._late[answer] = key
        answer.add_done_callback(self._arrived)

    def _arrived(self, answer: asyncio.Future[Any]) -> None:
        """Record an outcome whose caller has gone, for later calls."""
        del self._late[answer]
        if not answer.cancelled():
            answer.exception()

    def _submit(self, work: Callable[[], T], *, writes: bool) -> Future[T]:
        with self._counter:
            self._outstanding += 1
            job = self._workers.submit(_patiently, work)
            if writes:
                self._writes[job] = time.monotonic()
        job.add_done_callback(self._ended)
        return job

    def _ended(self, job: Future[Any]) -> None:
        with self._counter:
            self._outstanding -= 1
            self._writes.pop(job, None)


def _patiently(work: Callable[[], T]) -> T:
    """Run the work in a worker thread; if no file descriptor is left, wait for one.

    Work that lacked a descriptor has changed nothing that keeps a repetition from succeeding.
    """
    ends = time.monotonic() + FILES_SECONDS
    while True:
        try:
            return work()
        except Unavailable as error:
            cause = error.__cause__
            lacks = isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
            if not lacks or time.monotonic() > ends:
                raise
        time.sleep(FILES_PAUSE_SECONDS)
