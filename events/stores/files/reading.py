"""Logs on files that another process may be writing at the same time, for whom only reads."""

from events.errors import DamagedRecord, StoreUnavailable
from events.event import StoredEvent
from events.stores.base import Head
from events.stores.files.state import LogState, changing
from events.stores.files.store import READ_TRIES, FileEventStore, KnownLog
from storage.errors import StorageError


class FileEventReader(FileEventStore):
    """The logs as they are when they are asked for, beside the process that writes them.

    What was read of a log holds until that process moves events into pages; then it is read anew.
    The files must refuse writes.
    """

    async def head(self, conversation_id: str) -> Head:
        """See EventStore. Read from the files each time."""
        await self._read_anew(conversation_id)
        return await super().head(conversation_id)

    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """See EventStore. Events that are not where they were have moved, or are damaged."""
        log = self._logs.get(conversation_id)
        for _ in range(READ_TRIES):
            known = await self._read_state(log)
            try:
                return await super().read(conversation_id, start_id, end_id)
            except DamagedRecord:
                found = await self._read_anew(conversation_id)
                if found.sealed == known.sealed and not found.head.deleted:
                    raise
        raise changing(conversation_id)

    async def _read_anew(self, conversation_id: str) -> LogState:
        log = self._logs.get(conversation_id)
        async with log.lock:
            log.state = None
            return await self._state(log)

    async def _state(self, log: KnownLog) -> LogState:
        if log.state is not None:
            return log.state
        for _ in range(READ_TRIES):
            state = await super()._state(log)
            # What was moved into a page between the looks at the head and at the tail is in neither.
            if await self._sealed_by_now(log.id) == state.sealed:
                return state
            log.state = None
        raise changing(log.id)

    async def _sealed_by_now(self, conversation_id: str) -> int:
        try:
            return (await self._reader.kept_head(conversation_id)).sealed
        except StorageError as error:
            raise StoreUnavailable(str(error)) from error
