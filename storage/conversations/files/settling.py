"""Conversations in use: their documents in memory, and marks on the medium until lists have them."""

import asyncio
import logging
from asyncio import Lock, Task
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

from storage.conversations.files.blocks import StoredListing
from storage.conversations.files.documents import Document
from storage.errors import KeyExists, OutcomeUnknown, StorageError
from storage.files.base import FileStore
from storage.keyed_locks import KeyedLocks
from storage.keys import LISTS, RECORDS, UNSETTLED

_LOG = logging.getLogger(__name__)

SETTLE_AT = 1_000
"""Conversations in use at which the older half is settled, in the background."""
WAIT_AT = 4_000
"""Maximum number of marked conversations; the next one waits until others are settled."""


class Active:
    """A conversation in use. `version` counts its changes, `pins` the current writers."""

    __slots__ = ("document", "doubtful", "kept", "pins", "version")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.doubtful = False
        """Whether a write's outcome is unknown: the medium holds this document or an older one."""
        self.kept = True
        """The medium has the document as it is here."""
        self.version = 0
        self.pins = 0


class RecordSettling:
    """Marks conversations before they change, and settles them: document, list, mark removed.

    A mark that is found at the start means that a crash came first.
    """

    def __init__(self, files: FileStore, listing: StoredListing) -> None:
        self.left: set[str] = set()
        """Conversations marked by an earlier process that are not yet compared with their logs."""
        self.doubtful: set[str] = set()
        self._files = files
        self._listing = listing
        self._active: OrderedDict[str, Active] = OrderedDict()
        self._locks: KeyedLocks[str] = KeyedLocks()
        self._clearing: set[str] = set()
        self._cleared = asyncio.Event()
        self._settling = Lock()
        self._task: Task[None] | None = None

    def lock(self, conversation_id: str) -> Lock:
        """Whoever changes a document holds this."""
        return self._locks.of(conversation_id)

    def get(self, conversation_id: str) -> Active | None:
        """Return the conversation if it is in use and its state is known."""
        active = self._active.get(conversation_id)
        if active is None or active.doubtful:
            return None
        self._active.move_to_end(conversation_id)
        return active

    async def read(self, conversation_id: str) -> Document:
        """Return the current document, empty if there is none. Raises Damaged, Unavailable."""
        return (await self.read_all([conversation_id]))[0]

    async def read_all(self, conversation_ids: Sequence[str]) -> list[Document]:
        """Return the documents in that order, read together. Raises Damaged, Unavailable."""
        found = {
            key: active.document
            for key in conversation_ids
            if (active := self.get(key)) is not None
        }
        missing = [key for key in conversation_ids if key not in found]
        if missing:
            contents = await self._files.read_all([RECORDS + key for key in missing])
            for key, content in zip(missing, contents, strict=True):
                found[key] = (
                    Document() if content is None else Document.decode(RECORDS + key, content)
                )
        return [found[key] for key in conversation_ids]

    async def use(self, conversation_id: str) -> Active:
        """Mark a conversation and keep its document in memory; called under its lock.

        Raises what the medium raises.
        """
        active = self.get(conversation_id)
        if active is None:
            await self._make_room()
            document = await self.read(conversation_id)
            while conversation_id in self._clearing:
                await self._cleared.wait()
            with suppress(KeyExists):
                await self._files.create(UNSETTLED + conversation_id, b"")
            active = self._active.get(conversation_id)
            if active is None:
                active = self._active[conversation_id] = Active(document)
            elif active.doubtful:
                self._resolve(conversation_id, active, document)
        return active

    async def write(self, conversation_id: str, active: Active, document: Document) -> None:
        """Replace the document in use, durably; called under its lock."""
        active.version += 1
        active.pins += 1
        active.kept = True
        try:
            await self._files.write(RECORDS + conversation_id, document.encode())
        except (OutcomeUnknown, asyncio.CancelledError):
            active.doubtful = True
            self.doubtful.add(conversation_id)
            raise
        except StorageError:
            active.kept = False
            raise
        finally:
            active.pins -= 1
        if not document.deleted:
            document.fold = active.document.fold  # with what was folded meanwhile
        active.document = document
        self.enter(conversation_id, document)

    async def bury(self, conversation_id: str) -> None:
        """Put a tombstone in the place of a document that cannot be read; called under its lock."""
        await self._files.write(RECORDS + conversation_id, Document(deleted=True).encode())
        self._listing.remove(conversation_id)

    def enter(self, conversation_id: str, document: Document) -> None:
        """Update the lists from the document."""
        record = document.visible()
        if record is None:
            self._listing.remove(conversation_id)
        else:
            self._listing.put(record)

    def settle_older(self) -> None:
        """Settle the older half in the background once there are many."""
        if len(self._active) >= SETTLE_AT:
            self._settle_soon(len(self._active) // 2)

    def compared(self, conversation_id: str) -> None:
        """Note that a conversation that a crash left is as its log says.

        After the last one all are settled in the background: otherwise each crash would leave the
        next start the conversations of those before.
        """
        self.left.discard(conversation_id)
        if not self.left:
            self._settle_soon(len(self._active))

    def _settle_soon(self, count: int) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._settle_in_background(count))

    async def settle(self, count: int | None = None) -> None:
        """Write documents and lists of the least recently used, then remove their marks.

        Those being changed, and those left by a crash, are skipped. Raises StorageError.
        """
        async with self._settling:
            chosen = {
                key: active.version
                for key, active in [*self._active.items()][:count]
                if not (active.pins or active.doubtful or key in self.left)
            }
            for key in chosen:
                await self._keep(key)
            await self._write_lists()
            await self._unmark([key for key, version in chosen.items() if self._at(key, version)])

    async def _write_lists(self) -> None:
        for block in sorted(self._listing.dirty):
            self._listing.dirty.discard(block)
            try:
                await self._files.write(f"{LISTS}{block:08}", self._listing.encode(block))
            except BaseException:
                self._listing.dirty.add(block)
                raise

    async def _settle_in_background(self, count: int) -> None:
        try:
            await self.settle(count)
        except StorageError:
            _LOG.exception("conversations in use cannot be settled; they stay marked")
        finally:
            self._task = None

    async def close(self) -> None:
        """Settle what can be settled. Raises StorageError."""
        if self._task is not None:
            await asyncio.wait([self._task])
        await self.settle()

    async def _keep(self, conversation_id: str) -> None:
        active = self._active[conversation_id]
        if active.kept:
            return
        async with self.lock(conversation_id):
            active.kept = True
            try:
                await self._files.write(RECORDS + conversation_id, active.document.encode())
            except BaseException:
                active.kept = False
                raise

    def _at(self, conversation_id: str, version: int) -> bool:
        active = self._active[conversation_id]
        return active.version == version and not active.pins and not active.doubtful

    async def _unmark(self, conversation_ids: list[str]) -> None:
        for key in conversation_ids:
            del self._active[key]
        self._clearing.update(conversation_ids)
        self._cleared.clear()
        try:
            await self._files.delete(*(UNSETTLED + key for key in conversation_ids))
        finally:
            self._clearing.clear()
            self._cleared.set()

    async def _make_room(self) -> None:
        if len(self._active) >= WAIT_AT and self._task is not None:
            await asyncio.wait([self._task])

    def _resolve(self, conversation_id: str, active: Active, found: Document) -> None:
        """Read the document back after an unknown outcome; the fold in memory is newer."""
        if not found.deleted:
            found.fold = active.document.fold
        active.document = found
        active.kept = False
        active.doubtful = False
        self.doubtful.discard(conversation_id)
        self.enter(conversation_id, found)
