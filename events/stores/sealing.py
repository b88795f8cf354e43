"""Turns the oldest part of a log's tail into a page: fewer files, and keys out of memory."""

from collections.abc import Mapping

from events.errors import DamagedRecord
from events.pages import PageCache
from events.stores.frames import (
    FrameKind,
    encode_events,
    encode_frame,
    encode_head,
    read_frames,
    seed_of,
)
from events.stores.key_table import build_table, find_in, rows_of
from events.stores.log_state import PAGE_EVENTS, LogFiles, LogState, page_name
from storage.errors import Damaged, KeyNotFound
from storage.locations import log_part

TABLE_PAGES = 64
"""Pages whose keys share a table; part of the format. It bounds what sealing a page rewrites."""
_TABLE_EVENTS = TABLE_PAGES * PAGE_EVENTS


class KeyTables:
    """The idempotency keys of sealed events, a table for every 64 pages."""

    def __init__(self, logs: LogFiles, cache_bytes: int) -> None:
        self._logs = logs
        self._cache: PageCache[str, bytes] = PageCache(cache_bytes)

    async def find(self, conversation_id: str, digest: bytes, sealed: int) -> int | None:
        """The id of the sealed event with that key. Raises DamagedRecord, StorageError."""
        for number in reversed(range(-(-sealed // _TABLE_EVENTS))):
            found = find_in(await self._table(conversation_id, number), digest)
            if found is not None:
                return found
        return None

    async def add(self, conversation_id: str, page: int, keys: Mapping[bytes, int]) -> None:
        """Keep the keys of a page. Raises DamagedRecord, StorageError."""
        number = page // TABLE_PAGES
        table = await self._table(conversation_id, number)
        table = build_table(dict(rows_of(table)) | dict(keys))
        frame = encode_frame(seed_of(conversation_id), FrameKind.KEYS, number, table)
        key = _table_key(conversation_id, number)
        await self._logs.files.write(key, frame)
        self._cache.put(key, table, len(table))

    async def _table(self, conversation_id: str, number: int) -> bytes:
        key = _table_key(conversation_id, number)
        table = self._cache.get(key)
        if table is None:
            table = await self._read(conversation_id, number)
            self._cache.put(key, table, len(table))
        return table

    async def _read(self, conversation_id: str, number: int) -> bytes:
        try:
            content = await self._logs.files.read(_table_key(conversation_id, number))
        except KeyNotFound:
            return b""
        except Damaged:
            content = b""
        frame = next(read_frames(seed_of(conversation_id), content), None)
        if frame is None or frame.body is None:
            first = number * _TABLE_EVENTS
            raise DamagedRecord(conversation_id, first, first + _TABLE_EVENTS - 1)
        return frame.body


async def seal_page(
    conversation_id: str, state: LogState, logs: LogFiles, tables: KeyTables
) -> None:
    """Seal the next page of a log whose tail holds at least that many events.

    The page counts once the head says so, which is after its keys are kept. Cut short anywhere,
    it is done anew. Raises DamagedRecord (then the tail stays as it is), StorageError.
    """
    seed = seed_of(conversation_id)
    page, end = state.sealed // PAGE_EVENTS, state.sealed + PAGE_EVENTS
    events = await logs.events(conversation_id, state, state.sealed, end)
    if state.lost_keys is not None:
        raise DamagedRecord(conversation_id, *state.lost_keys)
    keys = {digest: event_id for digest, event_id in state.keys.items() if event_id < end}
    if keys:
        await tables.add(conversation_id, page, keys)
    page_key = log_part(conversation_id, "pages", page_name(page))
    await logs.files.write(page_key, encode_events(seed, events))
    head = encode_head(seed, state.head._replace(sealed=end))
    await logs.files.write(log_part(conversation_id, "head"), head)
    state.sealed = end
    for digest in keys:
        del state.keys[digest]
    obsolete = state.obsolete()
    state.segments = state.segments[len(obsolete) :]
    state.leftovers += obsolete
    await logs.drop_segments(conversation_id, state.leftovers)
    state.leftovers = []


def _table_key(conversation_id: str, number: int) -> str:
    return log_part(conversation_id, "keys", page_name(number))
