"""Rounds of: save workspaces, SIGKILL at a random moment, open again, compare with what was told."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from events.stores.opening import open_event_store, open_workspaces, storage_problems
from storage.opening import open_storage
from storage.workspaces.base import WorkspaceStore
from storage.workspaces.manifest import Loaded
from storage.workspaces.snapshot import WorkspaceLimits
from tests.support.crash_run import CrashFigures
from tests.support.crashing import config_of
from tests.support.saving import keys_of, snapshot_at
from tests.support.seeds import choices
from tests.support.servers import REPOSITORY

LINES = (1, 40)
"""Lines of the process after which it is killed, and then some of the time of one line."""
PAUSE_SECONDS = 0.03
START_SECONDS = 60.0


@dataclass(slots=True)
class WorkspaceKillFigures(CrashFigures):
    """Figures of a run of rounds."""

    kills: int = 0
    saves: int = 0
    loaded: int = 0
    of_the_last: int = 0
    of_one_under_way: int = 0
    deletions: int = 0
    deletions_cut_short: int = 0

    def summary(self) -> str:
        """See CrashFigures."""
        return (
            f"kills {self.kills}, saves told {self.saves}, workspaces read back {self.loaded}, of the"
            f" last save told {self.of_the_last}, of one under way {self.of_one_under_way},"
            f" deletions told {self.deletions}, cut short {self.deletions_cut_short};"
            " 0 in parts, 0 lost, 0 left over"
        )


@dataclass(slots=True)
class Told:
    """The lines of a process before it was killed."""

    saving: dict[str, int] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    def take(self, line: str) -> None:
        """Take a line of its output."""
        match line.split():
            case ["saving", key, number]:
                self.saving[key] = int(number)
            case ["saved", key, number]:
                self.saved[key] = int(number)
            case ["deleting", key, _]:
                self.deleting.add(key)
            case ["deleted", key, _]:
                self.deleted.add(key)


async def run_workspace_kills(
    data_dir: Path, seed: int, kills: int, storage: str
) -> WorkspaceKillFigures:
    """Kill and compare so often over one data directory. Raises AssertionError."""
    random = choices(seed)
    figures = WorkspaceKillFigures(seed, storage)
    for number in range(kills):
        told = await _killed(data_dir, seed, number, storage, random)
        figures.kills += 1
        figures.saves += sum(number + 1 for number in told.saved.values())
        figures.deletions += len(told.deleted)
        await _check(data_dir, seed, number, storage, told, figures)
    return figures


async def _killed(data_dir: Path, seed: int, number: int, storage: str, random: Random) -> Told:
    command = (sys.executable, "-m", "tests.support.saving")
    process = await asyncio.create_subprocess_exec(
        *(*command, str(data_dir), storage, str(seed), str(number)), stdout=PIPE, cwd=REPOSITORY
    )
    assert process.stdout is not None
    told = Told()
    try:
        async with asyncio.timeout(START_SECONDS):
            for _ in range(random.randint(*LINES)):
                line = await process.stdout.readline()
                assert line, "the process ended by itself"
                told.take(line.decode())
        await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))
    finally:
        process.kill()
    async for line in process.stdout:
        if line.endswith(b"\n"):
            told.take(line.decode())
    await process.wait()
    return told


async def _check(
    data_dir: Path,
    seed: int,
    number: int,
    storage: str,
    told: Told,
    figures: WorkspaceKillFigures,
) -> None:
    config = config_of(storage, data_dir)
    async with open_storage(config) as opened, AsyncExitStack() as stack:
        events = await open_event_store(opened, stack)
        store = open_workspaces(opened, events, WorkspaceLimits())
        for key in keys_of(number):
            await _check_one(store, seed, key, told, figures)
        for key in told.deleting:
            head = await events.head(key)
            if key in told.deleted:
                assert head.deleted
            loaded = await store.load(key)
            if head.deleted:
                assert loaded is None
                assert not list((data_dir / "files" / "logs" / key).glob("workspace/**/*"))
                figures.deletions_cut_short += key not in told.deleted
            else:
                assert loaded == Loaded(snapshot_at(seed, key, 3))
    assert await asyncio.to_thread(storage_problems, config) == []


async def _check_one(
    store: WorkspaceStore, seed: int, key: str, told: Told, figures: WorkspaceKillFigures
) -> None:
    loaded = await store.load(key)
    saved, saving = told.saved.get(key), told.saving.get(key)
    if loaded is None:
        assert saved is None, f"the workspace of {key} is lost"
        return
    found = int(loaded.snapshot.files["number"])
    assert found in (saved, saving), f"{key} has {found}, told were {saved} and {saving}"
    assert loaded == Loaded(snapshot_at(seed, key, found)), f"{key} is there in parts"
    figures.loaded += 1
    figures.of_the_last += found == saved
    figures.of_one_under_way += found != saved
    # The next process goes on with it.
    await store.save(key, snapshot_at(seed, key, found + 1))
    assert await store.load(key) == Loaded(snapshot_at(seed, key, found + 1))
