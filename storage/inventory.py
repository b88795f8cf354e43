"""The contents of a storage and the room they take, and how far reading all of it has come."""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import AwareDatetime, BaseModel

CHECK_SECONDS = 60.0
"""Seconds that a check of the whole storage may take."""

T = TypeVar("T")


class Track(Protocol):
    """Yields items while showing the progress out of `total`."""

    def __call__(self, items: Iterable[T], subject: str, total: int, /) -> Iterable[T]:
        """Return the items, in order."""


def untracked(items: Iterable[T], _subject: str, _total: int, /) -> Iterable[T]:
    """Return the items without showing progress."""
    return items


class IntegrityMark(BaseModel):
    """The newest check of the whole medium since the storage was opened."""

    checked_at: AwareDatetime
    sound: bool
    text: str


class StorageReport(BaseModel):
    """Sizes in bytes. A value that a medium does not have, or cannot determine cheaply, is None.

    `events` counts those of conversations that are not deleted.
    """

    medium: str
    place: str | None = None
    bytes_used: int | None = None
    wal_bytes: int | None = None
    files: int | None = None
    conversations: int
    deleted_conversations: int | None = None
    events: int | None = None
    schema_version: int | None = None
    integrity: IntegrityMark | None = None


Check = Callable[[Track], list[str]]
"""Reads a whole storage and returns its problems. Blocks."""

BREATH = 20
"""Records that are checked before the event loop may have the interpreter, if it wants it."""


class Inventory(ABC):
    """Reports the size and integrity of one opened storage."""

    def __init__(self) -> None:
        self.check: Check | None = None
        """The check of the whole storage, set by the server's composition."""
        self.mark: IntegrityMark | None = None

    @abstractmethod
    async def take(self, *, check: bool = False) -> StorageReport:
        """Look; with `check`, read the whole storage for damage first.

        Raises Unavailable, TimeoutError.
        """

    async def run_check(self) -> None:
        """Check in a thread, and store the result. Raises TimeoutError; the thread then ends."""
        if self.check is None:
            return
        ended = threading.Event()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                problems = await asyncio.to_thread(self.check, partial(_until, ended))
        finally:
            ended.set()
        text = "; ".join(problems) or "ok"
        self.mark = IntegrityMark(checked_at=datetime.now(UTC), sound=not problems, text=text)


def size_of(path: Path) -> int:
    """Return the bytes of a file; 0 where there is none. Block."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _until(
    ended: threading.Event, items: Iterable[T], _subject: str, _total: int, /
) -> Iterable[T]:
    """Yield items until the check is abandoned."""
    for number, item in enumerate(items):
        if number % BREATH == 0:
            if ended.is_set():
                return
            time.sleep(0)
        yield item
