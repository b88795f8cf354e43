"""The in-memory workspace is restored with its repository, its current folder and its tasks."""

import pytest

from events.actions import CmdRunAction, TaskTrackingAction
from runtime_stub.base import FileChange, WorkspaceLimits
from runtime_stub.errors import WorkspaceError
from runtime_stub.keeping import STATE
from runtime_stub.stub import StubRuntime
from storage.workspaces.snapshot import Snapshot

TASKS = [{"title": "Write it down", "status": "todo"}]


async def started(snapshot=None):
    runtime = StubRuntime()
    if snapshot is not None:
        await runtime.restore(snapshot)
    await runtime.connect()
    return runtime


async def run(runtime, command):
    return (await runtime.perform(CmdRunAction(command=command))).content


async def kept(runtime):
    snapshot = await runtime.snapshot(WorkspaceLimits())
    await runtime.close()
    return await started(snapshot)


async def test_the_repository_comes_back_with_its_branches_and_what_was_staged():
    runtime = await started()
    await run(runtime, "mkdir repo && cd repo && git init && echo 1 > a && git add a")
    await run(runtime, "git commit -m first && git checkout -b topic && echo 2 > a && echo 3 > b")
    await run(runtime, "git add b")
    before = await run(runtime, "git status")

    later = await kept(runtime)

    assert await later.branch() == "topic"
    assert await later.changes() == [FileChange("M", "a"), FileChange("A", "b")]
    assert (await later.versions("a")).original == b"1\n"
    assert await run(later, "git status") == before
    assert await run(later, "pwd") == "/workspace/repo"
    await run(later, "git checkout -- a; git commit -m second; git checkout main")
    assert await later.branch() == "main"


async def test_the_current_folder_and_the_tasks_come_back():
    runtime = await started()
    await run(runtime, "mkdir -p a/b && cd a/b")
    await runtime.perform(TaskTrackingAction(command="plan", task_list=TASKS))

    later = await kept(runtime)

    assert await run(later, "pwd") == "/workspace/a/b"
    shown = await later.perform(TaskTrackingAction(command="view"))
    assert shown.task_list == TASKS


async def test_a_snapshot_without_records_of_its_own_has_the_files():
    runtime = await started()
    await run(runtime, "mkdir a && cd a && git init && echo 1 > b")
    snapshot = await runtime.snapshot(WorkspaceLimits())

    later = await started(Snapshot(files=snapshot.files, folders=snapshot.folders))

    assert await run(later, "cat a/b; pwd") == "1\n/workspace"
    assert await later.branch() is None


async def test_contents_that_trees_share_are_one_record():
    runtime = await started()
    await run(runtime, "git init && echo 1 > a && git add a && git commit -m first")
    await run(runtime, "git checkout -b other")

    snapshot = await runtime.snapshot(WorkspaceLimits())

    assert len(snapshot.own) == 2


@pytest.mark.parametrize(
    "own",
    [
        {STATE: b"no json"},
        {STATE: b"[]"},
        {STATE: b'{"repository": {"root": "/workspace"}}'},
        {STATE: b'{"tasks": 7}'},
    ],
)
async def test_records_that_cannot_be_read_are_refused(own):
    with pytest.raises(WorkspaceError, match="own records"):
        await StubRuntime().restore(Snapshot(own=own))


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a\nb"])
async def test_paths_that_leave_the_workspace_are_refused(path):
    with pytest.raises(WorkspaceError):
        await StubRuntime().restore(Snapshot(files={path: b""}))
    with pytest.raises(WorkspaceError):
        await StubRuntime().restore(Snapshot(folders=frozenset({path})))
