"""Backups that a running server makes into a folder: on request, and again and again."""

import asyncio
import logging
import re
from asyncio import Lock, Task
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

from events.stores.base import EventStore
from events.stores.opening import open_workspaces
from events.transfer.backup import Summary, archive_of, write_archive
from events.transfer.contents import NO_LIMITS, Stores
from storage.backends.base import OpenedStorage
from storage.sealing.key import key_file_in

logger = logging.getLogger(__name__)

NAME = "parley-%Y%m%dT%H%M%S-%fZ.backup"
_NAMED = re.compile(r"parley-\d{8}T\d{6}-\d{6}Z\.backup")
_DRAFT = re.compile(rf"\.{_NAMED.pattern}\.part")
AGAIN_SECONDS = 600.0
"""Seconds after a backup that failed until the next one, unless they are more often anyway."""


def backups_of(
    storage: OpenedStorage,
    events: EventStore,
    folder: Path,
    *,
    every_seconds: float | None,
    keep: int,
    key_folder: Path | None,
) -> "Backups":
    """Return what makes backups of an opened storage; see Backups.

    `key_folder` is the directory that has the key file, unless the storage was given a key.
    """
    return Backups(
        Stores(storage, events, open_workspaces(storage, events, NO_LIMITS)),
        folder,
        every_seconds=every_seconds,
        keep=keep,
        key=lambda: None if key_folder is None else key_file_in(key_folder),
    )


class MadeBackup(NamedTuple):
    """A backup that was made and verified."""

    path: Path
    size_bytes: int
    summary: Summary


class Backups(AbstractAsyncContextManager["Backups"]):
    """Makes backups into a folder, one at a time.

    In an `async with` block it makes one every `every_seconds`, counted from the newest there is, and
    keeps the newest `keep` of the folder; None makes none by itself and removes none. What fails is
    logged. `key` returns the content of the key file, if the storage's key is kept in one.
    """

    def __init__(
        self,
        stores: Stores,
        folder: Path,
        *,
        every_seconds: float | None = None,
        keep: int = 7,
        key: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        self._stores = stores
        self._folder = folder
        self._every_seconds = every_seconds
        self._keep = keep
        self._key = key
        self._serial = Lock()
        self._task: Task[None] | None = None

    async def make(self) -> MadeBackup:
        """Make a backup and verify it. Raises StorageError, EventsError, OSError."""
        async with self._serial:
            await asyncio.to_thread(self._prepare)
            path = self._folder / datetime.now(UTC).strftime(NAME)
            key = await asyncio.to_thread(self._key)
            summary = await write_archive(path, archive_of(self._stores, key))
            for line in summary.damage:
                logger.error("a backup holds markers for what is damaged: %s", line)
            size_bytes = (await asyncio.to_thread(path.stat)).st_size
            return MadeBackup(path, size_bytes, summary)

    async def make_in_turn(self) -> MadeBackup:
        """Make a backup and remove the oldest beyond those to be kept. Raises as `make` does."""
        made = await self.make()
        await asyncio.to_thread(self._remove_oldest)
        return made

    def _prepare(self) -> None:
        """Make the folder unless it is there, and remove what ends in mid-backup have left in it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob(".*.part"):
            if _DRAFT.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _remove_oldest(self) -> None:
        for path in self.kept()[self._keep :]:
            path.unlink(missing_ok=True)

    def kept(self) -> list[Path]:
        """Return the backups in the folder, the newest first. Raise OSError. Block."""
        found = self._folder.glob("*") if self._folder.is_dir() else ()
        return sorted((one for one in found if _NAMED.fullmatch(one.name)), reverse=True)

    async def __aenter__(self) -> Self:
        if self._every_seconds is not None:
            self._task = asyncio.create_task(self._run(self._every_seconds))
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, every: float) -> None:
        try:
            wait = await asyncio.to_thread(self._due_in, every)
        except OSError:  # that of the backup says why
            wait = 0.0
        while True:
            await asyncio.sleep(wait)
            try:
                made = await self.make_in_turn()
            except Exception:  # whatever it is, the next one may succeed
                wait = min(every, AGAIN_SECONDS)
                logger.exception("cannot make a backup; trying again in %.0f s", wait)
            else:
                wait = every
                logger.info("made the backup %s, %d bytes", made.path, made.size_bytes)

    def _due_in(self, every: float) -> float:
        newest = next(iter(self.kept()), None)
        if newest is None:
            return 0.0
        due = datetime.strptime(newest.name, NAME).replace(tzinfo=UTC) + timedelta(seconds=every)
        # Never later than if there were none: the clock may have been set back.
        return min(every, max(0.0, (due - datetime.now(UTC)) / timedelta(seconds=1)))
