"""Kept workspaces over a FileStore: a file for each blob, and a manifest that is renamed into place."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from storage.errors import Damaged, KeyNotFound
from storage.files.base import FileStore
from storage.keys import WORKSPACE, log_part
from storage.sealing.key import Key
from storage.workspaces.base import Hold
from storage.workspaces.blobs import BlobWorkspaces, Found
from storage.workspaces.snapshot import USUAL_LIMITS, WorkspaceLimits

logger = logging.getLogger(__name__)

MANIFEST, BLOBS = "manifest", "blobs"


class FileWorkspaces(BlobWorkspaces):
    """A folder beside each log, which the log's deletion removes.

    `beside` holds the end of a log, so that a deletion waits; `unsettled` holds a conversation marked,
    so that a start after a crash looks at it.
    """

    def __init__(
        self,
        files: FileStore,
        beside: Hold,
        unsettled: Hold,
        key: Key,
        limits: WorkspaceLimits = USUAL_LIMITS,
    ) -> None:
        super().__init__(key, limits)
        self._files = files
        self._beside = beside
        self._unsettled = unsettled

    def saving(self, conversation_id: str) -> AbstractAsyncContextManager[object]:
        """See BlobWorkspaces. A deletion that a kill cuts short is finished for what is marked."""
        return self._unsettled(conversation_id)

    async def find(self, conversation_id: str) -> Found:
        """See BlobWorkspaces."""
        async with self._beside(conversation_id):
            manifest = await self.find_manifest(conversation_id)
            prefix = f"{log_part(conversation_id, WORKSPACE, BLOBS)}/"
            keys = await self._files.keys(prefix)
        return Found(manifest, [key.removeprefix(prefix) for key in keys])

    async def find_manifest(self, conversation_id: str) -> bytes | None:
        """See BlobWorkspaces."""
        try:
            return await self._files.read(log_part(conversation_id, WORKSPACE, MANIFEST))
        except KeyNotFound:
            return None

    async def read_blobs(self, conversation_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """See BlobWorkspaces."""
        bodies = await asyncio.gather(*(self._blob(conversation_id, name) for name in names))
        found = zip(names, bodies, strict=True)
        return {name: body for name, body in found if body is not None}

    async def _blob(self, conversation_id: str, name: str) -> bytes | None:
        try:
            return await self._files.read(_blob_key(conversation_id, name))
        except KeyNotFound:
            return None
        except Damaged as error:
            ids = {"conversation_id": conversation_id}
            logger.error("a blob of a workspace is left out: %s", error, extra=ids)  # noqa: TRY400 - no fault
            return None

    async def write_blob(self, conversation_id: str, name: str, body: bytes) -> None:
        """See BlobWorkspaces. A deletion must not remove the folder under it."""
        async with self._beside(conversation_id):
            await self._files.write(_blob_key(conversation_id, name), body)

    async def write_manifest(self, conversation_id: str, body: bytes) -> None:
        """See BlobWorkspaces."""
        async with self._beside(conversation_id):
            await self._files.write(log_part(conversation_id, WORKSPACE, MANIFEST), body)

    async def drop_blobs(self, conversation_id: str, names: Sequence[str]) -> None:
        """See BlobWorkspaces."""
        await self._files.delete(*(_blob_key(conversation_id, name) for name in names))

    async def drop(self, conversation_id: str) -> None:
        """See BlobWorkspaces. The manifest goes first: without it, nothing is kept."""
        folder = log_part(conversation_id, WORKSPACE)
        if await self._files.keys(f"{folder}/", limit=1):
            await self._files.delete(f"{folder}/{MANIFEST}")
            await self._files.delete_tree(folder)


def _blob_key(conversation_id: str, name: str) -> str:
    return log_part(conversation_id, WORKSPACE, BLOBS, name)
