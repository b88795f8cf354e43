"""Kept workspaces as blobs and a manifest, on a medium that a subclass knows."""

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import NamedTuple

from storage.errors import ConversationNotFound, Damaged, KeyNotFound, NewerFormat
from storage.keyed_locks import KeyedLocks
from storage.workspaces.base import Kept, WorkspaceStore
from storage.workspaces.manifest import Change, Contents, Loaded, Manifest, next_manifest
from storage.workspaces.snapshot import USUAL_LIMITS, Snapshot, WorkspaceLimits

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Blobs that are read or dropped in one call."""


class Found(NamedTuple):
    """The parts of a workspace on a medium: the manifest, and the names of the blobs."""

    manifest: bytes | None
    blobs: Collection[str]


class BlobWorkspaces(WorkspaceStore):
    """Blobs are written first, then the manifest takes the place of the last one in one step.

    Only then blobs go that it does not need. What a kill leaves of either is dropped by the next save
    or the conversation's deletion.
    """

    def __init__(self, limits: WorkspaceLimits = USUAL_LIMITS) -> None:
        super().__init__(limits)
        self._locks: KeyedLocks[str] = KeyedLocks()

    @abstractmethod
    async def find(self, conversation_id: str) -> Found:
        """Return what there is. Raises ConversationNotFound, ConversationDeleted."""

    @abstractmethod
    async def find_manifest(self, conversation_id: str) -> bytes | None:
        """Return the manifest; None for an unknown or deleted conversation, too."""

    @abstractmethod
    async def read_blobs(self, conversation_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """Return those blobs that there are, a few at a time."""

    @abstractmethod
    async def write_blob(self, conversation_id: str, name: str, body: bytes) -> None:
        """Write a blob durably; it may be there already. Raises ConversationDeleted."""

    @abstractmethod
    async def write_manifest(self, conversation_id: str, body: bytes) -> None:
        """Replace the manifest atomically and durably. Raises as `find` does."""

    @abstractmethod
    async def drop_blobs(self, conversation_id: str, names: Sequence[str]) -> None:
        """Remove those blobs, a few at a time."""

    @abstractmethod
    async def drop(self, conversation_id: str) -> None:
        """Remove manifest and blobs."""

    def saving(self, conversation_id: str) -> AbstractAsyncContextManager[object]:  # noqa: ARG002
        """Hold whatever a save must hold from its first write to its last."""
        return nullcontext()

    async def save(self, conversation_id: str, snapshot: Snapshot) -> None:
        """See WorkspaceStore."""
        async with self._locks.of(conversation_id), self.saving(conversation_id):
            found = await self.find(conversation_id)
            blobs = frozenset(found.blobs)
            needed, change = await asyncio.to_thread(
                self._planned, conversation_id, snapshot, found.manifest, blobs
            )
            if change is not None:
                await self._write(conversation_id, change)
                blobs |= {blob.name for blob in change.blobs}
            for names in _few(sorted(blobs - needed)):
                await self.drop_blobs(conversation_id, names)

    async def _write(self, conversation_id: str, change: Change) -> None:
        try:
            for blob in change.blobs:
                await self.write_blob(conversation_id, blob.name, blob.body())
            body = await asyncio.to_thread(change.manifest.encode)
            await self.write_manifest(conversation_id, body)
        except ConversationNotFound:
            # The deletion that came first has dropped only what it found.
            await self.drop(conversation_id)
            raise

    def _planned(
        self,
        conversation_id: str,
        snapshot: Snapshot,
        manifest: bytes | None,
        blobs: frozenset[str],
    ) -> tuple[frozenset[str], Change | None]:
        """Return the blobs that are needed afterwards, and what is to be written. Block."""
        contents = Contents.of(snapshot, self.limits)
        known = None
        if manifest is not None:
            try:
                known = Manifest.decode(manifest, f"the workspace of {conversation_id}")
            except NewerFormat:
                raise
            except Damaged:
                logger.exception("a workspace is written anew", extra=_ids(conversation_id))
        change = next_manifest(contents, snapshot.folders, datetime.now(UTC), known, blobs)
        after = known if change is None else change.manifest
        return frozenset(() if after is None else after.blobs), change

    async def load(self, conversation_id: str) -> Loaded | None:
        """See WorkspaceStore."""
        async with self._locks.of(conversation_id):
            manifest = await self._manifest(conversation_id)
            if manifest is None:
                return None
            blobs = await self._blobs(conversation_id, [*manifest.blobs])
        loaded = await asyncio.to_thread(manifest.loaded, blobs)
        if loaded.lost or loaded.own_lost:
            count = len(loaded.lost) + loaded.own_lost
            logger.error(
                "%d file(s) of the workspace of %s are damaged and left out",
                *(count, conversation_id),
                extra=_ids(conversation_id),
            )
        return loaded

    async def kept(self, conversation_id: str) -> Kept | None:
        """See WorkspaceStore."""
        manifest = await self._manifest(conversation_id)
        if manifest is None:
            return None
        return Kept(kept_at=manifest.kept_at, files=manifest.sizes(), folders=manifest.folders)

    async def read(self, conversation_id: str, path: str) -> bytes:
        """See WorkspaceStore."""
        async with self._locks.of(conversation_id):
            manifest = await self._manifest(conversation_id)
            name = None if manifest is None else manifest.files.get(path)
            if manifest is None or name is None:
                raise KeyNotFound(path)
            needed = sorted({piece.blob for piece in manifest.contents[name]})
            blobs = await self._blobs(conversation_id, needed)
        content = await asyncio.to_thread(manifest.content, name, blobs)
        if content is None:
            raise Damaged("the stored content of the file is damaged")
        return content

    async def delete(self, conversation_id: str) -> None:
        """See WorkspaceStore."""
        async with self._locks.of(conversation_id):
            await self.drop(conversation_id)

    async def _manifest(self, conversation_id: str) -> Manifest | None:
        body = await self.find_manifest(conversation_id)
        if body is None:
            return None
        key = f"the workspace of {conversation_id}"
        return await asyncio.to_thread(Manifest.decode, body, key)

    async def _blobs(self, conversation_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for some in _few(names):
            found |= await self.read_blobs(conversation_id, some)
        return found


def _few(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(names), AT_ONCE):
        yield names[begin : begin + AT_ONCE]


def _ids(conversation_id: str) -> Mapping[str, str]:
    return {"conversation_id": conversation_id}
