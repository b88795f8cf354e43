"""Kept workspaces as sealed blobs and a manifest, on a medium that a subclass knows."""

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence, Set as AbstractSet
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import NamedTuple

from storage.errors import (
    ConversationNotFound,
    Damaged,
    KeyNotFound,
    NewerFormat,
    StorageError,
    Unavailable,
    WrongKey,
)
from storage.keyed_locks import KeyedLocks
from storage.sealing.cipher import Cipher
from storage.sealing.key import Key
from storage.workspaces.base import Kept, WorkspaceStore
from storage.workspaces.manifest import Change, Contents, Loaded, next_manifest
from storage.workspaces.sealing import Form, SealedForm, Stored, read_manifest
from storage.workspaces.snapshot import USUAL_LIMITS, Snapshot, WorkspaceLimits

logger = logging.getLogger(__name__)

LOADS = 5
"""Times a workspace is read that another process replaces meanwhile."""
AT_ONCE = 4
"""Blobs that are read or dropped in one call."""


class Found(NamedTuple):
    """The parts of a workspace on a medium: the manifest, and the names of the blobs."""

    manifest: bytes | None
    blobs: Collection[str]


class Plan(NamedTuple):
    """A save: what is written, and which blobs are needed until then and afterwards."""

    form: SealedForm
    change: Change | None
    """None if what is kept is the same."""
    until: AbstractSet[str]
    afterwards: AbstractSet[str]


class BlobWorkspaces(WorkspaceStore):
    """Blobs are written first, then the manifest takes the place of the last one in one step.

    Only then blobs go that it does not need. What a kill leaves of either is dropped by the next save
    or the conversation's deletion. Everything is sealed with the storage's key before a subclass sees
    it; what earlier versions wrote unsealed is read, and sealed by the next save.
    """

    def __init__(self, key: Key, limits: WorkspaceLimits = USUAL_LIMITS) -> None:
        super().__init__(limits)
        self._key = key
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
            cipher = await self._key.for_writing()
            plan = await asyncio.to_thread(
                self._planned, conversation_id, snapshot, found.manifest, blobs, cipher
            )
            # Left over from a save that failed: room for this one.
            await self._drop(conversation_id, blobs - plan.until - plan.afterwards)
            if plan.change is not None:
                await self._write(conversation_id, plan.form, plan.change)
                await self._drop(conversation_id, blobs & plan.until - plan.afterwards)

    async def _write(self, conversation_id: str, form: SealedForm, change: Change) -> None:
        written = set()
        try:
            for blob in change.blobs:
                body = await asyncio.to_thread(form.sealed_blob, blob)
                written.add(blob.name)
                await self.write_blob(conversation_id, blob.name, body)
            body = await asyncio.to_thread(form.sealed_manifest, change.manifest)
            await self.write_manifest(conversation_id, body)
        except ConversationNotFound:
            # The deletion that came first has dropped only what it found.
            await self.drop(conversation_id)
            raise
        except Unavailable:
            # On a full disk, what is of no use must not keep others from writing.
            await self._take_back(conversation_id, written)
            raise

    async def _take_back(self, conversation_id: str, names: AbstractSet[str]) -> None:
        try:
            await self._drop(conversation_id, names)
        except StorageError:
            logger.exception(
                "what a failed save has written stays until the next", extra=_ids(conversation_id)
            )

    async def _drop(self, conversation_id: str, names: AbstractSet[str]) -> None:
        for some in _few(sorted(names)):
            await self.drop_blobs(conversation_id, some)

    def _planned(
        self,
        conversation_id: str,
        snapshot: Snapshot,
        manifest: bytes | None,
        blobs: frozenset[str],
        cipher: Cipher,
    ) -> Plan:
        """Return what is to be written for a snapshot. Raises WrongKey. Block."""
        form = SealedForm(cipher, conversation_id)
        contents = Contents.of(snapshot, self.limits, form.name_of)
        known, until = None, blobs
        if manifest is not None:
            try:
                stored = read_manifest(manifest, conversation_id, cipher)
                until = frozenset(stored.manifest.blobs)
                known = stored.manifest if stored.is_sealed else None
            except NewerFormat:
                raise
            except Damaged:
                logger.exception("a workspace is written anew", extra=_ids(conversation_id))
        now = datetime.now(UTC)
        change = next_manifest(contents, snapshot.folders, now, known, blobs, form.blob_name)
        after = known if change is None else change.manifest
        return Plan(form, change, until, frozenset(() if after is None else after.blobs))

    async def load(self, conversation_id: str) -> Loaded | None:
        """See WorkspaceStore."""
        async with self._locks.of(conversation_id):
            loaded = await self._loaded(conversation_id)
        if loaded is not None and (loaded.lost or loaded.own_lost):
            count = len(loaded.lost) + loaded.own_lost
            logger.error(
                "%d file(s) of the workspace of %s are damaged and left out",
                *(count, conversation_id),
                extra=_ids(conversation_id),
            )
        return loaded

    async def _loaded(self, conversation_id: str) -> Loaded | None:
        """Read a workspace, again where another process has replaced it meanwhile."""
        stored = await self._stored(conversation_id)
        tries = 0
        while stored is not None:
            manifest, form = stored
            blobs = await self._blobs(conversation_id, form, [*manifest.blobs])
            loaded = await asyncio.to_thread(manifest.loaded, blobs, form.name_of)
            tries += 1
            if not (loaded.lost or loaded.own_lost) or tries == LOADS:
                return loaded
            # Whoever has saved the next one has dropped what this one needs.
            stored = await self._stored(conversation_id)
            if stored is not None and stored.manifest == manifest:
                return loaded
        return None

    async def kept(self, conversation_id: str) -> Kept | None:
        """See WorkspaceStore."""
        stored = await self._stored(conversation_id)
        if stored is None:
            return None
        manifest = stored.manifest
        return Kept(kept_at=manifest.kept_at, files=manifest.sizes(), folders=manifest.folders)

    async def read(self, conversation_id: str, path: str) -> bytes:
        """See WorkspaceStore."""
        async with self._locks.of(conversation_id):
            stored = await self._stored(conversation_id)
            name = None if stored is None else stored.manifest.files.get(path)
            if stored is None or name is None:
                raise KeyNotFound(path)
            manifest, form = stored
            needed = sorted({piece.blob for piece in manifest.contents[name]})
            blobs = await self._blobs(conversation_id, form, needed)
        content = await asyncio.to_thread(manifest.content, name, blobs, form.name_of)
        if content is None:
            raise Damaged("the stored content of the file is damaged")
        return content

    async def delete(self, conversation_id: str) -> None:
        """See WorkspaceStore."""
        async with self._locks.of(conversation_id):
            await self.drop(conversation_id)

    async def _stored(self, conversation_id: str) -> Stored | None:
        """Return the manifest, None where nothing is kept. Raises Damaged, WrongKey."""
        body = await self.find_manifest(conversation_id)
        if body is None:
            return None
        cipher = await self._key.for_reading()
        return await asyncio.to_thread(read_manifest, body, conversation_id, cipher)

    async def _blobs(
        self, conversation_id: str, form: Form, names: Sequence[str]
    ) -> Mapping[str, bytes]:
        """Return those blobs that there are and that are sound."""
        found: dict[str, bytes] = {}
        for some in _few(names):
            stored = await self.read_blobs(conversation_id, some)
            found |= await asyncio.to_thread(_opened, conversation_id, form, stored)
        return found


def _opened(conversation_id: str, form: Form, stored: Mapping[str, bytes]) -> Mapping[str, bytes]:
    found = {}
    for name, body in stored.items():
        try:
            found[name] = form.opened(name, body)
        except (Damaged, WrongKey) as error:
            about = "a blob of a workspace is left out: %s"
            logger.error(about, error, extra=_ids(conversation_id))  # noqa: TRY400 - no fault
    return found


def _few(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(names), AT_ONCE):
        yield names[begin : begin + AT_ONCE]


def _ids(conversation_id: str) -> Mapping[str, str]:
    return {"conversation_id": conversation_id}
