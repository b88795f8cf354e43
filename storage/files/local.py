"""Files on a local disk: contained in their root, flushed before they count, one step each."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from storage.errors import OutcomeUnknown, StorageError, Unavailable
from storage.files.base import FileStore
from storage.files.folders import Folders
from storage.files.tree import Flush, flush_file
from storage.locations import check_key, check_prefix

T = TypeVar("T")

WORKERS = 8
"""Threads; the kernel joins the flushes that run at the same time."""
WAITING_LIMIT = 10_000
"""Operations that may wait for a thread; one more is refused with Unavailable."""
DEADLINE_SECONDS = 30.0


class LocalFileStore(FileStore):
    """One folder of a file system that tells upper from lower case, used by one process.

    A flush that fails leaves open what the disk holds; from then on every call is Unavailable
    until the store is opened anew.
    """

    def __init__(self, folders: Folders, deadline_seconds: float) -> None:
        self._folders = folders
        self._deadline_seconds = deadline_seconds
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="files")
        self._outstanding = 0
        self._counter = threading.Lock()
        self._closed = False

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        flush: Flush = flush_file,
    ) -> Self:
        """Open the folder, make it if need be, remove what writes cut short have left.

        `flush` makes the content behind a descriptor durable. Raises Unavailable.
        """
        try:
            return cls(await asyncio.to_thread(Folders, root, flush), deadline_seconds)
        except OSError as error:
            raise Unavailable(f"cannot use {root}: {error.strerror or error}") from error

    async def read(self, key: str) -> bytes:
        """See FileStore."""
        return await self._run(Unavailable, self._folders.read, check_key(key))

    async def exists(self, key: str) -> bool:
        """See FileStore."""
        return await self._run(Unavailable, self._folders.exists, check_key(key))

    async def keys(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[str]:
        """See FileStore."""
        found = await self._run(Unavailable, self._folders.keys, check_prefix(prefix), after)
        return found if limit is None else found[:limit]

    async def create(self, key: str, content: bytes) -> None:
        """See FileStore."""
        await self._run(OutcomeUnknown, self._folders.create, check_key(key), content)

    async def write(self, key: str, content: bytes) -> None:
        """See FileStore."""
        await self._run(OutcomeUnknown, self._folders.write, check_key(key), content)

    async def delete(self, key: str) -> None:
        """See FileStore."""
        await self._run(OutcomeUnknown, self._folders.delete, check_key(key))

    async def delete_tree(self, folder: str) -> None:
        """See FileStore."""
        await self._run(OutcomeUnknown, self._folders.delete_tree, check_key(folder))

    async def close(self) -> None:
        """See FileStore."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._workers.shutdown)
        self._folders.close()

    async def _run(self, late: type[StorageError], work: Callable[..., T], *arguments: object) -> T:
        if self._closed or self._outstanding >= WAITING_LIMIT:
            reason = "is closed" if self._closed else "has too many calls waiting"
            raise Unavailable(f"the file store {reason}")
        self._count(1)
        job = self._workers.submit(partial(work, *arguments))
        job.add_done_callback(lambda _: self._count(-1))
        answer = asyncio.wrap_future(job)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            if job.cancel():
                raise Unavailable("the disk was too busy; nothing was done") from error
            answer.add_done_callback(_seen)
            raise late("the disk did not answer in time") from error
        except asyncio.CancelledError:
            answer.add_done_callback(_seen)
            raise

    def _count(self, change: int) -> None:
        with self._counter:
            self._outstanding += change


def _seen(answer: asyncio.Future[T]) -> None:
    """Take note of an outcome that came after its caller had gone."""
    if not answer.cancelled():
        answer.exception()
