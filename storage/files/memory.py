"""Files in memory: the reference back-end; nothing outlives the process."""

from bisect import bisect_left, insort
from collections.abc import Sequence

from storage.errors import Conflict, KeyExists, KeyNotFound, Unavailable
from storage.files.base import FileStore
from storage.keys import check_key, check_prefix


class MemoryFileStore(FileStore):
    """A dict and its keys in order. No method awaits, so each is atomic on its event loop."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._order: list[str] = []
        self._closed = False

    async def read(self, key: str) -> bytes:
        """See FileStore."""
        self._check(key)
        content = self._files.get(key)
        if content is None:
            raise KeyNotFound(key)
        return content

    async def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """See FileStore."""
        for key in keys:
            self._check(key)
        return [self._files.get(key) for key in keys]

    async def exists(self, key: str) -> bool:
        """See FileStore."""
        self._check(key)
        return key in self._files

    async def keys(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[str]:
        """See FileStore."""
        self._check_open()
        check_prefix(prefix)
        found = self._below(prefix)
        found = found[bisect_left(found, f"{after}\x00") :] if after else found
        return found if limit is None else found[:limit]

    async def create(self, key: str, content: bytes) -> None:
        """See FileStore."""
        self._check(key)
        if key in self._files:
            raise KeyExists(key)
        self._put(key, content)

    async def write(self, key: str, content: bytes) -> None:
        """See FileStore."""
        self._check(key)
        self._put(key, content)

    async def delete(self, *keys: str) -> None:
        """See FileStore."""
        for key in keys:
            self._check(key)
        for key in keys:
            self._drop(key)

    async def delete_tree(self, folder: str) -> None:
        """See FileStore."""
        self._check(folder)
        for key in self._below(f"{folder}/"):
            self._drop(key)

    async def close(self) -> None:
        """See FileStore."""
        self._closed = True

    def _put(self, key: str, content: bytes) -> None:
        parts = key.split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if any(folder in self._files for folder in above) or self._below(f"{key}/"):
            raise Conflict(f"a file and a folder cannot both be {key}")
        if key not in self._files:
            insort(self._order, key)
        self._files[key] = bytes(content)

    def _drop(self, key: str) -> None:
        if self._files.pop(key, None) is not None:
            del self._order[bisect_left(self._order, key)]

    def _below(self, prefix: str) -> list[str]:
        begin = bisect_left(self._order, prefix)
        # No character of a key sorts after "~".
        return self._order[begin : bisect_left(self._order, f"{prefix}~", begin)]

    def _check(self, key: str) -> None:
        self._check_open()
        check_key(key)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the file store is closed")
