"""The event store over a FileStore: creating the file named by its first id decides an append."""

import asyncio
import logging
from asyncio import Lock, Task
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from weakref import WeakValueDictionary

from events.errors import (
    AppendConflict,
    AppendFailed,
    AppendUnknown,
    ConversationDeleted,
    DamagedHead,
    DamagedRecord,
    DuplicateClientId,
    EventsError,
    Fenced,
    MasksChanged,
    StoreUnavailable,
)
from events.event import StoredEvent
from events.fence import Fence
from events.pages import PageCache
from events.stores.base import (
    MEMORY,
    NO_KEYS,
    PARTIALS,
    Aside,
    EventStore,
    Form,
    Formed,
    Head,
    Range,
    append_at_end,
    not_written,
)
from events.stores.files.format import (
    ASIDE_KIND,
    ASIDES,
    EMPTY,
    advanced_head,
    encode_head,
    encode_segment,
    folded_values,
    lacks_end,
    seed_of,
)
from events.stores.files.sealing import KeyTables, seal_pages, write_pages
from events.stores.files.state import LogFiles, LogState, changing
from events.summary import SummaryChange
from storage.conversations.folded import FoldedRecords
from storage.counters import Counters
from storage.errors import (
    ConversationDeleted as RecordDeleted,
    ConversationNotFound,
    Damaged,
    KeyExists,
    KeyNotFound,
    OutcomeUnknown,
    StorageError,
    Unavailable,
)
from storage.files.base import FileStore
from storage.files.format import checked_body, with_checksum
from storage.keys import WORKSPACE, log_part, segment_key
from storage.reserve import making_room

logger = logging.getLogger(__name__)


class KnownLog:
    """One log; `state` is None when it must be read.

    Appends and deletions hold the lock. `sealing` is the task that seals pages, which needs none;
    after a failure the next one waits until the log has reached `seal_at`.
    """

    __slots__ = ("__weakref__", "id", "lock", "seal_at", "sealing", "state")

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self.lock = Lock()
        self.state: LogState | None = None
        self.sealing: Task[None] | None = None
        self.seal_at = 0


class KnownLogs:
    """Caches the last `limit` logs, and every log in use."""

    def __init__(self, limit: int) -> None:
        self._held: WeakValueDictionary[str, KnownLog] = WeakValueDictionary()
        self._recent: PageCache[str, KnownLog] = PageCache(limit)

    def get(self, conversation_id: str) -> KnownLog:
        """Return the one object of that log."""
        log = self._recent.get(conversation_id) or self._held.get(conversation_id)
        if log is None:
            log = self._held[conversation_id] = KnownLog(conversation_id)
        self._recent.put(conversation_id, log, 1)
        return log


KNOWN_LOGS = 5_000
"""Logs whose state is cached; others are read again when used."""
SEGMENT_CACHE_BYTES = 16 * 1024 * 1024
TABLE_CACHE_BYTES = 16 * 1024 * 1024
SEALING_LIMIT = 2
"""Logs whose pages are sealed at the same time."""
REPAIR_LIMIT = 8
READ_TRIES = 5
PAGE_EVENTS = 100
"""Events of a sealed page. A log keeps the size it began with."""


class FileEventStore(EventStore):
    """A folder per log: `tail/` with a file per batch, `pages/`, `keys/` and `head`.

    Used by one process at a time. `repair` comes before the first append, `close` after the last.
    """

    folds_metadata = True

    def __init__(
        self, files: FileStore, records: FoldedRecords, *, page_events: int = PAGE_EVENTS
    ) -> None:
        self.counters = Counters()
        self._files = files
        self._page_events = self.many = page_events
        self._records = records
        self._reader = LogFiles(files, SEGMENT_CACHE_BYTES)
        self._tables = KeyTables(self._reader, TABLE_CACHE_BYTES)
        self._logs = KnownLogs(KNOWN_LOGS)
        self._sealing_slots = asyncio.Semaphore(SEALING_LIMIT)
        self._sealings: set[Task[None]] = set()
        self._closed = False

    async def append(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,
        keys: Mapping[int, bytes] = NO_KEYS,
        fence: Fence | None = None,
        masks: int | None = None,
    ) -> None:
        """See EventStore."""
        log = self._logs.get(conversation_id)
        async with log.lock:
            formed = Formed(events, summary, keys, fence, masks)
            await self._append(log, expected_next_id, formed)

    async def append_many(
        self,
        conversation_id: str,
        expected_next_id: int,
        events: Sequence[StoredEvent],
        *,
        summary: SummaryChange,
        keys: Mapping[int, bytes] = NO_KEYS,
    ) -> None:
        """See EventStore. Whole pages behind a log of whole pages are written as pages at once."""
        log = self._logs.get(conversation_id)
        formed = Formed(events, summary, keys)
        async with log.lock:
            state = await self._state(log)
            size = state.head.page_events or self._page_events
            if state.sealed < state.head.next_id or len(events) % size:
                await self._append(log, expected_next_id, formed)
            else:
                await self._append_pages(log, state, expected_next_id, formed)

    async def _append_pages(
        self, log: KnownLog, state: LogState, expected_next_id: int, formed: Formed
    ) -> None:
        """Append whole pages to a log whose lock is held and whose events are all in pages."""
        await self._check_append(log, state, expected_next_id, formed)
        events, fold = formed.events, folded_values(formed.summary)
        advanced = advanced_head(state.head, events, fold, None, None, self._page_events)
        digests = {digest: events[place].id for place, digest in formed.keys.items()}
        try:
            async with self._records.writing(log.id) as folded:
                log.state = None  # read anew, unless all of it is written
                with self.counters.commit():
                    await write_pages(
                        *(log.id, advanced, state, events, digests, self._reader, self._tables)
                    )
                state.head = advanced
                log.state = state
                folded(fold)
        except RecordDeleted as error:
            raise ConversationDeleted(log.id) from error
        except OutcomeUnknown as error:
            raise AppendUnknown(str(error)) from error
        except StorageError as error:
            raise not_written(error) from error

    async def append_next(self, conversation_id: str, form: Form) -> Head:
        """See EventStore. Whoever holds the log's lock is its only writer."""
        log = self._logs.get(conversation_id)
        async with log.lock:

            async def end() -> Head:
                return _head_of(await self._state(log))

            return await append_at_end(conversation_id, end, form, partial(self._append, log))

    async def _append(self, log: KnownLog, expected_next_id: int, formed: Formed) -> None:
        """Append to a log whose lock is held."""
        events, summary, keys, fence, masks = formed
        state = await self._state(log)
        await self._check_append(log, state, expected_next_id, formed)
        fold = folded_values(summary)
        advanced = advanced_head(state.head, events, fold, fence, masks, self._page_events)
        digests = {digest: events[place].id for place, digest in keys.items()}
        content = encode_segment(log.id, advanced, digests, events)
        try:
            async with self._records.writing(log.id) as folded:
                with self.counters.commit():
                    await self._create(log, expected_next_id, content)
                state.head = advanced
                state.keys |= digests
                state.segments.append(expected_next_id)
                folded(fold)
        except RecordDeleted as error:
            raise ConversationDeleted(log.id) from error
        except StorageError as error:
            raise not_written(error) from error
        if advanced.next_id >= max(state.sealed + advanced.page_events, log.seal_at):
            self._begin_sealing(log, state)

    async def _check_append(
        self, log: KnownLog, state: LogState, expected_next_id: int, formed: Formed
    ) -> None:
        """Raise what refuses an append."""
        head, fence, masks = state.head, formed.fence, formed.masks
        if head.deleted:
            raise ConversationDeleted(log.id)
        if head.next_id != expected_next_id:
            raise AppendConflict(f"next id is {head.next_id}, expected {expected_next_id}")
        if fence is not None and fence.is_stale(head.claim):
            raise Fenced(f"another holds the loop of {log.id}")
        if masks is not None and masks < head.masks:
            raise MasksChanged(head.masks)
        await self._check_keys(log, state, formed.keys)

    async def head(self, conversation_id: str) -> Head:
        """See EventStore."""
        return _head_of(await self._read_state(self._logs.get(conversation_id)))

    async def read(self, conversation_id: str, start_id: int, end_id: int) -> list[StoredEvent]:
        """See EventStore."""
        log = self._logs.get(conversation_id)
        for _ in range(READ_TRIES):
            state = await self._read_state(log)
            start, end = max(0, start_id), min(end_id, state.head.next_id)
            if end <= start or state.head.deleted:
                return []
            sealed = state.sealed
            try:
                return await self._reader.events(conversation_id, state, start, end)
            except DamagedRecord:
                if log.state is state and state.sealed == sealed and not state.head.deleted:
                    raise
            except StorageError as error:
                raise StoreUnavailable(str(error)) from error
        raise changing(conversation_id)

    async def read_many(self, ranges: Sequence[Range]) -> list[list[StoredEvent]]:
        """See EventStore. As many are read at a time as the files' threads allow."""
        async with asyncio.TaskGroup() as group:
            reads = [group.create_task(self._outcome(*one)) for one in ranges]
        outcomes = [one.result() for one in reads]
        for outcome in outcomes:
            if isinstance(outcome, EventsError):
                raise outcome
        return [one for one in outcomes if not isinstance(one, EventsError)]

    async def _outcome(
        self, conversation_id: str, start_id: int, end_id: int
    ) -> list[StoredEvent] | EventsError:
        try:
            return await self.read(conversation_id, start_id, end_id)
        except EventsError as error:
            return error

    async def find(self, conversation_id: str, key: bytes) -> int | None:
        """See EventStore."""
        state = await self._read_state(self._logs.get(conversation_id))
        if state.head.deleted:
            return None
        try:
            return await self._find(conversation_id, state, key)
        except StorageError as error:
            raise StoreUnavailable(str(error)) from error

    async def put_asides(self, asides: Sequence[Aside]) -> None:
        """See EventStore. A file each, replaced by rename."""
        by_log: dict[str, list[Aside]] = {}
        for aside in asides:
            by_log.setdefault(aside.conversation_id, []).append(aside)
        outcomes = await asyncio.gather(
            *(self._put_asides(self._logs.get(one), own) for one, own in by_log.items()),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _put_asides(self, log: KnownLog, asides: Sequence[Aside]) -> None:
        async with log.lock:  # a deletion waits, and drops them
            state = await self._state(log)
            if state.head.deleted or not state.head.next_id:
                return
            try:
                for _, name, body in asides:
                    key = log_part(log.id, ASIDES, name)
                    if body is None:
                        await self._files.delete(key)
                    else:
                        await self._files.write(key, with_checksum(ASIDE_KIND, body))
            except OutcomeUnknown as error:
                raise AppendUnknown(str(error)) from error
            except StorageError as error:
                raise not_written(error) from error

    async def asides(self, conversation_id: str) -> Mapping[str, bytes]:
        """See EventStore."""
        keys = [log_part(conversation_id, ASIDES, name) for name in (PARTIALS, MEMORY)]
        found: dict[str, bytes] = {}
        for key in keys:
            try:
                content = await self._files.read(key)
                found[key.rpartition("/")[2]] = checked_body(ASIDE_KIND, content, key)
            except KeyNotFound:
                continue
            except Damaged as error:
                ids = {"conversation_id": conversation_id}
                logger.error("an aside of %s is left out: %s", conversation_id, error, extra=ids)  # noqa: TRY400 - no fault
            except StorageError as error:
                raise StoreUnavailable(str(error)) from error
        return found

    @asynccontextmanager
    async def beside(self, conversation_id: str) -> AsyncIterator[None]:
        """Hold the end of a log while something is written beside it; a deletion waits.

        Raises ConversationNotFound where there is no log, ConversationDeleted, Unavailable, all of
        `storage.errors`.
        """
        log = self._logs.get(conversation_id)
        async with log.lock:
            try:
                head = (await self._state(log)).head
            except EventsError as error:
                raise Unavailable(str(error)) from error
            if head.deleted:
                raise RecordDeleted(conversation_id)
            if not head.next_id:
                raise ConversationNotFound(conversation_id)
            yield

    async def refold(self, conversation_id: str, next_id: int, summary: SummaryChange) -> None:
        """See EventStore. What the segments themselves say of it stays."""
        log = self._logs.get(conversation_id)
        async with log.lock:
            state = await self._state(log)
            if state.head.next_id != next_id or state.head.deleted:
                return
            try:
                await self._records.settle(conversation_id, folded_values(summary), deleted=False)
            except StorageError as error:
                raise not_written(error) from error

    async def index_keys(self, conversation_id: str, keys: Mapping[bytes, int]) -> None:
        """See EventStore. Keys of events that are not sealed stand in their segments only."""
        log = self._logs.get(conversation_id)
        async with log.lock:
            state = await self._state(log)
            sealed = {digest: one for digest, one in keys.items() if one < state.sealed}
            if state.head.deleted:
                return
            try:
                await self._tables.mend(conversation_id, sealed, state)
            except StorageError as error:
                raise not_written(error) from error

    async def delete(self, conversation_id: str) -> None:
        """See EventStore."""
        await making_room(
            self._files.reserve,
            partial(self._delete, self._logs.get(conversation_id)),
            (AppendFailed, AppendUnknown, StoreUnavailable),
        )

    async def _delete(self, log: KnownLog) -> None:
        async with log.lock:
            try:
                try:
                    async with self._records.writing(log.id):
                        await self._bury(log)
                except RecordDeleted:
                    await self._bury(log)
            except StorageError as error:
                raise not_written(error) from error

    async def repair(self) -> int:
        """Bring the records of conversations that a crash left unsettled to their logs' fold.

        Finishes deletions cut short too. Returns how many conversations were settled; one that
        cannot be read is logged and left for the next time.
        """
        unsettled = self._records.unsettled()
        slots = asyncio.Semaphore(REPAIR_LIMIT)

        async def settle(conversation_id: str) -> bool:
            async with slots:
                try:
                    await self._settle(conversation_id)
                except (EventsError, StorageError):
                    ids = {"conversation_id": conversation_id}
                    logger.exception("%s cannot be repaired", conversation_id, extra=ids)
                    return False
                return True

        return sum(await asyncio.gather(*map(settle, unsettled)))

    async def close(self) -> None:
        """Finish the pages that are being sealed; the FileStore stays open."""
        self._closed = True
        if self._sealings:
            await asyncio.wait(self._sealings)

    async def _read_state(self, log: KnownLog) -> LogState:
        if log.state is not None:
            return log.state
        async with log.lock:
            return await self._state(log)

    async def _state(self, log: KnownLog) -> LogState:
        """Return the log's state; called under its lock."""
        if log.state is None:
            if log.sealing is not None:
                await asyncio.wait([log.sealing])
            try:
                state, folded_until = await asyncio.gather(
                    self._reader.load(log.id), self._records.folded_until(log.id)
                )
                if lacks_end(state.head, folded_until):
                    # Where another process works on the files, the record may be the newer one.
                    state = await self._reader.load(log.id)
            except StorageError as error:
                raise StoreUnavailable(str(error)) from error
            if lacks_end(state.head, folded_until):
                next_id = state.head.next_id
                logger.error(
                    "the log of %s ends before %d, and its record knows a later event, of %s",
                    *(log.id, next_id, folded_until),
                    extra={"conversation_id": log.id},
                )
                raise DamagedHead(log.id, next_id, next_id)
            log.state = state
        return log.state

    async def _check_keys(self, log: KnownLog, state: LogState, keys: Mapping[int, bytes]) -> None:
        taken: dict[int, int] = {}
        for place, digest in keys.items():
            try:
                found = await self._find(log.id, state, digest)
            except StorageError as error:
                raise not_written(error) from error
            if found is not None:
                taken[place] = found
        if taken:
            raise DuplicateClientId(taken)

    async def _find(self, conversation_id: str, state: LogState, digest: bytes) -> int | None:
        if state.lost_keys is not None:
            raise DamagedRecord(conversation_id, *state.lost_keys)
        found = state.keys.get(digest)
        if found is not None or state.sealed == 0:
            return found
        return await self._tables.find(conversation_id, digest, state)

    async def _create(self, log: KnownLog, first_id: int, content: bytes) -> None:
        key = segment_key(log.id, first_id)
        try:
            await self._files.create(key, content)
        except KeyExists as error:
            log.state = None
            raise AppendConflict(f"{first_id} is taken") from error
        except OutcomeUnknown as error:
            log.state = None
            raise AppendUnknown(str(error)) from error
        except asyncio.CancelledError:
            log.state = None
            raise
        self._reader.segments.put(key, content, len(content))

    async def _bury(self, log: KnownLog) -> None:
        """Write the tombstone where the next event would go, then drop the rest."""
        while True:
            state = await self._state_to_bury(log)
            if state.head.deleted:
                break
            buried = state.head._replace(deleted=True, summary={})
            try:
                await self._create(log, buried.next_id, encode_head(seed_of(log.id), buried))
            except AppendConflict:  # an append that had timed out came through
                continue
            state.head = buried
            log.state = state
        await self._purge(log, state)

    async def _state_to_bury(self, log: KnownLog) -> LogState:
        if log.sealing is not None:
            await asyncio.wait([log.sealing])
        try:
            return await self._state(log)
        except DamagedRecord as damage:
            logger.warning("deleting a damaged log: %s", damage)
            tail = await self._reader.first_ids(log.id)
            return LogState(EMPTY._replace(next_id=tail[-1] + 1 if tail else 0))

    async def _purge(self, log: KnownLog, state: LogState) -> None:
        """Delete the files of a deleted log; after an interruption this is repeated at a restart."""
        tombstone = state.head.next_id
        for part in ("pages", "keys", ASIDES, WORKSPACE):
            await self._files.delete_tree(log_part(log.id, part))
        await self._files.delete(log_part(log.id, "head"))
        tail = await self._reader.first_ids(log.id)
        await self._reader.drop_segments(log.id, [first for first in tail if first != tombstone])
        log.state = LogState(state.head, segments=[tombstone])

    async def _settle(self, conversation_id: str) -> None:
        log = self._logs.get(conversation_id)
        async with log.lock:
            state = await self._state(log)
            if state.head.deleted:
                await self._purge(log, state)
            fold = state.head.summary if state.head.next_id else None
            await self._records.settle(conversation_id, fold, deleted=state.head.deleted)

    def _begin_sealing(self, log: KnownLog, state: LogState) -> None:
        if log.sealing is None and not self._closed:
            log.sealing = asyncio.get_running_loop().create_task(self._seal(log, state))
            self._sealings.add(log.sealing)
            log.sealing.add_done_callback(self._sealings.discard)

    async def _seal(self, log: KnownLog, state: LogState) -> None:
        try:
            async with self._sealing_slots:
                while (
                    log.state is state
                    and state.head.next_id >= state.sealed + state.head.page_events
                    and not (state.head.deleted or self._closed)
                ):
                    await seal_pages(log.id, state, self._reader, self._tables)
        except (EventsError, StorageError):
            # The tail is whole without it; the next try comes after another page.
            log.seal_at = state.head.next_id + state.head.page_events
            logger.exception("cannot seal a page of %s", log.id, extra={"conversation_id": log.id})
        finally:
            log.sealing = None


def _head_of(state: LogState) -> Head:
    head = state.head
    return Head(
        head.next_id,
        head.last_state_id,
        head.epoch,
        head.deleted,
        head.claim,
        head.last_timestamp,
        head.masks,
    )
