"""Reads every log of a database, without changing anything."""

import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from events.errors import DamagedRecord
from events.event import STATE, StoredEvent
from events.stores.base import aside_problem
from events.stores.database.append import FORMAT_VERSION, KEY_BITS, aside_checksum
from events.verification import KEYS_MISSING, LogFold, differs, ranges_of
from storage.conversations.check import shortened
from storage.conversations.metadata import FOLDED_FIELDS
from storage.database.base import Row
from storage.database.migrate import is_current
from storage.database.reading import SQLITE_ERRORS, reading
from storage.errors import BadKey, StorageError
from storage.inventory import Track, untracked
from storage.keys import check_conversation_id
from storage.unicode_text import fold_case

_LAST_ID = 2**KEY_BITS - 1
_EPOCH = re.compile("[0-9a-f]{16}")
_EVENTS = "SELECT key, version, flag, crc, body FROM {} WHERE typeof(key) = 'integer' ORDER BY key"
_WITHOUT_ID = "SELECT count(*) FROM arrivals WHERE typeof(key) <> 'integer'"
_FIND_KEY = "SELECT event_id FROM client_ids WHERE conversation = ? AND digest = ?"
_ASIDES = """
    SELECT conversation, conversation_id, name, crc, body
    FROM asides LEFT JOIN conversations ON number = conversation WHERE deleted_at IS NULL
"""
_HAS_ASIDES = "SELECT count(*) FROM sqlite_schema WHERE name = 'asides'"
_LOST_KEYS = """
    SELECT conversation_id, min(event_id), max(event_id)
    FROM client_ids JOIN conversations ON number = conversation
    WHERE deleted_at IS NULL AND event_id >= next_id GROUP BY number
"""


class _Log(NamedTuple):
    number: int
    conversation_id: str
    next_id: object
    last_state_id: object
    """Both are integers where the head is not damaged, or the latter is None."""
    recorded: Mapping[str, Any]
    """The folded fields; none where an older version kept others."""


class _Head(NamedTuple):
    """A row of `conversations` without its number; a damaged one holds values of any type."""

    conversation_id: Any
    next_id: Any
    last_state_id: Any
    epoch: Any
    fence: Any
    holder: Any
    masks: Any
    deleted_at: Any
    purged: Any
    recorded: Any
    created_at: Any
    title: Any
    folded_title: Any
    last_updated_at: Any
    last_message_at: Any
    accumulated_cost: Any
    prompt_tokens: Any
    completion_tokens: Any
    total_tokens: Any

    @property
    def deleted(self) -> bool:
        return self.deleted_at is not None

    def odd_columns(self) -> list[str]:
        """Return the columns whose values no version writes."""
        has_record = not self.deleted and self.created_at is not None
        folded = fold_case(self.title) if isinstance(self.title, str) else self.title
        state, holder = self.last_state_id, self.holder
        sound = {
            "conversation_id": _is_conversation_id(self.conversation_id),
            "next_id": _is_count(self.next_id),
            "last_state_id": state is None or _is_count(state),
            "epoch": isinstance(self.epoch, str) and _EPOCH.fullmatch(self.epoch) is not None,
            "fence": _is_count(self.fence) and (holder is None or self.fence > 0),
            "holder": holder is None or _is_count(holder),
            "masks": _is_count(self.masks),
            "deleted_at": not self.deleted or _is_moment(self.deleted_at),
            "purged": self.purged == 0 or (self.purged == 1 and self.deleted),
            "recorded": self.recorded == int(has_record),
            "folded_title": self.folded_title == folded,
        }
        return [name for name, is_sound in sound.items() if not is_sound]


def check_database_logs(path: Path, track: Track = untracked) -> list[str]:
    """Return the problems of the logs in a database, by ranges of ids.

    Blocks. A database that cannot be opened is reported by the check of the storage.
    """
    if not path.exists() or path.stat().st_size == 0:
        return []
    problems: list[str] = []
    try:
        with reading(path) as connection:
            connection.execute("BEGIN")  # heads and events of one moment, also beside a server
            problems += _problems(connection, track)
    except StorageError:
        return []
    except SQLITE_ERRORS as error:
        problems.append(f"the events in {path.name} cannot be read on: {error}")
    return shortened(problems)


def _problems(connection: sqlite3.Connection, track: Track) -> Iterator[str]:
    logs: dict[int, _Log] = {}
    deleted: set[int] = set()
    columns, unjudged = _columns_of(connection)
    for number, *rest in connection.execute(f"SELECT number, {columns} FROM conversations"):  # noqa: S608 - ours
        head = _Head(*rest)
        odd = [name for name in head.odd_columns() if name not in unjudged]
        if odd:
            yield f"the head of conversation {head.conversation_id} has a damaged {', '.join(odd)}"
        if head.deleted:
            deleted.add(number)
        else:
            recorded = {} if unjudged else {name: getattr(head, name) for name in FOLDED_FIELDS}
            logs[number] = _Log(number, *head[:3], recorded)
    total = sum(
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
        for table in ("events", "arrivals")
    )
    rows = merge(
        *(connection.execute(_EVENTS.format(table)) for table in ("events", "arrivals")),
        key=lambda row: row[0],
    )
    tracked = track(rows, "events", total)
    for number, found in groupby(tracked, key=lambda row: row[0] >> KEY_BITS):
        log = logs.pop(number, None)
        if log is not None:
            yield from _problems_of(log, found, connection)
        else:
            ids = [key & _LAST_ID for key, *_ in found]
            if number not in deleted:
                yield f"events {ids[0]}-{ids[-1]} belong to no conversation (number {number})"
    for log in logs.values():
        if isinstance(log.next_id, int) and log.next_id:
            yield f"{DamagedRecord(log.conversation_id, 0, log.next_id - 1)}: none is there"
    yield from _strays(connection)
    if connection.execute(_HAS_ASIDES).fetchone()[0]:  # an older version had none
        yield from _problems_of_asides(connection, track)


def _problems_of_asides(connection: sqlite3.Connection, track: Track) -> Iterator[str]:
    ((count,),) = connection.execute("SELECT count(*) FROM asides")
    rows = track(connection.execute(_ASIDES), "asides", count)
    is_old = not is_current(connection)  # the checksums of an older version name no conversation
    for number, conversation_id, name, crc, body in rows:
        if conversation_id is None:
            yield f"the aside {name} belongs to no conversation (number {number})"
            continue
        is_whole = isinstance(body, bytes) and (
            aside_checksum(str(conversation_id), str(name), body) == crc
            or (is_old and zlib.crc32(body) == crc)
        )
        problem = aside_problem(conversation_id, name, body if is_whole else None)
        if problem is not None:
            yield problem


def _strays(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield what belongs to no event, or to none of a log."""
    ((count,),) = connection.execute(_WITHOUT_ID)
    if count:
        yield f"{count} events have an id that is no number"
    for conversation_id, first_id, last_id in connection.execute(_LOST_KEYS):
        yield f"{DamagedRecord(conversation_id, first_id, last_id)}: keys of events beyond its end"


def _columns_of(connection: sqlite3.Connection) -> tuple[str, set[str]]:
    """Return the columns of a head, and those of which an older version made nothing or another form."""
    rows = connection.execute("SELECT name FROM pragma_table_info('conversations')")
    missing = {*_Head._fields} - {name for (name,) in rows}
    columns = ", ".join(f"NULL AS {one}" if one in missing else one for one in _Head._fields)
    return columns, missing | (set() if is_current(connection) else {"folded_title"})


class _Rows:
    """The events of a log as they were read, in order."""

    def __init__(self) -> None:
        self.whole = LogFold()
        self.damaged: list[tuple[int, int]] = []
        """Ranges, both ends included: a damaged id may lie far behind the one before."""
        self.twice: list[int] = []
        self.unfound: list[int] = []
        """Events whose keys are not in the index."""
        self.end = 0
        self.newest_state: int | None = None

    def add(self, log: _Log, row: Row, connection: sqlite3.Connection) -> None:
        """Take the next row."""
        key, version, flag, crc, body = row
        event_id = key & _LAST_ID
        if event_id < self.end:
            self.twice.append(event_id)
            return
        if event_id > self.end:
            self._add_damaged(self.end, event_id - 1)
        self.end = event_id + 1
        is_whole = isinstance(body, bytes) and zlib.crc32(body, event_id) == crc
        if version != FORMAT_VERSION or not is_whole:
            self._add_damaged(event_id, event_id)
        else:
            digest = self.whole.add(StoredEvent(event_id, flag, body))
            if digest is not None and _found(connection, log.number, digest) != event_id:
                self.unfound.append(event_id)
        if flag == STATE:
            self.newest_state = event_id

    def _add_damaged(self, first_id: int, last_id: int) -> None:
        if self.damaged and self.damaged[-1][1] == first_id - 1:
            first_id = self.damaged.pop()[0]
        self.damaged.append((first_id, last_id))

    def problems(self, log: _Log) -> Iterator[str]:
        """Yield what is damaged by ranges, and what differs from the fold of a log that is whole."""
        found = (
            (self.damaged, ""),
            (ranges_of(self.twice), ": ids given twice"),
            (ranges_of(self.whole.odd), ": not as a server writes them"),
            (ranges_of(self.unfound), f": {KEYS_MISSING}"),
        )
        for ranges, why in found:
            for first_id, last_id in ranges:
                yield f"{DamagedRecord(log.conversation_id, first_id, last_id)}{why}"
        is_known = not self.damaged and not self.twice
        differing = self.whole.differing(log.recorded) if is_known else ()
        if differing:
            yield differs(log.conversation_id, differing)


def _problems_of(log: _Log, rows: Iterable[Row], connection: sqlite3.Connection) -> Iterator[str]:
    events = _Rows()
    for row in rows:
        events.add(log, row, connection)
    yield from events.problems(log)
    newest_state, end = events.newest_state, events.end
    if isinstance(log.last_state_id, int | None) and log.last_state_id != newest_state:
        yield (
            f"the head of conversation {log.conversation_id} has a damaged last_state_id:"
            f" {log.last_state_id}, where its events have {newest_state}"
        )
    if isinstance(log.next_id, int) and end != log.next_id:
        ends = sorted((end, log.next_id))
        yield (
            f"{DamagedRecord(log.conversation_id, ends[0], ends[1] - 1)}: the head says it ends"
            f" before {log.next_id}, its events end before {end}"
        )


def _found(connection: sqlite3.Connection, number: int, digest: bytes) -> int | None:
    row = connection.execute(_FIND_KEY, (number, digest)).fetchone()
    return None if row is None else row[0]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_conversation_id(value: object) -> bool:
    try:
        return isinstance(value, str) and check_conversation_id(value) == value
    except BadKey:
        return False
