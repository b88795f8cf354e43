"""Reads every log of a PostgreSQL schema, without changing anything, beside a server or not."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from events.errors import DamagedRecord
from events.event import STATE
from events.stores.postgres.append import FORMAT_VERSION, checksum, number_of
from storage.config import PostgresStorage
from storage.conversations.check import NAMED, shortened
from storage.database.base import Row
from storage.database.postgres_reading import Reader, reading
from storage.errors import StorageError
from storage.inventory import Track, untracked


class _Log(NamedTuple):
    """A row of the query `check_heads`."""

    number: int
    conversation_id: str
    next_id: int
    last_state_id: int | None
    newest_id: int | None


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
    ((total,),) = reader.ask("check_log_totals")
    logs = (_Log(*row) for row in reader.pages("check_heads", (-1,)))
    rows = ((log, row) for log in logs for row in _events_of(reader, log))
    for log, found in groupby(track(rows, "events", total), key=lambda pair: pair[0]):
        problems = [*_problems_of(log, (row for _, row in found if row is not None))]
        if problems and reader.ask("check_is_open", log.number):  # it was not deleted meanwhile
            yield from problems
    for kind, number, first_id, last_id in reader.ask("check_strays", NAMED):
        yield f"{kind} {first_id}-{last_id} belong to no event of a conversation (number {number})"


def _events_of(reader: Reader, log: _Log) -> Iterator[Row | None]:
    """Yield the rows below the log's end, and None at last, so that none is a log as well."""
    for row in reader.pages("check_events", (-1,), log.number):
        if row[0] >= log.next_id:
            break
        yield row
    yield None


def _problems_of(log: _Log, rows: Iterable[Row]) -> Iterator[str]:
    name = log.conversation_id
    if number_of(name) != log.number:
        yield f"the head of conversation {name} has a damaged number: {log.number}"
    damaged: list[int] = []
    expected = 0
    newest_state: int | None = None
    for event_id, version, flag, crc, body in rows:
        damaged += range(expected, event_id)
        expected = event_id + 1
        if version != FORMAT_VERSION or checksum(event_id, body) != crc:
            damaged.append(event_id)
        if flag == STATE:
            newest_state = event_id
    for first_id, last_id in _runs(damaged):
        yield str(DamagedRecord(name, first_id, last_id))
    if log.last_state_id != newest_state:
        yield (
            f"the head of conversation {name} has a damaged last_state_id:"
            f" {log.last_state_id}, where its events have {newest_state}"
        )
    end = max(expected, 0 if log.newest_id is None else log.newest_id + 1)
    if end != log.next_id:
        ends = sorted((end, log.next_id))
        yield (
            f"{DamagedRecord(name, ends[0], ends[1] - 1)}: the head says it ends"
            f" before {log.next_id}, its events end before {end}"
        )


def _runs(ids: list[int]) -> Iterator[tuple[int, int]]:
    """Join ascending ids to ranges."""
    for _, group in groupby(enumerate(ids), key=_distance):
        run = [event_id for _, event_id in group]
        yield run[0], run[-1]


def _distance(pair: tuple[int, Any]) -> int:
    return int(pair[1]) - pair[0]
