"""A directory of this machine and a kept workspace: files of which it comes, or others."""

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from runtime_stub.base import Snapshot, WorkspaceLimits
from runtime_stub.local.lineage import MOST_NAMES
from runtime_stub.local.places import MOST_ASIDE
from runtime_stub.local.runtime import LocalRuntimeBuilder
from tests.support.local_worlds import options, passable_folder

ROOT = Path(__file__).parents[2]
LIMITS = WorkspaceLimits()
ELSEWHERE = Snapshot(files={"a": b"newer work, done elsewhere"})


class Machine:
    """A machine on which loops of one conversation run, one after the other."""

    def __init__(self, folder):
        self.builder = LocalRuntimeBuilder(options(folder))
        self.said = []

    @asynccontextmanager
    async def loop(self, kept=None):
        """Run a loop that begins with what is kept."""
        runtime = await self.builder.build("conversation", None)
        if kept is not None:
            self.said.append(await runtime.restore(kept))
        await runtime.connect()
        try:
            yield runtime
        finally:
            await runtime.close()

    async def rest(self, kept, **files):
        """Run a loop that writes files and comes to rest; its snapshot."""
        async with self.loop(kept) as runtime:
            for path, content in files.items():
                await runtime.write_file(path, content)
            return await runtime.snapshot(LIMITS)


def aside_of(runtime):
    """The files of each folder that was set aside, the oldest first."""
    folders = sorted(Path(runtime.root).parent.glob("aside-*"))
    return [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]


@pytest.fixture
def folders():
    with passable_folder() as one, passable_folder() as other:
        yield one, other


@pytest.fixture
def machine(folders):
    return Machine(folders[0])


@pytest.fixture
def other(folders):
    return Machine(folders[1])


async def test_newer_work_that_was_done_elsewhere_replaces_older_files_which_are_set_aside(machine):
    await machine.rest(None, a=b"of this directory")

    async with machine.loop(ELSEWHERE) as runtime:
        found = await runtime.snapshot(LIMITS)
        aside = aside_of(runtime)
        (folder,) = Path(runtime.root).parent.glob("aside-*")
        read = await runtime._execute(f"cat {folder}/a", (), 1000)

    assert found.files == ELSEWHERE.files
    assert aside == [{"a": b"of this directory"}]
    assert str(folder) in machine.said[0]
    assert read.output == b"of this directory"


async def test_a_conversation_goes_from_machine_to_machine_and_back(machine, other):
    kept = await machine.rest(None, a=b"1")
    kept = await other.rest(kept, a=b"2")
    kept = await machine.rest(kept, a=b"3")
    async with other.loop(kept) as runtime:
        found = await runtime.read_file("a")

    assert found == b"3"
    assert [one is None for one in (*other.said, *machine.said)] == [True, False, False]


async def test_work_that_was_undone_elsewhere_stays_undone(machine, other):
    async with machine.loop() as runtime:
        await runtime.write_file("a", b"1")
        first = await runtime.snapshot(LIMITS)
        await runtime.write_file("a", b"2")
        second = await runtime.snapshot(LIMITS)
    undone = await other.rest(second, a=b"1")

    async with machine.loop(undone) as runtime:
        found = await runtime.read_file("a")

    assert undone.files == first.files
    assert found == b"1"


async def test_files_that_are_newer_than_what_was_kept_of_them_stay(machine):
    async with machine.loop() as runtime:
        await runtime.write_file("a", b"1")
        kept = await runtime.snapshot(LIMITS)
        await runtime.write_file("a", b"2")
        await runtime.snapshot(LIMITS)  # which was not saved, as the server was killed
        await runtime.write_file("a", b"3")

    async with machine.loop(kept) as runtime:
        found = await runtime.read_file("a")

    assert (found, machine.said) == (b"3", [None])


@pytest.mark.parametrize("kept", [ELSEWHERE, replace(ELSEWHERE, own={"state": b"{}"})])
async def test_files_that_are_newer_than_what_they_began_with_stay(machine, kept):
    async with machine.loop(kept) as runtime:
        await runtime.write_file("a", b"newer")  # and the server is killed before a rest

    async with machine.loop(kept) as runtime:
        found = await runtime.read_file("a")

    assert (found, machine.said) == (b"newer", [None, None])


async def test_files_stay_where_some_of_what_was_kept_of_them_is_damaged(machine):
    kept = await machine.rest(None, a=b"1", b=b"2")
    damaged = replace(kept, files={"a": b"1"})

    async with machine.loop(damaged) as runtime:
        found = await runtime.read_file("b")

    assert (found, machine.said) == (b"2", [None])


async def test_equal_files_are_the_same_snapshot(machine):
    first = await machine.rest(None, a=b"1")
    second = await machine.rest(first)
    third = await machine.rest(second, a=b"2")

    assert first == second
    assert third != first


async def test_the_folders_set_aside_are_bounded_in_number_and_the_last_ones_stay(machine):
    kept = [Snapshot(files={"a": b"%d" % number}) for number in range(MOST_ASIDE + 3)]
    for snapshot in kept:
        async with machine.loop(snapshot) as runtime:
            aside = aside_of(runtime)
            names = [path.name for path in Path(runtime.root).parents[1].iterdir()]

    assert aside == [dict(snapshot.files) for snapshot in kept[-MOST_ASIDE - 1 : -1]]
    assert sorted(names) == [".lock", "conversation"]


async def test_the_snapshots_that_a_directory_knows_are_bounded_and_the_first_one_is_of_them(
    machine,
):
    async with machine.loop(ELSEWHERE) as runtime:
        for number in range(MOST_NAMES + 1):
            await runtime.write_file("a", b"%d" % number)
            last = await runtime.snapshot(LIMITS)

    async with machine.loop(ELSEWHERE) as runtime:  # no other one was kept
        first = await runtime.read_file("a")
    async with machine.loop(last) as runtime:
        again = await runtime.read_file("a")

    assert first == b"%d" % MOST_NAMES
    assert again == last.files["a"]
    assert machine.said[:2] == [None, None]


async def test_what_stands_beside_a_directory_and_cannot_be_read_costs_no_file(machine):
    kept = await machine.rest(None, a=b"1")
    async with machine.loop(kept) as runtime:
        await runtime.write_file("a", b"2")
        lineage = Path(runtime.root).with_name("lineage")
    lineage.write_bytes(b"\xff{")

    async with machine.loop(kept) as runtime:
        found, aside = await runtime.read_file("a"), aside_of(runtime)

    assert (found, aside) == (b"1", [{"a": b"2"}])


def test_a_kill_at_any_moment_of_a_restoration_loses_neither_files_nor_what_is_kept(folders):
    command = [sys.executable, "-m", "tests.support.restore_kills", str(folders[0] / "workspaces")]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)

    assert done.stderr == ""
    assert int(done.stdout) > 50
    assert done.returncode == os.EX_OK
