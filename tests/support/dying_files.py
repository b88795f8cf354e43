"""A file store whose process dies at a chosen write, around one whose files outlive it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

from storage.errors import OutcomeUnknown, Unavailable
from storage.files.base import FileStore


class Death(StrEnum):
    """When, of the write it comes at."""

    before = "before"
    amidst = "amidst"
    """Half of several files are deleted; otherwise as before."""
    after = "after"


class DyingFileStore(FileStore):
    """Passes on so many writes, then dies: neither that one's answer nor any other call comes."""

    def __init__(self, inner: FileStore, writes: int, death: Death) -> None:
        self.inner = inner
        self.dead = False
        self.writes = 0
        self._last = writes
        self._death = death

    def die_after(self, writes: int, death: Death) -> None:
        """Die so at the write that follows on so many from now."""
        self._last, self._death = self.writes + writes, death

    async def read(self, key: str) -> bytes:
        """See FileStore."""
        await self._check()
        return await self.inner.read(key)

    async def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """See FileStore."""
        await self._check()
        return await self.inner.read_all(keys)

    async def exists(self, key: str) -> bool:
        """See FileStore."""
        await self._check()
        return await self.inner.exists(key)

    async def keys(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[str]:
        """See FileStore."""
        await self._check()
        return await self.inner.keys(prefix, after=after, limit=limit)

    async def create(self, key: str, content: bytes) -> None:
        """See FileStore."""
        await self._write(lambda: self.inner.create(key, content))

    async def write(self, key: str, content: bytes) -> None:
        """See FileStore."""
        await self._write(lambda: self.inner.write(key, content))

    async def delete(self, *keys: str) -> None:
        """See FileStore."""
        half = keys[: len(keys) // 2]
        await self._write(lambda: self.inner.delete(*keys), lambda: self.inner.delete(*half))

    async def delete_tree(self, folder: str) -> None:
        """See FileStore."""

        async def half() -> None:
            found = await self.inner.keys(f"{folder}/")
            await self.inner.delete(*found[: len(found) // 2])

        await self._write(lambda: self.inner.delete_tree(folder), half)

    async def close(self) -> None:
        """See FileStore. The inner one stays open."""

    async def _write(
        self,
        whole: Callable[[], Awaitable[None]],
        half: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        await self._check()
        self.writes += 1
        self.dead = self.writes > self._last
        if not self.dead or self._death == Death.after:
            await whole()
        elif self._death == Death.amidst and half is not None:
            await half()
        if self.dead:
            raise OutcomeUnknown("the process died")

    async def _check(self) -> None:
        await asyncio.sleep(0)  # others get their turn, as beside a real disk
        if self.dead:
            raise Unavailable("the process is dead")
