"""What the disk gives: raw SQLite at a group size, and one JSON file per event."""

import json
import sqlite3
import threading
import time
import uuid
from pathlib import Path

from benchmarks.payload import event_json

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


def files_under_lock(folder: Path, seconds: float) -> float:
    """Events a second: each encoded and written to a file of its own, without fsync."""
    folder = folder / uuid.uuid4().hex
    folder.mkdir(parents=True)
    lock = threading.Lock()
    count = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        with lock:
            path = folder / f"{count}.json"
            path.write_text(json.dumps(event_json(count)), encoding="utf-8")
            count += 1
    return count / (time.perf_counter() - began)
