"""Reads a storage through without changing it, and says what is there and what is wrong with it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pydantic import ValidationError

from storage.audit.model import AuditRecord
from storage.config import LocalStorage, MemoryStorage, StorageConfig
from storage.conversations.check import check_records, content_of, shortened
from storage.conversations.database import record_problem
from storage.database.base import Row, load_queries
from storage.database.migrate import schema_problems
from storage.database.reading import reading
from storage.database.wal import read_wal, wal_of
from storage.directory import check_directory, lost_wal
from storage.errors import Damaged, StorageError
from storage.files.checked import checked_body
from storage.files.format import FORMAT, FORMAT_KEY, format_in
from storage.keys import DATABASE_NAME, FILES_NAME, KEY_MARK, RECORDS
from storage.progress import Track, untracked
from storage.usage.model import ConversationUsage
from storage.users.sealing_key import find_cipher

QUICKLY = 10
"""Problems inside SQLite's file that are named."""


def describe_storage(config: StorageConfig) -> str:
    """Return what of a storage is there in a few words, "ok" first if anything is."""
    if isinstance(config, MemoryStorage):
        return "ok, in memory only"
    name = FILES_NAME if isinstance(config, LocalStorage) else DATABASE_NAME
    path = config.data_dir / name
    if not path.exists():
        missing = f"no {name} in it" if config.data_dir.exists() else "it does not exist"
        return f"no data in {config.data_dir} yet: {missing}"
    if isinstance(config, LocalStorage):
        count = sum(1 for _ in (path / RECORDS).glob("*"))
        return f"ok, {count} conversations in {name}"
    return f"ok, {_counts_of(path)} in {name}"


def _counts_of(path: Path) -> str:
    query = "SELECT count(*), coalesce(sum(next_id), 0) FROM conversations WHERE deleted_at IS NULL"
    try:
        with reading(path) as connection:
            conversations, events = connection.execute(query).fetchone()
    except (StorageError, sqlite3.Error):
        return f"{path.stat().st_size} bytes"
    return f"{conversations} conversations, {events} events"


def check_storage(config: StorageConfig, track: Track = untracked) -> list[str]:
    """Return what is wrong with all of a storage but its logs; nothing when it is new. Blocks."""
    if isinstance(config, MemoryStorage):
        return []
    try:
        check_directory(config)
    except StorageError as error:
        return [str(error)]
    if isinstance(config, LocalStorage):
        root = config.data_dir / FILES_NAME
        problems = [*check_records(root, track), *_check_small_files(root, track)]
        note = root / FORMAT_KEY
        try:
            if note.exists() and format_in(content_of(note)) > FORMAT:
                problems.insert(0, f"{FILES_NAME} is from a newer version")
        except Damaged as damage:
            problems.insert(0, str(damage))
        path = root / KEY_MARK
        marks = [path.read_text("utf-8", "replace").strip()] if path.exists() else []
    else:
        problems, marks = _check_database(config.data_dir / DATABASE_NAME, track)
    try:
        for marked in marks:
            find_cipher(marked, config.data_dir, config.secret_key)
    except StorageError as error:
        problems = [*problems, str(error)]
    return problems


def _check_small_files(root: Path, track: Track) -> list[str]:
    """Read users' records, usage and audit of a folder of files."""
    found = [
        *((path.name, path) for path in sorted((root / "users").glob("*/*"))),
        *(("usage", path) for path in sorted((root / "usage").glob("*"))),
        *(("audit", path) for path in sorted((root / "audit").glob("*"))),
    ]
    problems = []
    for kind, path in track(found, "users, usage, audit", len(found)):
        key = str(path.relative_to(root))
        try:
            body = checked_body(kind, content_of(path), key)
            if kind == "usage":
                ConversationUsage.model_validate_json(body)
            elif kind == "audit":
                AuditRecord.model_validate_json(body)
        except Damaged as damage:
            problems.append(str(damage))
        except ValidationError:
            problems.append(f"{key} cannot be read")
    return shortened(problems)


def _check_database(path: Path, track: Track) -> tuple[list[str], list[str]]:
    """Return what is wrong with a database, and which key seals its secrets, if any does."""
    if not path.exists():
        return [], []
    problems = [found for found in (lost_wal(path), _wal_problem(path)) if found]
    if path.stat().st_size == 0 and read_wal(wal_of(path)).taken == 0:
        return [*problems, f"{path.name} is empty: 0 bytes, where a database should be"], []
    try:
        with reading(path) as connection:
            rows = connection.execute(f"PRAGMA integrity_check({QUICKLY})").fetchall()
            if rows != [("ok",)]:
                problems += [f"{path.name} is damaged: {row[0]}" for row in rows]
            problems += [f"{path.name}: {found}" for found in schema_problems(connection)]
            problems += shortened([*_check_rows(connection, track)])
            return problems, _marks_of(connection)
    except StorageError as error:
        return [*problems, str(error)], []
    except sqlite3.Error as error:
        return [*problems, f"{path.name} cannot be read: {error}"], []


def _wal_problem(path: Path) -> str | None:
    found = read_wal(wal_of(path))
    if found.problem() is None or read_wal(wal_of(path)) != found:  # a server is writing to it
        return None
    return found.problem()


def _check_rows(connection: sqlite3.Connection, track: Track) -> Iterator[str]:
    """Read what a database holds beside logs; a table that is missing is told by the schema."""
    checks = (
        ("records", load_queries()["all_records"], record_problem),
        ("users", "SELECT owner, kind, body FROM user_records", _user_record_problem),
        ("usage", "SELECT conversation_id, day, events FROM usage_lines", _usage_problem),
        ("audit", "SELECT id, body FROM audit", _audit_problem),
    )
    for subject, query, problem_of in checks:
        try:
            ((count,),) = connection.execute(f"SELECT count(*) FROM ({query})")  # noqa: S608 - ours
            with closing(connection.execute(query)) as rows:
                found = (problem_of(row) for row in track(rows, subject, count))
                yield from (problem for problem in found if problem is not None)
        except sqlite3.Error as error:
            if "no such table" not in str(error):
                yield f"{subject} cannot be read: {error}"


def _user_record_problem(row: Row) -> str | None:
    owner, kind, body = row
    try:
        # A damaged row may hold a value of any type.
        checked_body(kind, body if isinstance(body, bytes) else b"", f"{kind} of user {owner}")
    except Damaged as damage:
        return str(damage)
    return None


def _usage_problem(row: Row) -> str | None:
    conversation_id, day, events = row
    try:
        ConversationUsage.model_validate(
            {
                "conversation_id": conversation_id,
                "lines": [{"day": day, "model": "", "events": events}],
            }
        )
    except ValidationError:
        return f"the usage of conversation {conversation_id} cannot be read"
    return None


def _audit_problem(row: Row) -> str | None:
    number, body = row
    try:
        AuditRecord.model_validate_json(body)
    except ValidationError:
        return f"audit record {number} cannot be read"
    return None


def _marks_of(connection: sqlite3.Connection) -> list[str]:
    try:
        return [row[0] for row in connection.execute("SELECT key_id FROM key_mark")]
    except sqlite3.OperationalError:  # an older database has no place for the mark
        return []
