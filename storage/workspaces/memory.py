"""Kept workspaces in memory: the reference implementation; nothing outlives the process."""

import asyncio
from datetime import UTC, datetime

from storage.errors import ConversationNotFound, KeyNotFound
from storage.workspaces.base import Hold, Kept, WorkspaceStore
from storage.workspaces.manifest import Contents, Loaded, digest_of
from storage.workspaces.snapshot import USUAL_LIMITS, Snapshot, WorkspaceLimits


class MemoryWorkspaces(WorkspaceStore):
    """A snapshot for each conversation, in a dict."""

    def __init__(self, beside: Hold, limits: WorkspaceLimits = USUAL_LIMITS) -> None:
        super().__init__(limits)
        self._beside = beside
        self._kept: dict[str, tuple[datetime, Snapshot]] = {}

    async def save(self, conversation_id: str, snapshot: Snapshot) -> None:
        """See WorkspaceStore."""
        await asyncio.to_thread(Contents.of, snapshot, self.limits, digest_of)
        async with self._beside(conversation_id):
            known = self._kept.get(conversation_id)
            if known is None or known[1] != snapshot:
                own = Snapshot(
                    files=dict(snapshot.files),
                    folders=frozenset(snapshot.folders),
                    own=dict(snapshot.own),
                )
                self._kept[conversation_id] = datetime.now(UTC), own

    async def load(self, conversation_id: str) -> Loaded | None:
        """See WorkspaceStore."""
        known = await self._known(conversation_id)
        return None if known is None else Loaded(known[1])

    async def kept(self, conversation_id: str) -> Kept | None:
        """See WorkspaceStore."""
        known = await self._known(conversation_id)
        if known is None:
            return None
        kept_at, snapshot = known
        sizes = {path: len(content) for path, content in snapshot.files.items()}
        return Kept(kept_at=kept_at, files=sizes, folders=snapshot.folders)

    async def read(self, conversation_id: str, path: str) -> bytes:
        """See WorkspaceStore."""
        known = await self._known(conversation_id)
        if known is None or path not in known[1].files:
            raise KeyNotFound(path)
        return known[1].files[path]

    async def delete(self, conversation_id: str) -> None:
        """See WorkspaceStore."""
        self._kept.pop(conversation_id, None)

    async def _known(self, conversation_id: str) -> tuple[datetime, Snapshot] | None:
        try:
            async with self._beside(conversation_id):
                return self._kept.get(conversation_id)
        except ConversationNotFound:  # its log was deleted
            self._kept.pop(conversation_id, None)
            return None
