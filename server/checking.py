"""The check of a whole storage, records and logs, and the bar that shows how far it has come."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from events.stores.database.check import check_database_logs
from events.stores.files.check import check_logs
from storage.checking import check_storage
from storage.config import LocalStorage, SqliteStorage, StorageConfig
from storage.keys import DATABASE_NAME, FILES_NAME
from storage.progress import T, Track, untracked


def storage_problems(storage: StorageConfig, track: Track = untracked) -> list[str]:
    """Return what is wrong with a storage, which is only read; nothing if there is none. Blocks."""
    problems = check_storage(storage, track)
    if isinstance(storage, LocalStorage):
        problems += check_logs(storage.data_dir / FILES_NAME, track)
    elif isinstance(storage, SqliteStorage):
        problems += check_database_logs(storage.data_dir / DATABASE_NAME, track)
    return problems


@contextmanager
def shown_progress() -> Iterator[Track]:
    """Give a `track` that draws a bar for each subject on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield untracked
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:

        def track(items: Iterable[T], subject: str, total: int, /) -> Iterable[T]:
            return progress.track(items, total=total, description=subject)

        yield track
