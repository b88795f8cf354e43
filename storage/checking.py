"""Reads a storage without changing it and tells what is wrong with it."""

import sqlite3
from pathlib import Path

from storage.config import LocalStorage, MemoryStorage, StorageConfig
from storage.conversations.check import check_records
from storage.database.base import load_queries
from storage.database.sqlite import read_only_uri
from storage.errors import StorageError
from storage.locations import DATABASE_NAME, FILES_NAME, KEY_MARK
from storage.users.sealing_key import find_cipher


def check_storage(config: StorageConfig) -> list[str]:
    """What is wrong with a storage, read without changing it; nothing when it is new."""
    if isinstance(config, MemoryStorage):
        return []
    if isinstance(config, LocalStorage):
        problems = check_records(config.data_dir / FILES_NAME)
        path = config.data_dir / FILES_NAME / KEY_MARK
        marks = [path.read_text("utf-8", "replace").strip()] if path.exists() else []
    else:
        problems, marks = _check_database(config.data_dir / DATABASE_NAME)
    try:
        for marked in marks:
            find_cipher(marked, config.data_dir, config.secret_key)
    except StorageError as error:
        problems = [*problems, str(error)]
    return problems


def _check_database(path: Path) -> tuple[list[str], list[str]]:
    """What is wrong with a database, and which key seals its secrets, if any does."""
    if not path.exists():
        return [], []
    try:
        connection = sqlite3.connect(read_only_uri(path), uri=True)
        try:
            rows = connection.execute("PRAGMA quick_check(10)").fetchall()
            # An older database has no place for the mark.
            tables = "SELECT name FROM sqlite_master WHERE name = 'key_mark'"
            query = load_queries()["read_key_mark"]
            has_place = connection.execute(tables).fetchone() is not None
            marks = [row[0] for row in connection.execute(query)] if has_place else []
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [f"{path.name} cannot be read: {error}"], []
    damaged = [] if rows == [("ok",)] else [f"{path.name} is damaged: {row[0]}" for row in rows]
    return damaged, marks
