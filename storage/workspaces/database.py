"""Kept workspaces in a database: a row for each blob, and one for each manifest."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from storage.database.base import Database, Row, Statement, Steps, bytes_in, rerunnable
from storage.errors import ConversationDeleted, ConversationNotFound
from storage.sealing.key import Key
from storage.workspaces.blobs import AT_ONCE, BlobWorkspaces, Found
from storage.workspaces.snapshot import USUAL_LIMITS, WorkspaceLimits


class DatabaseWorkspaces(BlobWorkspaces):
    """Every blob is a commit of its own, so that other writers need not wait for a large workspace.

    The rows belong to the conversation's number; its log's deletion removes them.
    """

    def __init__(
        self, database: Database, key: Key, limits: WorkspaceLimits = USUAL_LIMITS
    ) -> None:
        super().__init__(key, limits)
        self._database = database

    async def find(self, conversation_id: str) -> Found:
        """See BlobWorkspaces."""
        row = await self._row(conversation_id)
        if row is None:
            raise ConversationNotFound(conversation_id)
        number, deleted_at, manifest, _ = row
        if deleted_at is not None:
            raise ConversationDeleted(conversation_id)
        names = await self._read(Statement("workspace_blobs", (number,)))
        # A damaged row may hold a value of any type.
        return Found(
            None if manifest is None else bytes_in(manifest), [str(name) for (name,) in names]
        )

    async def find_manifest(self, conversation_id: str) -> bytes | None:
        """See BlobWorkspaces."""
        row = await self._row(conversation_id)
        if row is None or row[1] is not None or row[2] is None:
            return None
        return bytes_in(row[2])

    async def read_blobs(self, conversation_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """See BlobWorkspaces."""
        asked = (conversation_id, json.dumps(list(names)))
        rows = await self._read(Statement("read_workspace_blobs", asked))
        return {name: bytes_in(body) for name, body in rows}

    async def write_blob(self, conversation_id: str, name: str, body: bytes) -> None:
        """See BlobWorkspaces."""
        await self._put(conversation_id, "put_workspace_blob", (name, body))

    async def write_manifest(self, conversation_id: str, body: bytes) -> None:
        """See BlobWorkspaces."""
        await self._put(conversation_id, "put_workspace", (body,))

    async def drop_blobs(self, conversation_id: str, names: Sequence[str]) -> None:
        """See BlobWorkspaces."""
        # A damaged name may be no text, which orjson refuses; it names no row then, and stays.
        dropped = (conversation_id, json.dumps(list(names)))
        await self._database.write(_touch(Statement("drop_workspace_blobs", dropped)))

    async def drop(self, conversation_id: str) -> None:
        """See BlobWorkspaces."""
        row = await self._row(conversation_id)
        if row is not None and (row[2] is not None or row[3]):
            await self._database.write(_touch(Statement("purge_workspace", row[:1])))
            few = Statement("purge_workspace_blobs", (row[0], AT_ONCE))
            while await self._database.write(_touch(few)):
                continue

    async def _row(self, conversation_id: str) -> Row | None:
        rows = await self._read(Statement("read_workspace", (conversation_id,)))
        return rows[0] if rows else None

    async def _read(self, statement: Statement) -> list[Row]:
        return await self._database.read(_rows(statement))

    async def _put(self, conversation_id: str, query: str, values: Sequence[Any]) -> None:
        statement = Statement(query, (*values, conversation_id))
        if not await self._database.write(_touch(statement)):
            raise ConversationDeleted(conversation_id)


@rerunnable
def _rows(statement: Statement) -> Steps[list[Row]]:
    return (yield statement).rows


@rerunnable
def _touch(statement: Statement) -> Steps[int]:
    return (yield statement).touched
