"""LocalRuntime beyond the contract: directories and their users, bounds, files, ends."""

import asyncio
import dataclasses
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from events.actions import BrowseURLAction, CmdRunAction, IPythonRunCellAction
from events.observations import CmdOutputObservation, ErrorObservation
from runtime_stub.base import Snapshot, WorkspaceLimits
from runtime_stub.errors import BadWorkspacePath, RuntimeUnavailable, WorkspaceError
from runtime_stub.local.runtime import LocalRuntimeBuilder
from runtime_stub.shell import WHOLE_BYTES
from tests.support.local_worlds import MIB, UIDS, local_world, options, passable_folder
from tests.support.waiting import WAIT_SECONDS, until

AS_ROOT = os.geteuid() == 0
NOBODY = 65534


@pytest.fixture
def folder():
    with passable_folder() as found:
        yield found


@pytest.fixture
async def world(folder):
    async with local_world(folder) as found:
        yield found


async def test_a_workspace_is_there_again_for_the_next_runtime_of_its_conversation(world):
    await world.run("mkdir -p a/b; echo kept > a/b/c; chmod +x a/b/c")
    await world.runtime.close()

    async with world.another("conversation") as again:
        answer = await again.run("a/b/c 2>&1; cat a/b/c")
    async with world.another("other") as other:
        assert list(await other.runtime.list_files()) == []

    assert answer.content.endswith("kept")


async def test_a_directory_belongs_to_a_user_of_its_own_and_nobody_else_enters_it(world):
    async with world.another("other") as other:
        owners = [Path(one.runtime.root).stat() for one in (world, other)]
        seen = [(await one.run("id -u; id -G")).content.split() for one in (world, other)]

    assert [stat.S_IMODE(owner.st_mode) for owner in owners] == [0o700, 0o700]
    if AS_ROOT:
        assert owners[0].st_uid != owners[1].st_uid
        assert {owner.st_uid for owner in owners} <= set(UIDS)
        assert seen == [[str(owner.st_uid), str(owner.st_gid)] for owner in owners]
    else:
        assert {owner.st_uid for owner in owners} == {os.geteuid()}


async def test_files_written_by_actions_belong_to_the_user_of_the_commands(world):
    await world.runtime.write_file("new/folder/file", b"one")

    answer = await world.run("echo two >> new/folder/file && rm -r new && echo removed")

    assert answer.content == "removed"


async def test_a_file_that_is_written_again_keeps_its_mode(world):
    await world.run("echo one > script; chmod 750 script")

    await world.runtime.write_file("script", b"two")

    assert (await world.run("stat -c %a script; cat script")).content == "750\ntwo"


async def test_a_hard_link_to_a_file_of_somebody_else_is_not_read(world):
    world.secret.chmod(0o644)  # what keeps its reader out is the directory
    os.link(world.secret, f"{world.runtime.root}/linked")

    if AS_ROOT:
        with pytest.raises(BadWorkspacePath):
            await world.runtime.read_file("linked")
    else:
        assert await world.runtime.read_file("linked") == world.secret.read_bytes()


async def test_a_forgotten_conversation_has_no_directory_and_its_user_is_free_again(world):
    place = Path(world.runtime.root).parent
    owner = Path(world.runtime.root).stat().st_uid
    await world.run("mkdir -p a; chmod 0 a; ln -s / b")
    await world.runtime.close()

    await world.builder.forget("conversation")
    await world.builder.forget("conversation")

    assert not place.exists()
    assert [path.name for path in place.parent.iterdir()] == [".lock"]
    async with world.another("next") as following:
        assert Path(following.runtime.root).stat().st_uid == owner


@pytest.mark.parametrize("name", ["", ".", "..", ".lock", "../outside", "/etc", "a/b", "a\0b"])
async def test_an_id_that_leads_elsewhere_has_no_directory(world, name):
    runtime = await world.builder.build(name, None)

    with pytest.raises(RuntimeUnavailable, match="name"):
        await runtime.connect()
    with pytest.raises(RuntimeUnavailable, match="name"):
        await world.builder.forget(name)

    await runtime.close()


async def test_directories_that_a_crash_left_half_removed_are_removed_at_the_next_start(folder):
    half = folder / "workspaces" / ".removed-half" / "a"
    half.mkdir(parents=True)

    runtime = await LocalRuntimeBuilder(options(folder)).build("conversation", None)
    await runtime.close()

    assert not half.parent.exists()


async def test_a_lock_that_a_command_may_hold_keeps_no_directory_of_a_deleted_conversation(folder):
    """A user of its own for each conversation keeps commands from holding it."""
    made = as_nobody(
        folder,
        "places.prepare('gone'); held = os.open('.lock', 0); lock(held); places.remove('gone')",
    )

    assert made == [".lock"]


if AS_ROOT:

    async def test_a_removed_directory_that_stays_keeps_no_other_one(folder):
        (folder / "workspaces" / ".removed-0").mkdir(parents=True)
        (folder / "workspaces" / ".removed-0" / "of-somebody-else").touch()

        left = as_nobody(
            folder,
            "os.mkdir('.removed-1'); os.mkdir('.removed-1/closed', 0); places.sweep()",
        )

        assert left == [".lock", ".removed-0"]


def as_nobody(folder, program):
    """Run lines about `places` as a user who is not root, if possible; the names that are left."""
    workspaces = folder / "workspaces"
    workspaces.mkdir(exist_ok=True)
    if AS_ROOT:
        os.chown(workspaces, NOBODY, NOBODY)
    lines = f"""
import os
from pathlib import Path
from runtime_stub.local.keeper import lock
from runtime_stub.local.places import Places
os.chdir({str(workspaces)!r})
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
places = Places(Path({str(workspaces)!r}), range(0))
{program}
"""
    subprocess.run([sys.executable, "-c", lines], check=True, timeout=WAIT_SECONDS)
    return sorted(path.name for path in workspaces.iterdir())


async def test_what_was_ended_for_its_use_is_told_and_the_next_command_runs(world):
    answer = await world.run("sleep 1000 & yes")

    assert answer.metadata.exit_code == 137
    assert answer.content.endswith(
        f"The processes of this workspace were ended: a command wrote more than {4 * MIB} bytes of"
        " output."
    )
    assert (await world.run("echo and on")).content == "and on"
    assert world.processes() == []


async def test_processes_in_the_background_go_on_until_the_runtime_is_closed(world):
    await world.run("sleep 1000 & echo started")

    answer = await world.run("jobs; kill -0 $(pgrep -u $(id -u) -x sleep) && echo goes on")
    await world.runtime.close()

    assert answer.content == "goes on"
    assert world.processes() == []


async def test_a_command_that_is_given_up_leaves_earlier_background_processes(world):
    await world.run("sleep 1000 & setsid sleep 1000 & echo started")
    await until(lambda: len(world.processes()) == 2)
    earlier = world.processes()

    await world.give_up("(setsid sh -c ': > begun; exec sleep 1000' &); sleep 1000")

    assert len(earlier) == 2
    assert world.processes() == earlier


async def test_a_command_that_is_given_up_takes_what_has_left_its_session(world):
    await world.give_up("(setsid setsid sh -c ': > begun; exec sleep 1000' &); sleep 1000")

    assert world.processes() == []


async def test_no_link_is_followed_out_of_the_workspace(world):
    outside = world.folder / "open"
    outside.mkdir(mode=0o755)
    (outside / "file").write_text("outside")
    owner = Path(world.runtime.root).stat()
    os.chown(outside / "file", owner.st_uid, owner.st_gid)  # so that its owner is no reason
    await world.run(f"ln -s {outside} folder; ln -s {outside}/file file; mkdir in; ln -s in inside")

    for path in ("file", "folder/file", "inside/none"):
        with pytest.raises(BadWorkspacePath):
            await world.runtime.read_file(path)
    for path in ("file", "folder/new", "inside/new"):
        with pytest.raises(BadWorkspacePath):
            await world.runtime.write_file(path, b"written")
    for path in ("folder", "inside"):
        with pytest.raises(BadWorkspacePath):
            await world.runtime.list_files(path)

    assert (outside / "file").read_text() == "outside"
    assert await world.runtime.list_files() == ["file", "folder", "in/", "inside"]


async def test_a_fifo_is_neither_waited_for_nor_written_to(world):
    await world.run("mkfifo fifo")

    async def read():
        with pytest.raises(BadWorkspacePath):
            await world.runtime.read_file("fifo")

    reading = asyncio.create_task(read())
    await asyncio.wait((reading,), timeout=WAIT_SECONDS)
    waited = not reading.done()
    # Whoever waits for the fifo in a thread goes on with this.
    os.close(os.open(f"{world.runtime.root}/fifo", os.O_RDWR | os.O_NONBLOCK))
    await reading
    with pytest.raises(BadWorkspacePath):
        await world.runtime.write_file("fifo", b"written")

    assert not waited


async def test_what_is_too_much_on_the_disk_does_not_become_what_may_be(folder):
    async with local_world(folder, disk_bytes=4 * MIB) as world:
        endless = await world.run("while :; do head -c 1M /dev/zero > f$RANDOM; done")
        further = await world.run("echo more > more; echo and on; false")

    assert endless.metadata.exit_code == 137
    assert not further.success
    assert "File too large\nand on" in further.content
    assert "commands can remove, not write" in further.content


async def test_processes_may_end_by_themselves_when_the_runtime_is_closed(world):
    await world.run("mkfifo never; (trap 'echo ended > end; exit' TERM; : > begun; read < never) &")
    await until(world.path("begun").exists)

    await world.runtime.close()

    assert world.path("end").read_text() == "ended\n"


async def test_both_ends_of_a_long_output_are_kept_and_a_mark_between_them(world):
    answer = await world.run("echo first; head -c 2000000 /dev/zero | tr '\\0' x; echo; echo last")

    assert answer.content.startswith("first\nxxx")
    assert answer.content.endswith("xxx\nlast")
    assert "bytes of output were left out ...]" in answer.content
    assert len(answer.content) < 1_000_000


async def test_a_hidden_output_is_kept_whole_or_refused(folder):
    async with local_world(folder, output_bytes=64 * MIB) as world:

        async def hidden(count):
            command = f"head -c {count} /dev/zero | tr '\\0' x"
            return await world.runtime.perform(CmdRunAction(command=command, hidden=True))

        whole = await hidden(WHOLE_BYTES)
        longer = await hidden(WHOLE_BYTES + 1)

    assert isinstance(whole, CmdOutputObservation)
    assert len(whole.content) == WHOLE_BYTES
    assert isinstance(longer, ErrorObservation)


async def test_disk_that_is_over_its_bound_can_be_made_free_by_a_command(folder):
    async with local_world(folder, disk_bytes=4 * MIB) as world:
        await world.run("i=0; while :; do i=$((i+1)); head -c 1M /dev/zero > f$i; done")

        with pytest.raises(WorkspaceError, match="may not exceed"):
            await world.runtime.write_file("more", b"x" * 4 * MIB)
        removed = await world.run("rm f*; echo removed")

        assert removed.content.startswith("removed")
        assert (await world.run("echo small > file; cat file")).content == "small"


async def test_pages_and_cells_are_refused_with_what_does_it_instead(world):
    for action in (BrowseURLAction(url="https://example.org"), IPythonRunCellAction(code="1")):
        answer = await world.runtime.perform(action)

        assert isinstance(answer, ErrorObservation)
        assert "Commands such as" in answer.content


async def test_a_variable_that_no_process_can_have_is_left_out(world):
    world.runtime.set_environment({"A=B": "1", "": "2", "C": "nul\0", "D": "sur\ud800", "E": "5"})

    answer = await world.run('echo "$C|$D|$E"')

    assert answer.content == "|sur?|5"


async def test_a_command_whose_keeper_dies_is_told_so(world):
    keeper = int((await world.run("echo $PPID")).content)
    command = asyncio.create_task(world.run(": > begun; sleep 1000"))
    await until(world.path("begun").exists)

    os.kill(keeper, signal.SIGKILL)

    with pytest.raises(RuntimeUnavailable):
        await command
    with pytest.raises(RuntimeUnavailable):
        await world.run("true")


if AS_ROOT:

    async def test_a_user_has_one_workspace_on_the_machine(folder, world):
        owner = Path(world.runtime.root).stat().st_uid
        same = dataclasses.replace(
            options(folder), directory=folder / "others", uids=range(owner, owner + 1)
        )
        other = await LocalRuntimeBuilder(same).build("other", None)

        with pytest.raises(RuntimeUnavailable, match="another server"):
            await other.connect()

        await other.close()
        assert (await world.run("echo unharmed")).content == "unharmed"

    async def test_a_command_that_signals_everybody_reaches_its_own_workspace_only(folder, world):
        async with world.another("other") as other:
            await other.run("sleep 1000 &")
            await until(other.processes)

            ended = await world.run("sleep 1000 & kill -KILL -1; echo unharmed")

            assert len(other.processes()) == 1
        assert (await world.run("echo and on")).content == "and on"
        assert "unharmed" in ended.content
        assert world.processes() == []

    async def test_processes_whose_keeper_has_died_end_with_the_runtime(world):
        answer = await world.run("sleep 1000 & setsid sleep 1000 & echo $PPID")
        os.kill(int(answer.content), signal.SIGKILL)

        await world.runtime.close()

        assert world.processes() == []


async def test_a_snapshot_holds_files_folders_modes_and_links_and_is_written_where_there_is_no_directory(
    world,
):
    await world.run(
        "mkdir -p a/empty; echo text > a/file; printf '\\xff' > $'\\xff'; ln -s a/file link;"
        " echo 'echo ran' > a/run; chmod +x a/run; mkfifo fifo"
    )
    snapshot = await world.runtime.snapshot(WorkspaceLimits())
    assert snapshot is not None

    other = await world.builder.build("other", None)
    await other.restore(snapshot)
    await other.connect()
    try:
        again = await other.snapshot(WorkspaceLimits())
        answer = await other.perform(CmdRunAction(command="cat link; a/run"))
        await other.write_file("a/file", b"newer")
        await other.restore(snapshot)
        kept = await other.read_file("a/file")
    finally:
        await other.close()

    assert (again.files, again.folders) == (snapshot.files, snapshot.folders)
    assert answer.content == "text\nran"
    assert kept == b"newer"


@pytest.mark.parametrize(
    ("limits", "filled"),
    [
        (WorkspaceLimits(max_bytes=1000), "echo 1 > a; head -c 2000 /dev/zero > b"),
        (WorkspaceLimits(max_entries=2), "mkdir a b; touch a/1 b/1 b/2"),
        (WorkspaceLimits(max_entries=2), "mkdir a a/1 b b/2 b/3"),
        (WorkspaceLimits(max_entries=2), "touch a b c"),
        (WorkspaceLimits(), "mkdir -p $(printf 'd/%.0s' {1..102})"),
    ],
    ids=["bytes", "files", "folders", "one folder", "depth"],
)
async def test_of_a_workspace_beyond_the_limits_there_is_no_snapshot(world, limits, filled):
    await world.run(filled)

    assert await world.runtime.snapshot(limits) is None


async def test_a_snapshot_of_files_that_grow_meanwhile_stays_within_the_limits(world):
    await world.run(
        "mkdir a; touch a/{1..100};"
        " (while :; do truncate -s 0 a/*; truncate -s 256K a/*; done) >/dev/null 2>&1 &"
    )

    for _ in range(100):
        snapshot = await world.runtime.snapshot(WorkspaceLimits(max_bytes=MIB))
        sizes = [] if snapshot is None else [len(one) for one in snapshot.files.values()]
        assert sum(sizes) <= MIB


async def test_a_snapshot_that_was_not_written_to_its_end_is_written_anew(folder):
    name, content = "conversation", b"x" * MIB
    snapshot = Snapshot(
        files={f"{number}": content for number in range(8)}, folders=frozenset(("folder",))
    )
    narrow = await LocalRuntimeBuilder(options(folder, disk_bytes=4 * MIB)).build(name, None)
    with pytest.raises(WorkspaceError):
        await narrow.restore(snapshot)
    await narrow.close()

    runtime = await LocalRuntimeBuilder(options(folder)).build(name, None)
    await runtime.restore(snapshot)
    await runtime.connect()
    written = await runtime.snapshot(WorkspaceLimits())
    await runtime.write_file("0", b"newer")
    await runtime.restore(snapshot)
    newer = await runtime.read_file("0")
    await runtime.close()

    assert written is not None
    assert (written.files, written.folders) == (snapshot.files, snapshot.folders)
    assert newer == b"newer"


async def test_a_file_that_is_written_again_is_counted_once(world):
    for _ in range(64):
        await world.runtime.write_file("file", b"x" * MIB)

    assert len(await world.runtime.read_file("file")) == MIB


async def test_a_keeper_that_was_stopped_ends_a_command_that_is_given_up(world):
    keeper = int((await world.run("echo $PPID")).content)

    def stopped():
        begun = world.path("begun").exists()
        if begun:
            os.kill(keeper, signal.SIGSTOP)
        return begun

    await world.give_up(": > begun; sleep 1000", stopped)

    assert world.processes() == []


async def test_a_keeper_that_was_stopped_ends_its_processes_when_the_runtime_is_closed(world):
    keeper = int((await world.run("sleep 1000 & echo $PPID")).content)
    os.kill(keeper, signal.SIGSTOP)

    await world.runtime.close()

    assert world.processes() == []


async def test_a_folder_that_no_user_may_pass_through_is_refused_in_words(folder):
    private = folder / "private"
    private.mkdir(mode=0o700)

    if AS_ROOT:
        with pytest.raises(RuntimeUnavailable, match="pass through"):
            LocalRuntimeBuilder(options(private))
    else:
        assert LocalRuntimeBuilder(options(private)).warning()
