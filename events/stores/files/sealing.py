"""Turns the oldest part of a log's tail into a page: fewer files, and keys out of memory."""

from collections.abc import Mapping, Sequence

from events.errors import DamagedRecord
from events.event import StoredEvent
from events.pages import PageCache
from events.stores.files.format import (
    FrameKind,
    LogHead,
    build_table,
    encode_events,
    encode_frame,
    encode_head,
    find_in,
    read_frames,
    rows_of,
    seed_of,
)
from events.stores.files.state import LogFiles, LogState, page_name
from storage.errors import Damaged, KeyNotFound
from storage.keys import log_part

PAGES_AT_ONCE = 16
TABLE_PAGES = 64
"""Pages whose keys share a table; part of the format. It bounds what sealing a page rewrites."""


class KeyTables:
    """The idempotency keys of sealed events, a table for every 64 pages."""

    def __init__(self, logs: LogFiles, cache_bytes: int) -> None:
        self._logs = logs
        self._cache: PageCache[str, bytes] = PageCache(cache_bytes)

    async def find(self, conversation_id: str, digest: bytes, state: LogState) -> int | None:
        """Return the id of the sealed event with that key. Raises DamagedRecord, StorageError."""
        size = TABLE_PAGES * state.head.page_events
        for number in reversed(range(-(-state.sealed // size))):
            found = find_in(await self._table(conversation_id, number, size), digest)
            if found is not None:
                return found
        return None

    async def add(
        self,
        conversation_id: str,
        keys: Mapping[bytes, int],
        sealed: int,
        end_id: int,
        page_events: int,
    ) -> None:
        """Keep the keys of events from `sealed` up to `end_id` that are being sealed.

        Every table that sealed pages belong to is there, so that a lost one is seen. Raises
        DamagedRecord, StorageError.
        """
        size = TABLE_PAGES * page_events
        for number in range(sealed // size, (end_id - 1) // size + 1):
            added = {digest: one for digest, one in keys.items() if one // size == number}
            is_new = sealed <= number * size
            if not (added or is_new):
                continue
            known = b"" if is_new else await self._table(conversation_id, number, size)
            table = build_table(dict(rows_of(known)) | added)
            frame = encode_frame(seed_of(conversation_id), FrameKind.KEYS, number, table)
            key = _table_key(conversation_id, number)
            await self._logs.files.write(key, frame)
            self._cache.put(key, table, len(table))

    async def mend(self, conversation_id: str, keys: Mapping[bytes, int], state: LogState) -> None:
        """Put keys of sealed events into their tables; one that cannot be read begins empty.

        Raises StorageError.
        """
        size = TABLE_PAGES * state.head.page_events
        for number in range(-(-state.sealed // size)):
            added = {digest: one for digest, one in keys.items() if one // size == number}
            try:
                known: bytes | None = await self._table(conversation_id, number, size)
            except DamagedRecord:
                known = None
            if known is not None and not added:
                continue
            table = build_table(dict(rows_of(known or b"")) | added)
            key = _table_key(conversation_id, number)
            frame = encode_frame(seed_of(conversation_id), FrameKind.KEYS, number, table)
            await self._logs.files.write(key, frame)
            self._cache.put(key, table, len(table))

    async def _table(self, conversation_id: str, number: int, table_events: int) -> bytes:
        key = _table_key(conversation_id, number)
        table = self._cache.get(key)
        if table is None:
            table = await self._read(conversation_id, number, table_events)
            self._cache.put(key, table, len(table))
        return table

    async def _read(self, conversation_id: str, number: int, table_events: int) -> bytes:
        try:
            content = await self._logs.files.read(_table_key(conversation_id, number))
        except (Damaged, KeyNotFound):
            content = b""
        frame = next(read_frames(seed_of(conversation_id), content), None)
        if frame is None or frame.body is None:
            first = number * table_events
            raise DamagedRecord(conversation_id, first, first + table_events - 1)
        return frame.body


async def seal_pages(
    conversation_id: str, state: LogState, logs: LogFiles, tables: KeyTables
) -> None:
    """Seal the next pages of a log whose tail holds at least one, several together.

    They count once the head says so, which is after their keys are kept. Cut short anywhere, it
    is done anew. Raises DamagedRecord (then the tail stays as it is), StorageError.
    """
    if state.lost_keys is not None:
        raise DamagedRecord(conversation_id, *state.lost_keys)
    size, begin = state.head.page_events, state.sealed
    end = begin + min((state.head.next_id - begin) // size, PAGES_AT_ONCE) * size
    events = await logs.events(conversation_id, state, begin, end)
    keys = {digest: event_id for digest, event_id in state.keys.items() if event_id < end}
    await write_pages(conversation_id, state.head, state, events, keys, logs, tables)
    for digest in keys:
        del state.keys[digest]
    obsolete = state.obsolete()
    state.segments = state.segments[len(obsolete) :]
    state.leftovers += obsolete
    await logs.drop_segments(conversation_id, state.leftovers)
    state.leftovers = []


async def write_pages(
    conversation_id: str,
    head: LogHead,
    state: LogState,
    events: Sequence[StoredEvent],
    keys: Mapping[bytes, int],
    logs: LogFiles,
    tables: KeyTables,
) -> None:
    """Write events behind the sealed ones as whole pages, then the head that makes them count.

    `head` is that of the log with these events. Raises DamagedRecord, StorageError.
    """
    seed, size, begin = seed_of(conversation_id), head.page_events, state.sealed
    end = begin + len(events)
    await tables.add(conversation_id, keys, state.sealed, end, size)
    await logs.files.write_all(
        {
            log_part(conversation_id, "pages", page_name((begin + first) // size)): encode_events(
                seed, events[first : first + size]
            )
            for first in range(0, len(events), size)
        }
    )
    content = encode_head(seed, head._replace(sealed=end))
    await logs.files.write(log_part(conversation_id, "head"), content)
    state.sealed = end


def _table_key(conversation_id: str, number: int) -> str:
    return log_part(conversation_id, "keys", page_name(number))
