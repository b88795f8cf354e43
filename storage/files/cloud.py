"""Files as objects of a bucket: each write on a condition, so that its outcome can always be found.

An object is named by its file's key and a mark, so that no object has the name of a folder, which
services with real folders refuse. It holds the content and 16 random bytes behind it. No two writes
are alike then: whether an object is that of a write is seen by its bytes, and the tag of a version
never returns.
"""

import asyncio
import random
import time
from asyncio import Task
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from storage.errors import (
    Conflict,
    Damaged,
    KeyExists,
    KeyNotFound,
    MediumLost,
    NotPermitted,
    OutcomeUnknown,
    Unavailable,
)
from storage.files.base import FileStore
from storage.files.lease import Lease
from storage.files.objects import Found, Objects
from storage.keys import check_key, check_prefix

T = TypeVar("T")

MARK = "="
"""Stands behind the key in an object's name; no key has it."""
NONCE_BYTES = 16
DEADLINE_SECONDS = 8.0
"""Seconds a call may take; less than an append may, which reads back what became of it."""
LATE_SECONDS = 5.0
"""Seconds after which a deletion whose answer was lost counts as one that cannot arrive any more."""
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
WAITING_LIMIT = 10_000
"""Writes that may be under way; one more is refused with Unavailable."""
KNOWN_TAGS = 20_000
KNOWN_FOLDERS = 20_000


class Change:
    """A write under way.

    `sent` once the service may have heard of it, `unsure` after an answer was lost, `late` without
    its caller.
    """

    __slots__ = ("began", "keys", "late", "sent", "task", "unsure")

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys
        self.began = time.monotonic()
        self.sent = False
        self.unsure = False
        self.late = False
        self.task: Task[None] | None = None


Work = Callable[[Change], Coroutine[Any, Any, None]]


class Pauses:
    """Waits between two tries, longer each time."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE_SECONDS

    async def wait(self) -> None:
        """Wait before the next try."""
        await asyncio.sleep(self._seconds * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        self._seconds = min(2 * self._seconds, LONGEST_PAUSE_SECONDS)


class CloudFileStore(FileStore):
    """The objects of a bucket's folder, used by one process at a time, the holder of the lease.

    A write whose answer is lost is sent again, with the same bytes on the same condition, until its
    outcome is certain, also after its caller has gone; of the requests for it at most one can
    change anything, whenever they arrive. Deletions know no condition: after one without an
    answer, its keys rest until it cannot arrive any more.
    """

    def __init__(
        self,
        objects: Objects,
        lease: Lease | None = None,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        late_seconds: float = LATE_SECONDS,
    ) -> None:
        self._objects = objects
        self._lease = lease
        self._deadline_seconds = deadline_seconds
        self._late_seconds = late_seconds
        self._changes: dict[Task[None], Change] = {}
        """Writes under way, in the order in which they began."""
        self._by_key: dict[str, Change] = {}
        self._late = 0
        self._tags: OrderedDict[str, str] = OrderedDict()
        self._folders = Folders()
        self._closed = False

    async def read(self, key: str) -> bytes:
        """See FileStore."""
        check_key(key)
        self._check_open()
        await self._wait_for_late([key])
        found = await self._reading(partial(self._objects.get, key + MARK))
        return content_of(key, found.body)

    async def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """See FileStore."""
        for key in keys:
            check_key(key)
        outcomes = await asyncio.gather(
            *(self._read_if_there(key) for key in keys), return_exceptions=True
        )
        found: list[bytes | None] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            found.append(outcome)
        return found

    async def exists(self, key: str) -> bool:
        """See FileStore."""
        check_key(key)
        self._check_open()
        await self._wait_for_late([key])
        return await self._is_there(key)

    async def keys(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[str]:
        """See FileStore.

        Always the whole folder is listed: services with real folders have an order of their own.
        """
        check_prefix(prefix)
        self._check_open()
        if self._late:
            late = [key for one in self._changes.values() if one.late for key in one.keys]
            await self._wait_for_late([key for key in late if key.startswith(prefix)])
        folder = prefix.rpartition("/")[0]
        names = await self._reading(partial(self._objects.keys, folder))
        found = sorted(name.removesuffix(MARK) for name in names if name.endswith(MARK))
        if prefix.endswith("/"):
            self._folders.listed(folder, found)
        fitting = [key for key in found if key.startswith(prefix) and key > after]
        return fitting if limit is None else fitting[:limit]

    async def create(self, key: str, content: bytes) -> None:
        """See FileStore."""
        check_key(key)
        await self._change([key], partial(self._create, key, _body(content)))

    async def write(self, key: str, content: bytes) -> None:
        """See FileStore. Raises Conflict too when another process has written it."""
        check_key(key)
        await self._change([key], partial(self._write, key, _body(content)))

    async def delete(self, *keys: str) -> None:
        """See FileStore."""
        for key in keys:
            check_key(key)
        self._check_open()
        if keys:
            await self._change(list(dict.fromkeys(keys)), self._delete)

    async def delete_tree(self, folder: str) -> None:
        """See FileStore."""
        await self.delete(*await self.keys(f"{check_key(folder)}/"))

    def oldest_write_seconds(self) -> float:
        """See Medium."""
        oldest = next(iter(self._changes.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest.began

    def lose(self, reason: str) -> None:
        """Refuse writes from now on: another process holds the lease."""
        self.lost = reason
        self.taken = True

    async def close(self) -> None:
        """See FileStore. Outcomes that cannot be found in time are left to the next start."""
        self._closed = True
        if self._changes:
            _, pending = await asyncio.wait([*self._changes], timeout=self._deadline_seconds)
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)

    async def _change(self, keys: Sequence[str], work: Work) -> None:
        """Do the work in a task of its own, at most one at a time for each key."""
        self._check_open()
        if len(self._changes) >= WAITING_LIMIT:
            raise Unavailable("the file store has too many calls waiting")
        if self.lost is not None:
            raise MediumLost(self.lost)
        await self._wait_for(keys)
        change = Change(keys)
        task = change.task = asyncio.get_running_loop().create_task(work(change))
        self._changes[task] = change
        self._by_key |= dict.fromkeys(keys, change)
        task.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await asyncio.shield(task)
        except TimeoutError as error:
            if self._leave(change):
                raise OutcomeUnknown("the object store did not answer in time") from error
            raise Unavailable("the object store did not answer; nothing was written") from error
        except asyncio.CancelledError:
            if task.cancelled():  # by the end of the store
                raise OutcomeUnknown("the file store was closed") from None
            self._leave(change)
            raise

    def _leave(self, change: Change) -> bool:
        """Return whether the write goes on without its caller: if not, nothing of it was sent."""
        if change.task is None or change.task.done():
            return change.sent
        if not change.sent:
            change.task.cancel()
            return False
        change.late = True
        self._late += 1
        return True

    def _ended(self, task: Task[None]) -> None:
        change = self._changes.pop(task)
        self._late -= change.late
        for key in change.keys:
            if self._by_key.get(key) is change:
                del self._by_key[key]
        if not task.cancelled():
            task.exception()  # of a late one nobody asks

    async def _wait_for_late(self, keys: Iterable[str]) -> None:
        if self._late:
            await self._wait_for(
                [key for key in keys if key in self._by_key and self._by_key[key].late]
            )

    async def _wait_for(self, keys: Sequence[str]) -> None:
        """Wait for writes of these keys. Raises Unavailable when that takes too long."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._deadline_seconds
        while tasks := {
            change.task
            for key in keys
            if (change := self._by_key.get(key)) is not None and change.task
        }:
            _, pending = await asyncio.wait(tasks, timeout=max(0.0, ends - loop.time()))
            if pending:
                raise Unavailable("an earlier write is still in progress")

    async def _create(self, key: str, body: bytes, change: Change) -> None:
        await self._check_place(key)
        try:
            await self._put(key, body, None, change)
        except Conflict as error:
            raise KeyExists(key) from error

    async def _write(self, key: str, body: bytes, change: Change) -> None:
        expected = self._tags.get(key)
        if expected is None:
            try:
                expected = await self._reading(partial(self._objects.e_tag, key + MARK))
            except KeyNotFound:
                await self._check_place(key)
        try:
            await self._put(key, body, expected, change)
        except Conflict:
            self._tags.pop(key, None)  # the next write asks
            raise

    async def _put(self, key: str, body: bytes, expected: str | None, change: Change) -> None:
        """Put an object until its outcome is certain. Raises Conflict when another was first."""
        e_tag = await self._insist(partial(self._try_put, key, body, expected), change)
        self._tags[key] = e_tag
        self._tags.move_to_end(key)
        if len(self._tags) > KNOWN_TAGS:
            self._tags.popitem(last=False)
        self._folders.placed(key)

    async def _try_put(self, key: str, body: bytes, expected: str | None) -> str:
        """Put an object once, and read it back where the condition fails; its tag.

        An earlier try may have been the one that it fails for.
        """
        try:
            return await self._objects.put(key + MARK, body, expected)
        except Conflict:
            found = await self._found(key)
        if found is not None and found.body == body:
            return found.e_tag
        if found is not None and found.e_tag != expected:
            raise Conflict(f"another has written {key}")
        if found is None and expected is not None:
            raise Conflict(f"another has deleted {key}")
        # S3 says the same of two requests that met.
        raise OutcomeUnknown("two writes met")

    async def _delete(self, change: Change) -> None:
        """Delete objects until it is certain that they are gone, and that nothing more arrives."""
        names = [key + MARK for key in change.keys]
        await self._insist(partial(self._objects.delete, names), change)
        for key in change.keys:
            self._tags.pop(key, None)
        if change.unsure:
            await asyncio.sleep(self._late_seconds)

    async def _insist(self, call: Callable[[], Awaitable[T]], change: Change) -> T:
        """Make a call that writes, again after each unknown outcome.

        Raises what is certain of the first call; after an unknown outcome only Conflict, and
        OutcomeUnknown when the lease is lost.
        """
        pauses = Pauses()
        while True:
            try:
                await self._permission(change)
                return await call()
            except MediumLost as error:
                if change.unsure:
                    raise OutcomeUnknown(str(error)) from error
                raise
            except OutcomeUnknown:
                change.unsure = True
            except Unavailable:
                if not change.unsure:
                    raise
            await pauses.wait()

    async def _permission(self, change: Change) -> None:
        """Wait until the lease is valid; what follows is sent. Raises MediumLost."""
        if self._lease is not None:
            await self._lease.held()
        if self.lost is not None:
            raise MediumLost(self.lost)
        change.sent = True

    async def _found(self, key: str) -> Found | None:
        """Read an object until that succeeds; None where there is none."""
        pauses = Pauses()
        while True:
            try:
                return await self._objects.get(key + MARK)
            except KeyNotFound:
                return None
            except Unavailable:
                await pauses.wait()

    async def _reading(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that reads, again while there is time. Raises Unavailable, KeyNotFound."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._deadline_seconds
        pauses = Pauses()
        while True:
            try:
                return await call()
            except NotPermitted:
                raise
            except Unavailable:
                if loop.time() >= ends:
                    raise
                await pauses.wait()

    async def _read_if_there(self, key: str) -> bytes | None:
        try:
            return await self.read(key)
        except KeyNotFound:
            return None

    async def _is_there(self, key: str) -> bool:
        try:
            await self._reading(partial(self._objects.e_tag, key + MARK))
        except KeyNotFound:
            return False
        return True

    async def _check_place(self, key: str) -> None:
        """Raise Conflict for a key that is a folder, or stands below a file."""
        above, leaf = self._folders.unknown(key)
        asked = [self._is_there(folder) for folder in above]
        if leaf:
            asked.append(self._is_folder(key))
        if not asked:
            return
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            if answer:
                raise Conflict(f"a file and a folder cannot both be {key}")

    async def _is_folder(self, key: str) -> bool:
        return bool(await self._reading(partial(self._objects.keys, key, only_first=True)))

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the file store is closed")


class Folders:
    """The folders there are, and those without folders in them, as far as that was seen.

    It spares two questions before most files that are new: whether a file stands where a folder
    is needed, and whether the file's key is a folder.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._flat: set[str] = set()

    def unknown(self, key: str) -> tuple[list[str], bool]:
        """Return the folders above a key that might be files, and whether it might be a folder."""
        above = _above(key)
        is_flat = bool(above) and above[-1] in self._flat
        return [folder for folder in above if folder not in self._seen], not is_flat

    def placed(self, key: str) -> None:
        """Note a file."""
        if key in self._seen:  # a folder once, empty now
            self._seen.clear()
            self._flat.clear()
        above = _above(key)
        self._seen.update(above)
        self._flat.difference_update(above[:-1])
        self._bound()

    def listed(self, folder: str, keys: Sequence[str]) -> None:
        """Note all files below a folder."""
        if keys:
            self._seen.update(_above(keys[0]))
        if not any("/" in key[len(folder) + 1 :] for key in keys):
            self._flat.add(folder)
        self._bound()

    def _bound(self) -> None:
        if len(self._seen) > KNOWN_FOLDERS or len(self._flat) > KNOWN_FOLDERS:
            self._seen.clear()
            self._flat.clear()


def _above(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _body(content: bytes) -> bytes:
    return bytes(content) + uuid4().bytes


def content_of(key: str, body: bytes) -> bytes:
    """Return the content of a file's object. Raises Damaged."""
    if len(body) < NONCE_BYTES:
        raise Damaged(f"{key} is cut short")
    return body[:-NONCE_BYTES]
