"""Deletes conversations by their age on a stopped server, or reads which are due."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple

from events.errors import EventsError
from events.transfer.progress import Progress
from server.app import pruning
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.errors import ServerError
from storage.errors import StorageLocked, Unavailable


class Pruned(NamedTuple):
    """The outcome in a line for people, and whether that is all there was to do."""

    line: str
    is_complete: bool


async def read_due(config: ServerConfig, progress: Progress, report: BinaryIO | None) -> list[str]:
    """Return lines that say by user what is past its age limit; delete nothing.

    A line of JSON for each conversation goes into `report`. Raises ConfigError, StorageError.
    """
    # What is only looked at needs no index of search.
    quiet = config.model_copy(update={"full_text_search": False})
    async with _translated(), pruning(quiet) as retention:
        survey = retention.new_survey()
        async with aclosing(retention.looked(measure=True)) as looked:
            async for one in progress(looked, "conversations", None):
                survey.add(one)
                if report is not None:
                    report.write(one.line())
    return survey.lines(datetime.now(UTC))


async def prune(config: ServerConfig, progress: Progress, *, clock_is_right: bool) -> Pruned:
    """Delete what is past its age limit and not in use. Raises ConfigError, StorageError."""
    deleted = failed = waiting = 0
    async with (
        _translated(),
        pruning(config) as retention,
        aclosing(retention.sweeps(clock_is_right=clock_is_right)) as sweeps,
    ):
        async for swept in progress(sweeps, "sweeps", None):
            if swept.held_until is not None:
                line = (
                    "nothing was deleted: the clock is more than a day ahead of what is stored."
                    " Set it right, or pass --clock-is-right"
                )
                return Pruned(line, is_complete=False)
            deleted, failed = deleted + swept.deleted, failed + swept.failed
            waiting = swept.waiting
    line = f"pruned: {deleted} deleted, {waiting} in use, {failed} failed"
    return Pruned(line, is_complete=not failed)


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Raise errors of the command line for those that storages in use, or away, give."""
    try:
        yield
    except StorageLocked as locked:
        raise ConfigError(
            f"{locked}: that server deletes by age itself, and GET /api/admin/retention says what is due"
        ) from locked
    except (EventsError, ServerError, TimeoutError) as error:
        raise Unavailable(str(error) or "the storage has not answered in time") from error
