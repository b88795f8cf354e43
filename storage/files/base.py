"""The FileStore contract: whole files by key, the only thing that touches a medium of files."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from storage.medium import Medium


class FileStore(Medium, ABC):
    """Stores bytes under keys such as `logs/c1/pages/00000003`.

    A key is what `storage.keys.check_key` accepts; a key is never both a file and a folder. Folders
    exist as long as they contain files. A reader sees a file whole or not at all.

    Every call raises BadKey before the medium is asked, and Unavailable when the medium did not
    answer or a write certainly did not happen. Writes raise OutcomeUnknown where only reading
    tells (deadline, failed flush, a call that was cancelled); one that is still under way then is
    waited for by later calls on its key, so that they tell for good. A write that returned is
    durable. While `lost` says why, writes raise MediumLost.
    """

    @abstractmethod
    async def read(self, key: str) -> bytes:
        """Return the file's content. Raises KeyNotFound, Damaged (no regular file)."""

    @abstractmethod
    async def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the contents in that order, None for each that is not found. Raises Damaged."""

    @abstractmethod
    async def exists(self, key: str) -> bool:
        """Tell whether a file has that key; a folder has not."""

    @abstractmethod
    async def keys(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[str]:
        """Return the keys that begin with `prefix` and are greater than `after`, ascending.

        At most `limit` of them, the least ones; empty if there are none. The cost depends on the
        folders below the prefix, so that prefixes should end in a slash. Files written or deleted
        in the meantime may be listed or not.
        """

    @abstractmethod
    async def create(self, key: str, content: bytes) -> None:
        """Create a file; of several concurrent callers exactly one succeeds.

        Raises KeyExists, Conflict (the key, or a part of it, is a folder or a file where it must
        not be); nothing was written then.
        """

    @abstractmethod
    async def write(self, key: str, content: bytes) -> None:
        """Create a file, or replace it atomically. Raises Conflict as `create` does."""

    async def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write the files of one folder as `write` does each, by their keys; they may share a flush.

        Not atomic: where it raises, or is interrupted, some of them may be written.
        """
        await asyncio.gather(*(self.write(key, content) for key, content in files.items()))

    @abstractmethod
    async def delete(self, *keys: str) -> None:
        """Delete files, ignoring absent ones.

        Several in one folder share a flush. Not atomic: if interrupted, some of them remain.
        """

    @abstractmethod
    async def delete_tree(self, folder: str) -> None:
        """Remove every file whose key begins with `folder` and a slash; none is a no-op.

        Not atomic: cut short, it leaves some of them, and is to be called again.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish the writes taken so far and release everything; calls after it are Unavailable."""
