"""Commands on whole storages, which need no server: what they read and write, and what they print."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from events.errors import EventsError
from events.search.opening import drop_index, index_in, make_anew
from events.transfer.backup import (
    Summary,
    archive_of,
    draft_of,
    export_of,
    keep_draft,
    verify,
    write_archive,
)
from events.transfer.contents import Stores, open_stores, open_to_read
from events.transfer.copying import Copy
from events.transfer.erasure import Erased, Erasure
from events.transfer.progress import Progress
from events.transfer.repair import repair
from events.transfer.report import Outcome, Report
from events.transfer.restore import Restore, key_of
from events.transfer.v0.conversion import ZoneNeeded
from events.transfer.v0.importing import Import
from server.cli.progress import shown_async_progress
from server.components import load_components
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.process.pruning import Pruned, prune, read_due
from storage.backends import backend_of
from storage.backends.base import Backend
from storage.errors import StorageLocked, Unavailable
from storage.sealing.key import (
    KEY_NAME,
    hand_over_key,
    keep_key_file,
    key_file_in,
    key_id_of,
)

EXIT_INCOMPLETE = 1
HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to connect to, not to listen on
"""The address at which a server answers that listens on all of its machine."""
CONNECT_SECONDS = 5.0
MAKE_SECONDS = 24 * 60 * 60.0
"""Seconds that a server may take to make a backup."""


def migrate_storage(config: ServerConfig, *, contract: bool) -> None:
    """Migrate the schema of a database, and print what was done. Raises MigrationError, Unavailable."""
    done = asyncio.run(backend_of(config.storage).migrate(contract=contract))
    for name in done.applied:
        print(f"migrate: {name}")
    for name in done.waiting:
        print(f"migrate: {name} waits for --contract")
    if not done.applied and not done.waiting:
        print("migrate: up to date")


def reindex_storage(config: ServerConfig) -> None:
    """Make the index of full-text search anew, and print how much is in it.

    Raises ConfigError where the settings name none, StorageError.
    """
    folder = config.index_dir
    in_storage = config.full_text_search and backend_of(config.storage).keeps_index
    if config.conversation_store_class is not None or not (folder or in_storage):
        raise ConfigError(
            "search_dir: no index of full-text search is kept with these settings"
            " (full_text_search, storage, conversation_store_class)"
        )

    async def run(progress: Progress) -> int:
        async with open_stores(config.storage) as stores, AsyncExitStack() as stack:
            total = (await stores.storage.inventory.take()).conversations
            open_index = await index_in(folder, stack) if folder else stores.storage.open_index
            if open_index is None:
                return 0
            index = await open_index()
            stack.push_async_callback(index.close)
            walk = make_anew(index, stores.events, stores.storage.conversations)
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
    _check_source(origin, "--from")

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


def back_up(config: ServerConfig, path: Path) -> int:
    """Write an archive of a storage; return the exit code. Raises ConfigError, StorageError, OSError."""
    _check_kept(config)
    folder = backend_of(config.storage).data_dir

    async def run(_: Progress) -> Summary:
        async with open_to_read(config.storage) as stores:
            key = None if folder is None else key_file_in(folder)
            parts = archive_of(stores, None if config.secret_key else key)
            return await write_archive(path, parts)

    try:
        return _print_archive(path, _run(run))
    except StorageLocked as locked:
        _have_made(config, path, locked)
    return show_archive(path)


def _have_made(config: ServerConfig, path: Path, locked: StorageLocked) -> None:
    """Have the server that works on the storage make the archive, and move it. Raises ConfigError."""
    host = HERE.get(config.host, config.host)
    headers = {"content-type": "application/json"}
    if config.admin_key is not None:
        headers["x-admin-api-key"] = config.admin_key.get_secret_value()
    connection = HTTPConnection(host, config.port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
        connection.sock.settimeout(MAKE_SECONDS)
        connection.request("POST", "/api/admin/backups", b"{}", headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != HTTPStatus.OK:
            raise ConfigError(
                f"the server at {host}:{config.port} makes no backup: {answer['error']}"
            )
        made = Path(answer["file"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{locked}, and no server answers for it at {host}:{config.port} ({error}):"
            " name its address by --host and --port"
        ) from error
    finally:
        connection.close()
    _move(made, path)


def _move(made: Path, path: Path) -> None:
    """Move an archive to where it was asked for, whole or not at all. Raises OSError."""
    draft = draft_of(path)
    try:
        with made.open("rb") as source, draft.open("wb") as copy:
            draft.chmod(0o600)
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        keep_draft(draft, path)
        made.unlink()
    finally:
        draft.unlink(missing_ok=True)


def check_owner(user: str | None, *, anonymous: bool) -> None:
    """Raise ConfigError unless exactly one user is named."""
    if (user is None) != anonymous:
        raise ConfigError("name one user: --user ID, or --anonymous for the user without an id")


def check_only_deleted(user: str | None, *, anonymous: bool) -> None:
    """Raise ConfigError where a user is named, too."""
    if user is not None or anonymous:
        raise ConfigError("--deleted: an erasure of a user does this, too; name one or the other")


def export_user(config: ServerConfig, path: Path, user_id: str | None) -> int:
    """Write an archive of one user; return the exit code.

    Raises ConfigError, StorageError, OSError.
    """
    _check_own(config)

    async def run(_: Progress) -> Summary:
        async with open_stores(config.storage) as stores:
            return await write_archive(path, export_of(stores, user_id))

    return _print_archive(path, _run(run))


def erase_user(config: ServerConfig, user_id: str | None) -> int:
    """Erase one user, and print what that was; return the exit code.

    Raises ConfigError, StorageError.
    """
    _check_own(config)
    builder = load_components(config).runtimes(config)

    async def forget(conversation_id: str) -> None:
        try:
            await builder.forget(conversation_id)
        except Exception as error:
            raise Unavailable(
                f"what a runtime of {conversation_id} has left cannot be removed: {error}"
            ) from error

    async def run(progress: Progress) -> Erased:
        async with open_stores(config.storage) as stores, AsyncExitStack() as stack:
            await _drop_index(config, stores, stack)
            return await Erasure(stores, user_id, forget).run(progress)

    try:
        erased = _run(run)
    except EventsError as error:
        raise Unavailable(str(error)) from error
    backend_of(config.storage).scrub()
    print(f"erased: {erased.summary()}")
    for line in erased.notes:
        print(line)
    return EXIT_INCOMPLETE if erased.notes else 0


def erase_deleted(config: ServerConfig) -> int:
    """Erase what deleted conversations have left, and print that; return the exit code.

    Raises ConfigError, StorageError.
    """
    _check_own(config)

    async def run(_: Progress) -> None:
        # A deletion that was cut short is finished when the stores are opened.
        async with open_stores(config.storage) as stores, AsyncExitStack() as stack:
            await _drop_index(config, stores, stack)

    _run(run)
    backend_of(config.storage).scrub()
    print("erased: what deleted conversations had left")
    return 0


async def _drop_index(config: ServerConfig, stores: Stores, stack: AsyncExitStack) -> None:
    """Remove every word of the index of full-text search; a server makes it anew when it starts."""
    if config.index_dir is not None:
        await drop_index(config.index_dir, stack)
    if stores.storage.open_index is not None:
        index = await stores.storage.open_index()
        stack.push_async_callback(index.close)
        await index.clear()


def show_due(config: ServerConfig, report: Path | None) -> int:
    """Print what is past its age limit, and delete nothing; return the exit code.

    Raises ConfigError, StorageError, OSError.
    """
    _check_kept(config)
    with ExitStack() as stack:
        file = None if report is None else stack.enter_context(report.open("wb"))
        for line in _run(partial(read_due, config, report=file)):
            print(line)
    return 0


def prune_storage(config: ServerConfig, *, clock_is_right: bool) -> int:
    """Delete what is past its age limit, and print how much that was; return the exit code.

    Raises ConfigError, StorageError.
    """
    _check_kept(config)
    pruned: Pruned = _run(partial(prune, config, clock_is_right=clock_is_right))
    print(pruned.line)
    return 0 if pruned.is_complete else EXIT_INCOMPLETE


def _check_kept(config: ServerConfig) -> None:
    """Raise ConfigError where there is nothing."""
    if config.storage_kind == "memory":
        raise ConfigError("storage: memory holds nothing beyond its process")
    _check_source(backend_of(config.storage), "storage")


def _check_own(config: ServerConfig) -> None:
    """Raise ConfigError where there is nothing, or where what a user has is kept elsewhere as well."""
    _check_kept(config)
    for name in ("conversation_store_class", "settings_store_class", "secrets_store_class"):
        if getattr(config, name) is not None:
            raise ConfigError(f"{name}: what a class of your own keeps is not known here")


def show_archive(path: Path) -> int:
    """Verify an archive and print what is in it; return the exit code. Raises Damaged, OSError."""
    return _print_archive(path, verify(path))


def _print_archive(path: Path, found: Summary) -> int:
    made = f"{found.created_at:%Y-%m-%d %H:%M:%S} UTC"
    print(f"{path}: sound, of {made}, {found.conversations} conversations, {found.events} events")
    for line in found.damage:
        print(f"damaged in the storage it was made of: {line}")
    return EXIT_INCOMPLETE if found.damage else 0


def restore_archive(config: ServerConfig, path: Path, at: str | None, report: Path | None) -> int:
    """Restore an archive into a new storage; return the exit code.

    Raises ConfigError, OSError, and StorageError: a damaged archive before anything is touched.
    """
    moment = moment_of(at)
    if config.storage_kind == "memory":
        raise ConfigError("storage: memory holds nothing beyond its process")
    verify(path)
    _hand_over(config, *key_of(path))

    async def run(progress: Progress) -> Report:
        async with open_stores(config.storage) as stores:
            work = Restore(path, stores, moment)
            await _told(work.outcomes(progress), report)
            return work.report

    return _print(_run(run))


def _hand_over(config: ServerConfig, key_id: str | None, key: bytes | None) -> None:
    """Give the storage the key of an archive where it may have one. Raises ConfigError, OSError."""
    if key_id is None:
        return
    place = backend_of(config.storage).data_dir
    if key is not None:
        if place is not None and config.secret_key is None:
            keep_key_file(place, key)
    elif config.secret_key is None or key_id_of(config.secret_key) != key_id:
        raise ConfigError(
            "secret_key: the archive was sealed with another key: PARLEY_SECRET_KEY must be as it was"
        )


def moment_of(text: str | None) -> datetime | None:
    """Return a moment with a zone. Raises ConfigError."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError("--at: no time such as 2026-05-04T12:00:00Z") from None
    if found.tzinfo is None:
        raise ConfigError("--at: a time needs a zone, as in 2026-05-04T12:00:00Z")
    return found


def zone_of(name: str | None) -> ZoneInfo | None:
    """Return the time zone of a name. Raises ConfigError."""
    try:
        return None if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"--zone: no time zone is named {name}, as Europe/Berlin is") from None


def _check_source(origin: Backend, name: str) -> None:
    """Raise ConfigError where there is nothing, which opening would make."""
    if origin.path is not None and not origin.path.exists():
        raise ConfigError(f"{name}: {origin.describe()}")
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
