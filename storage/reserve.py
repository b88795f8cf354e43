"""Disk space reserved for deletions, which free space but need some first."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

RESERVE_BYTES = 24 * 1024 * 1024
"""Bytes of the reserve: SQLite may have to move a whole WAL of 16 MiB before it uses freed pages."""
PLENTY = 8
"""If this many reserves fit into the free space, none is needed while the server is stopped."""


class Reserve:
    """A file of a fixed size that can be given up at once. Its methods block."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size = size

    def fill(self) -> None:
        """Create the whole file, or none of it if there is no space."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        except OSError:
            self.release()
        finally:
            os.close(descriptor)

    def release(self) -> bool:
        """Free the reserved space; return whether there was any."""
        try:
            held = self._path.stat().st_size > 0
            self._path.unlink()
        except OSError:
            return False
        return held

    def close(self) -> None:
        """Remove the file, unless the disk is so full that another start might not get it."""
        with contextlib.suppress(OSError):
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize > PLENTY * self._size:
                self.release()


async def making_room(
    reserve: Reserve | None,
    write: Callable[[], Awaitable[T]],
    failures: tuple[type[Exception], ...],
) -> T:
    """Run a write that frees space; if it fails, retry it with the reserved space.

    `write` may run twice and must be idempotent. Raises what it raises.
    """
    if reserve is None:
        return await write()
    try:
        return await write()
    except failures as error:
        if not await asyncio.to_thread(reserve.release):
            raise
        logger.warning("retrying a deletion with the reserved disk space: %s", error)
        return await write()
    finally:
        await asyncio.to_thread(reserve.fill)
