"""Keeps a conversation's record up to date with its log where they do not share a commit."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Sequence
from contextvars import copy_context
from datetime import datetime

from events.event import StoredEvent
from events.stream import EventStream
from events.summary import SummaryChange
from storage.conversations.base import ConversationStore
from storage.conversations.metadata import FOLDED_FIELDS, MetadataChange
from storage.errors import ConversationNotFound

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
MOMENTS = frozenset(("last_updated_at", "last_message_at"))


class MetadataFollower:
    """Writes the fold of what was committed: one write in flight, and the newest values win.

    A write that fails is tried again until `close`.
    """

    def __init__(self, stream: EventStream, store: ConversationStore) -> None:
        self._conversation_id = stream.conversation_id
        self._store = store
        self._due: dict[str, object] = {}
        self._task: Task[None] | None = None
        self._context = copy_context()  # not that of whoever happens to publish
        self._stop = stream.tap(self._take)

    async def close(self, seconds: float = 5.0) -> None:
        """Take nothing more and finish the write that is due, for a bounded time."""
        self._stop()
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=seconds)
            for task in late:
                task.cancel()

    def _take(self, _events: Sequence[StoredEvent], summary: SummaryChange) -> None:
        for name in FOLDED_FIELDS:
            value = getattr(summary, name)
            if value is not None:
                self._due[name] = value
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._write(), context=self._context)

    async def _write(self) -> None:
        while self._due:
            due, self._due = self._due, {}
            for name in MOMENTS & due.keys():
                due[name] = datetime.fromisoformat(str(due[name]))
            try:
                change = MetadataChange.model_validate(due)
                await self._store.update_metadata(self._conversation_id, change)
            except ConversationNotFound:
                break  # deleted meanwhile: there is nothing left to keep up to date
            except Exception:  # the store may be anybody's
                logger.exception("the record of %s is behind its log", self._conversation_id)
                self._due = due | self._due
                await asyncio.sleep(RETRY_SECONDS)
        self._task = None
