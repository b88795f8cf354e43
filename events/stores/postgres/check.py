"""Reads every log of a PostgreSQL schema, without changing anything, beside a server or not."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from events.errors import DamagedRecord
from events.event import STATE, StoredEvent
from events.stores.base import aside_problem
from events.stores.postgres.append import DIGEST_BYTES, FORMAT_VERSION, checksum
from events.stores.postgres.pages import PAGE_VERSION, unpacked
from events.verification import KEYS_MISSING, LogFold, differs, ranges_of
from storage.config import PostgresStorage
from storage.conversations.check import NAMED, shortened
from storage.conversations.metadata import FOLDED_FIELDS
from storage.database.base import Row
from storage.database.postgres import number_of
from storage.database.postgres_reading import Reader, reading
from storage.errors import StorageError
from storage.inventory import Track, untracked

KEYS_ASKED = 500
"""Digests of keys that are looked up at a time."""


class _Log(NamedTuple):
    """A row of the query `check_heads`."""

    number: int
    conversation_id: str
    next_id: int
    last_state_id: int | None
    newest_id: int | None
    last_updated_at: str | None
    accumulated_cost: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    last_message_at: str | None

    @property
    def recorded(self) -> Mapping[str, object]:
        """The fields that are the fold of the log."""
        return {name: getattr(self, name) for name in FOLDED_FIELDS}


def check_postgres_logs(config: PostgresStorage, track: Track = untracked) -> list[str]:
    """Return the problems of the logs in a schema, by ranges of ids.

    Block. A server that cannot be reached is reported by the check of the storage.
    """
    try:
        with reading(config) as reader:
            return shortened([*_problems(reader, track)]) if reader.has_schema else []
    except StorageError:
        return []


def _problems(reader: Reader, track: Track) -> Iterator[str]:
    ((total, asides),) = reader.ask("check_log_totals")
    logs = (_Log(*row) for row in reader.pages("check_heads", (-1,)))
    rows = ((log, row) for log in logs for row in _events_of(reader, log))
    for log, found in groupby(track(rows, "events", total), key=lambda pair: pair[0]):
        problems = [*_problems_of(reader, log, (row for _, row in found if row is not None))]
        if problems and reader.ask("check_is_open", log.number):  # it was not deleted meanwhile
            yield from problems
    for kind, number, first_id, last_id in reader.ask("check_strays", NAMED):
        yield f"{kind} {first_id}-{last_id} belong to no event of a conversation (number {number})"
    for row in track(reader.pages("check_asides", (-1, "")), "asides", asides):
        number, name, conversation_id, crc, body = row
        if conversation_id is None:
            yield f"the aside {name} belongs to no conversation (number {number})"
            continue
        problem = aside_problem(conversation_id, name, body if zlib.crc32(body) == crc else None)
        if problem is not None:
            yield problem


class _Found(NamedTuple):
    """An event of a log as it was found; without `event` it is damaged."""

    id: int
    is_state: bool
    event: StoredEvent | None


def _events_of(reader: Reader, log: _Log) -> Iterator[_Found | None]:
    """Yield the events below the log's end, and None at last, so that none is a log as well."""
    end_id = 0
    for row in reader.pages("check_events", (-1,), log.number):
        _, first_id, *_ = row
        if first_id >= log.next_id:  # appended since the head was read
            break
        for found in _events_in(row):
            # Events that were read as rows may have been sealed since, with some that were not.
            if end_id <= found.id < log.next_id:
                end_id = found.id + 1
                yield found
    yield None


def _events_in(row: Row) -> Iterator[_Found]:
    _, event_id, version, flag, crc, body = row
    if version == PAGE_VERSION and flag > 0:
        for found_id, event in enumerate(unpacked(event_id, flag, body), event_id):
            yield _Found(found_id, event is not None and event.flag == STATE, event)
        return
    is_sound = version == FORMAT_VERSION and checksum(event_id, body) == crc
    yield _Found(event_id, flag == STATE, StoredEvent(event_id, flag, body) if is_sound else None)


def _problems_of(reader: Reader, log: _Log, rows: Iterable[_Found]) -> Iterator[str]:
    name = log.conversation_id
    if number_of(name) != log.number:
        yield f"the head of conversation {name} has a damaged number: {log.number}"
    events = _Rows(reader, log.number)
    for row in rows:
        events.add(row)
    events.look_up()
    found = (
        (events.damaged, ""),
        (events.whole.odd, ": not as a server writes them"),
        (events.unfound, f": {KEYS_MISSING}"),
    )
    for ids, why in found:
        for first_id, last_id in ranges_of(ids):
            yield f"{DamagedRecord(name, first_id, last_id)}{why}"
    if log.last_state_id != events.newest_state and log.last_state_id not in events.damaged:
        yield (
            f"the head of conversation {name} has a damaged last_state_id:"
            f" {log.last_state_id}, where its events have {events.newest_state}"
        )
    end = max(events.end, 0 if log.newest_id is None else log.newest_id + 1)
    differing = [] if events.damaged else events.whole.differing(log.recorded)
    if end != log.next_id:
        ends = sorted((end, log.next_id))
        yield (
            f"{DamagedRecord(name, ends[0], ends[1] - 1)}: the head says it ends"
            f" before {log.next_id}, its events end before {end}"
        )
    elif differing:
        yield differs(name, differing)


class _Rows:
    """The events of a log as they were read, in order."""

    def __init__(self, reader: Reader, number: int) -> None:
        self.whole = LogFold()
        self.damaged: list[int] = []
        self.unfound: list[int] = []
        """Events whose keys are not in the index."""
        self.end = 0
        self.newest_state: int | None = None
        self._reader = reader
        self._number = number
        self._keys: dict[bytes, int] = {}

    def add(self, found: _Found) -> None:
        """Take the next event."""
        event_id, is_state, event = found
        self.damaged += range(self.end, event_id)
        self.end = event_id + 1
        if is_state:
            self.newest_state = event_id
        if event is None:
            self.damaged.append(event_id)
            return
        digest = self.whole.add(event)
        if digest is not None:
            self._keys[digest[:DIGEST_BYTES]] = event_id
        if len(self._keys) >= KEYS_ASKED:
            self.look_up()

    def look_up(self) -> None:
        """Look the keys up that were seen since the last time."""
        keys, self._keys = self._keys, {}
        if keys:
            found: dict[bytes, int] = dict(self._reader.ask("check_keys", self._number, [*keys]))
            self.unfound += (
                event_id for key, event_id in keys.items() if found.get(key) != event_id
            )
