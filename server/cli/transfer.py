"""Commands on whole storages, which need no server: what they read and write, and what they print."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from events.search.opening import make_anew
from events.transfer.contents import open_stores
from events.transfer.copying import Copy
from events.transfer.progress import Progress
from events.transfer.repair import repair
from events.transfer.report import Outcome, Report
from events.transfer.v0.conversion import ZoneNeeded
from events.transfer.v0.importing import Import
from server.cli.progress import shown_async_progress
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from storage.backends import backend_of
from storage.backends.base import Backend
from storage.sealing.key import KEY_NAME, hand_over_key

EXIT_INCOMPLETE = 1


def reindex_storage(config: ServerConfig) -> None:
    """Make the index of full-text search anew, and print how much is in it.

    Raises ConfigError where the settings name none, StorageError.
    """
    folder = config.index_dir
    if folder is None or config.conversation_store_class is not None:
        raise ConfigError(
            "search_dir: no index of full-text search is kept with these settings"
            " (full_text_search, storage, conversation_store_class)"
        )

    async def run(progress: Progress) -> int:
        async with open_stores(config.storage) as stores, AsyncExitStack() as stack:
            total = (await stores.storage.inventory.take()).conversations
            walk = make_anew(folder, stores.events, stores.storage.conversations, stack)
            return len([one async for one in progress(walk, "conversations", total)])

    print(f"reindex: {_run(run)} conversations")


def repair_storage(config: ServerConfig) -> None:
    """Make anew what is derived from the logs, and print what that was. Raises StorageError."""

    async def run(progress: Progress) -> list[str]:
        async with open_stores(config.storage) as stores:
            return await repair(stores, progress)

    backend = backend_of(config.storage)
    if backend.path is not None and not backend.path.exists():
        return  # a repair of nothing makes nothing
    for line in _run(run):
        print(f"repair: {line}")


def storage_of(kind: str, folder: Path | None, settings: Path | None) -> ServerConfig:
    """Return the settings with another storage. Raises ConfigError.

    A directory that has a key file is opened with that, whatever key the settings name.
    """
    if kind == "memory":
        raise ConfigError("storage: memory holds nothing beyond its process")
    overrides: dict[str, Any] = {"storage_kind": kind, "data_dir": folder}
    config = ServerConfig.load(overrides, toml_path=settings)
    place = backend_of(config.storage).data_dir
    if place is not None and (place / KEY_NAME).exists():
        config = config.model_copy(update={"secret_key": None})
    return config


def copy_storage(source: ServerConfig, target: ServerConfig, report: Path | None) -> int:
    """Copy a storage into another; return the exit code. Raises ConfigError, StorageError."""
    origin, goal = backend_of(source.storage), backend_of(target.storage)
    if origin.data_dir is not None and goal.data_dir is not None:
        if origin.data_dir.absolute() == goal.data_dir.absolute():
            raise ConfigError("--to-dir: a storage is copied into another directory than its own")
        if target.secret_key is None:
            hand_over_key(origin.data_dir, goal.data_dir)
    _check_source(origin)

    async def run(progress: Progress) -> Report:
        async with open_stores(source.storage) as old, open_stores(target.storage) as new:
            copy = Copy(old, new)
            await _told(copy.outcomes(progress), report)
            return copy.report

    return _print(_run(run))


def import_v0(
    config: ServerConfig, root: Path, zone: str | None, report: Path | None, *, dry_run: bool
) -> int:
    """Import a V0 directory; return the exit code. Raises ConfigError, StorageError, OSError."""
    if not root.is_dir():
        raise ConfigError(f"--from: {root} is no directory")
    if config.storage_kind == "memory" and not dry_run:
        raise ConfigError("storage: memory holds nothing beyond its process")

    async def run(progress: Progress) -> Report:
        async with AsyncExitStack() as stack:
            stores = None
            if not dry_run:
                stores = await stack.enter_async_context(open_stores(config.storage))
            work = Import(root, stores, zone_of(zone))
            await _told(work.outcomes(progress), report)
            return work.report

    try:
        return _print(_run(run))
    except ZoneNeeded as error:
        raise ConfigError(f"{root}: {error}") from None


def zone_of(name: str | None) -> ZoneInfo | None:
    """Return the time zone of a name. Raises ConfigError."""
    try:
        return None if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"--zone: no time zone is named {name}, as Europe/Berlin is") from None


def _check_source(origin: Backend) -> None:
    """Raise ConfigError where there is nothing, which opening would make."""
    if origin.path is not None and not origin.path.exists():
        raise ConfigError(f"--from: {origin.describe()}")
    origin.check_directory()


async def _told(outcomes: AsyncIterator[Outcome], report: Path | None) -> None:
    """Print what is to be said of conversations, and write a line of JSON for each into a file."""
    with ExitStack() as stack:
        file = None if report is None else stack.enter_context(report.open("wb"))
        async for outcome in outcomes:
            if file is not None:
                file.write(outcome.line())
            if outcome.notes or not outcome.is_complete:
                told = "; ".join(outcome.notes)
                print(f"{outcome.conversation_id}: {outcome.result}: {told}", file=sys.stderr)


def _print(report: Report) -> int:
    for line in report.lines():
        print(line)
    return 0 if report.is_complete else EXIT_INCOMPLETE


def _run(work: Callable[[Progress], Coroutine[Any, Any, Any]]) -> Any:
    with shown_async_progress() as progress:
        return asyncio.run(work(progress))
