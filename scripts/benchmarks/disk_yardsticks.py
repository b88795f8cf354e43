"""Yardsticks of the disk: raw SQLite at a group size, and one JSON file per event."""

import dataclasses
import itertools
import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.payload import event_json, text

CONVERSATIONS = 200
LEAST_GROUPS = 20


def raw_sqlite(folder: Path, group: int, seconds: float) -> float:
    """Events a second: WAL, synchronous=FULL, `WITHOUT ROWID (conversation, id)`."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / f"{uuid.uuid4().hex}.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE events (conversation INTEGER, id INTEGER, body BLOB,"
        " PRIMARY KEY (conversation, id)) WITHOUT ROWID"
    )
    body = json.dumps(event_json(1000), separators=(",", ":")).encode()
    count = groups = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or groups < LEAST_GROUPS:
        rows = [
            ((count + n) % CONVERSATIONS, (count + n) // CONVERSATIONS, body) for n in range(group)
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
        count += group
        groups += 1
    rate = count / (time.perf_counter() - began)
    (stored,) = connection.execute("SELECT count(*) FROM events").fetchone()
    connection.close()
    if stored != count:
        raise ValueError(f"{stored} stored, {count} written")
    return rate


def bare_files(folder: Path, seconds: float) -> float:
    """Events a second: each encoded and written to a file of its own, without fsync."""

    def write(place: Path, number: int) -> None:
        place.write_text(json.dumps(event_json(number)), encoding="utf-8")

    return _under_lock(folder, seconds, write, 1)


def files_under_lock(folder: Path, seconds: float) -> float:
    """Events a second of a log that keeps a JSON file per event, as the ancestor's does.

    200 threads produce. Under a lock the event gets its id and time, becomes a dict, is masked, read back into an event
    and noted for its page of 25, which is a file, too; then its own file is written. No fsync.
    """
    page: list[dict[str, Any]] = []

    def write(place: Path, number: int) -> None:
        message = Message(content=text())
        message.id, message.timestamp = number, time.strftime("%Y-%m-%dT%H:%M:%S.000000")
        masked = _masked(_as_payload(message))
        Message(id=masked["id"], timestamp=masked["timestamp"], **masked["args"])
        page.append(masked)
        place.write_text(json.dumps(masked), encoding="utf-8")
        if len(page) == PAGE:
            name = f"page-{number - PAGE + 1}-{number + 1}.json"
            (place.parent / name).write_text(json.dumps(page), encoding="utf-8")
            page.clear()

    return _under_lock(folder, seconds, write, PRODUCERS)


PRODUCERS = 200
PAGE = 25
SECRET = "a secret of some twenty characters"  # noqa: S105 - nobody's


@dataclasses.dataclass
class Message:
    """An event as a plain dataclass."""

    content: str
    file_urls: list[str] | None = None
    image_urls: list[str] | None = None
    wait_for_response: bool = False
    security_risk: int = -1
    id: int = -1
    timestamp: str = ""
    source: str = "agent"


def _as_payload(message: Message) -> dict[str, Any]:
    fields = dataclasses.asdict(message)
    envelope = {name: fields.pop(name) for name in ("id", "timestamp", "source")}
    return envelope | {"message": message.content, "action": "message", "args": fields}


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    return value.replace(SECRET, "<secret_hidden>") if isinstance(value, str) else value


def _under_lock(
    folder: Path, seconds: float, write: Callable[[Path, int], None], producers: int
) -> float:
    folder = folder / uuid.uuid4().hex
    folder.mkdir(parents=True)
    lock = threading.Lock()
    numbers = itertools.count()
    began = time.perf_counter()

    def produce() -> None:
        while time.perf_counter() - began < seconds:
            with lock:
                number = next(numbers)
                write(folder / f"{number}.json", number)

    threads = [threading.Thread(target=produce) for _ in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return next(numbers) / (time.perf_counter() - began)
