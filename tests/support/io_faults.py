"""Disks that fail at the Nth operation, once or from then on, and disks that are full for a time.

For every N until a life has no such operation: what is told as done is there after a start on a
sound disk, what is refused is not, and the storage is sound.
"""

import asyncio
import errno
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from shutil import rmtree
from typing import NamedTuple

from events.errors import EventsError
from events.stores.database.store import DatabaseEventStore
from storage.config import LocalStorage, SqliteStorage, StorageConfig
from storage.conversations.database import DatabaseConversationStores
from storage.database.sqlite import SqliteDatabase
from storage.errors import StorageError
from storage.keys import DATABASE_NAME
from storage.sealing.key import EphemeralKey
from storage.workspaces.database import DatabaseWorkspaces
from tests.support.backends import Opened
from tests.support.disk_watch import TAKES_ROOM, Act, watched
from tests.support.faulty_sqlite import Faults
from tests.support.invariants import check_derived
from tests.support.power_cuts import opened_files
from tests.support.seeds import choices
from tests.support.storage_life import CONVERSATIONS, Life

ROOM_FOR = ("INSERT", "UPDATE", "DELETE", "COMMIT", "WITH")
"""Beginnings of the statements that a full disk refuses."""
STEPS = 12
FULL_STEPS = 25
"""Things that are done on a full disk, and again once there is room."""


class Fault(NamedTuple):
    """A way in which the operations of a disk fail."""

    name: str
    error: int
    lasting: bool = False
    after: bool = False
    """Whether it is done before it fails; of a database only."""


FILE_FAULTS = (
    Fault("EIO", errno.EIO),
    Fault("EIO from then on", errno.EIO, lasting=True),
    Fault("ENOSPC", errno.ENOSPC),
    Fault("ENOSPC from then on", errno.ENOSPC, lasting=True),
)
DATABASE_FAULTS = (
    Fault("I/O error", errno.EIO),
    Fault("I/O error from then on", errno.EIO, lasting=True),
    Fault("I/O error of what was done", errno.EIO, after=True),
    Fault("full", errno.ENOSPC),
    Fault("full from then on", errno.ENOSPC, lasting=True),
)


class Nth:
    """Counts operations, and says which of them fail; none before `begin`."""

    def __init__(self, number: int, *, lasting: bool) -> None:
        self.reached = False
        self._left = number
        self._lasting = lasting
        self._begun = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Count from here on."""
        self._begun = True

    def end(self) -> None:
        """Let everything succeed again."""
        self._begun = False

    def fails(self) -> bool:
        """Count an operation, and tell whether it fails."""
        if not self._begun:
            return False
        with self._lock:
            self._left -= 1
            due = self._left == 0 or (self._lasting and self._left < 0)
            self.reached = self.reached or due
            return due


class FailingSqlite(Faults):
    """A database whose statements fail as an `Nth` says."""

    def __init__(self, nth: Nth, fault: Fault) -> None:
        super().__init__()
        self._nth = nth
        self._fault = fault

    def around(self, sql: str, run: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        """See Faults."""
        full = self._fault.error == errno.ENOSPC
        if (full and not sql.lstrip().startswith(ROOM_FOR)) or not self._nth.fails():
            return run()
        if self._fault.after:
            run()
        raise sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")


class Place(NamedTuple):
    """A kind of storage in a folder, on a disk that may fail."""

    faults: tuple[Fault, ...]
    config: Callable[[Path], StorageConfig]
    opens: Callable[[Path, Nth, Fault], AbstractAsyncContextManager[Opened]]


@asynccontextmanager
async def _files(folder: Path, nth: Nth, fault: Fault) -> AsyncIterator[Opened]:
    def fail(act: Act) -> None:
        if fault.error == errno.ENOSPC and act.deed not in TAKES_ROOM:
            return
        if nth.fails():
            raise OSError(fault.error, os.strerror(fault.error))

    with watched(fail):
        stack = AsyncExitStack()
        try:
            yield await stack.enter_async_context(opened_files(folder))
        finally:
            with suppress(StorageError):  # it is told once more that a flush has failed
                await stack.aclose()


@asynccontextmanager
async def _sqlite(folder: Path, nth: Nth, fault: Fault) -> AsyncIterator[Opened]:
    folder.mkdir(exist_ok=True)
    connect = FailingSqlite(nth, fault).connect
    database = await SqliteDatabase.open(folder / DATABASE_NAME, connect)
    try:
        events = DatabaseEventStore(database)
        await events.finish_deletions()
        records = DatabaseConversationStores(database)
        yield Opened(records, events, partial(DatabaseWorkspaces, database, EphemeralKey()))
        with suppress(EventsError):
            await events.place_arrivals()
    finally:
        await database.close()


PLACES = {
    "local": Place(FILE_FAULTS, lambda folder: LocalStorage(data_dir=folder), _files),
    "sqlite": Place(DATABASE_FAULTS, lambda folder: SqliteStorage(data_dir=folder), _sqlite),
}
SOUND = Fault("none", errno.EIO)


async def run_failing(folder: Path, seed: int, kind: str, most: int | None = None) -> Counter[str]:
    """Fail every Nth operation in every way, or `most` of them in each. Raises AssertionError."""
    figures, random = Counter[str](), choices(seed)
    for fault in PLACES[kind].faults:
        numbers: Iterable[int] = count(1)
        if most is not None:
            last = await _operations(folder, seed, kind, fault)
            numbers = sorted(random.sample(range(1, last + 1), min(most, last)))
        for number in numbers:
            own = folder / "life"
            try:
                reached = await _fail(own, seed, kind, fault, number, figures)
            except BaseException as error:
                error.add_note(f"{kind}: {fault.name} at operation {number}; seed {seed}")
                raise
            rmtree(own)
            if not reached:
                break
            figures[fault.name] += 1
    return figures


async def _operations(folder: Path, seed: int, kind: str, fault: Fault) -> int:
    """Return how many operations a life has at least that might fail so."""
    nth = _Counting()
    await _lived(folder / "count", seed, kind, nth, fault)
    rmtree(folder / "count")
    return nth.seen


class _Counting(Nth):
    def __init__(self) -> None:
        super().__init__(0, lasting=False)
        self.seen = 0

    def fails(self) -> bool:
        self.seen += self._begun
        return False


async def _fail(
    folder: Path, seed: int, kind: str, fault: Fault, number: int, figures: Counter[str]
) -> bool:
    nth = Nth(number, lasting=fault.lasting)
    life = await _lived(folder, seed, kind, nth, fault)
    await _compare(folder, kind, life, figures)
    return nth.reached


async def _lived(folder: Path, seed: int, kind: str, nth: Nth, fault: Fault) -> Life:
    life = _life(choices(seed))
    folder.mkdir()
    async with PLACES[kind].opens(folder, nth, fault) as stores:
        await life.begin(stores)
        nth.begin()
        await life.live(stores, STEPS)
        await life.delete(stores, CONVERSATIONS[-1])
        await life.live(stores, STEPS // 4)
    nth.end()
    return life


def _life(random: Random) -> Life:
    places = count()
    return Life(random, lambda: next(places))


async def _compare(folder: Path, kind: str, life: Life, figures: Counter[str]) -> None:
    """Compare what is there on a sound disk with what was told, and find it sound."""
    place = PLACES[kind]
    async with place.opens(folder, Nth(0, lasting=False), SOUND) as stores:
        figures["acknowledged events"] += await life.check(stores)
        said = [await life.say(stores, name) for name in CONVERSATIONS]
        assert any(said), "nothing can be appended any more"
        await life.check(stores)
    await asyncio.to_thread(check_derived, place.config(folder))


async def run_full(folder: Path, seed: int, kind: str) -> Counter[str]:
    """Fill the disk under a storage for a time. Raises AssertionError.

    While it is full what is there can be read; with room everything works again, without a restart.
    """
    figures, place = Counter[str](), PLACES[kind]
    fault = Fault("full", errno.ENOSPC, lasting=True)
    folder.mkdir(exist_ok=True)
    nth, life = Nth(1, lasting=True), _life(choices(seed))
    try:
        async with place.opens(folder, nth, fault) as stores:
            await life.begin(stores)
            await life.live(stores, FULL_STEPS)
            before = await life.check(stores)
            nth.begin()
            await life.live(stores, FULL_STEPS)
            assert nth.reached
            figures["acknowledged while full"] = await life.check(stores) - before
            nth.end()
            for name in CONVERSATIONS:
                assert await life.say(stores, name), f"{name} takes nothing though there is room"
            await life.live(stores, FULL_STEPS)
            await life.delete(stores, CONVERSATIONS[-1])
            await life.check(stores)
        await _compare(folder, kind, life, figures)
    except StorageError as error:
        raise AssertionError(f"{kind}: {error}") from error
    return figures
