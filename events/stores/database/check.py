"""Reads every log of a database, without changing anything."""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from events.errors import DamagedRecord
from events.stores.database.append import FORMAT_VERSION, KEY_BITS
from storage.conversations.check import shortened
from storage.database.base import Row
from storage.database.reading import reading
from storage.errors import StorageError
from storage.inventory import Track, untracked

_LAST_ID = 2**KEY_BITS - 1
_HEADS = """
    SELECT number, conversation_id, next_id, last_state_id
    FROM conversations WHERE deleted_at IS NULL
"""
_DELETED = "SELECT number FROM conversations WHERE deleted_at IS NOT NULL"
_EVENTS = "SELECT key, version, crc, body FROM {} ORDER BY key"
_LOST_KEYS = """
    SELECT conversation_id, min(event_id), max(event_id)
    FROM client_ids JOIN conversations ON number = conversation
    WHERE deleted_at IS NULL AND event_id >= next_id GROUP BY number
"""


class _Log(NamedTuple):
    conversation_id: str
    next_id: object
    last_state_id: object
    """Both are integers where the head is not damaged."""


def check_database_logs(path: Path, track: Track = untracked) -> list[str]:
    """Return what is wrong with the logs in a database, by ranges of ids. Blocks.

    A database that cannot be opened is told by the check of the storage.
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
    except sqlite3.Error as error:
        problems.append(f"the events in {path.name} cannot be read on: {error}")
    return shortened(problems)


def _problems(connection: sqlite3.Connection, track: Track) -> Iterator[str]:
    logs = {number: _Log(*rest) for number, *rest in connection.execute(_HEADS)}
    for head in logs.values():
        if not (isinstance(head.next_id, int) and isinstance(head.last_state_id, int | None)):
            yield f"the head of conversation {head.conversation_id} holds what is no id"
    deleted = {number for (number,) in connection.execute(_DELETED)}
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
            yield from _problems_of(log, found)
        else:
            ids = [key & _LAST_ID for key, *_ in found]
            if number not in deleted:
                yield f"events {ids[0]}-{ids[-1]} belong to no conversation (number {number})"
    for log in logs.values():
        if isinstance(log.next_id, int) and log.next_id:
            yield f"{DamagedRecord(log.conversation_id, 0, log.next_id - 1)}: none is there"
    for conversation_id, first_id, last_id in connection.execute(_LOST_KEYS):
        yield f"{DamagedRecord(conversation_id, first_id, last_id)}: keys of events beyond its end"


def _problems_of(log: _Log, rows: Iterable[Row]) -> Iterator[str]:
    damaged: list[int] = []
    twice: list[int] = []
    expected = 0
    for key, version, crc, body in rows:
        event_id = key & _LAST_ID
        if event_id < expected:
            twice.append(event_id)
            continue
        damaged += range(expected, event_id)
        expected = event_id + 1
        is_whole = isinstance(body, bytes) and zlib.crc32(body, event_id) == crc
        if version != FORMAT_VERSION or not is_whole:
            damaged.append(event_id)
    for first_id, last_id in _runs(damaged):
        yield str(DamagedRecord(log.conversation_id, first_id, last_id))
    for first_id, last_id in _runs(twice):
        yield f"{DamagedRecord(log.conversation_id, first_id, last_id)}: ids given twice"
    if isinstance(log.next_id, int) and expected != log.next_id:
        ends = sorted((expected, log.next_id))
        yield (
            f"{DamagedRecord(log.conversation_id, ends[0], ends[1] - 1)}: the head says it ends"
            f" before {log.next_id}, its events end before {expected}"
        )


def _runs(ids: list[int]) -> Iterator[tuple[int, int]]:
    """Join ascending ids to ranges."""
    for _, group in groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0]):
        run = [event_id for _, event_id in group]
        yield run[0], run[-1]
