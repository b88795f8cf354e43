"""Workspaces stay: saved when an agent rests and when its loop is closed, there when the next one is up."""

import asyncio
from contextlib import nullcontext

import pytest

from runtime_stub.base import Snapshot, WorkspaceLimits
from runtime_stub.stub import StubRuntime
from server.agent.contained import ContainedRuntime, Deadlines
from server.agent.workspaces import DAMAGED_ID, NOT_KEPT_ID, LoopWorkspace, Workspaces
from server.user_code import UserCode
from storage.errors import Damaged, NewerFormat, OutcomeUnknown, Unavailable, WrongKey
from storage.workspaces.manifest import Loaded
from tests.support.remote import server_over
from tests.support.rest import EVERY, rest_server
from tests.support.waiting import until
from tests.support.workspace_runtimes import FAULTS, FaultyRuntime, FaultyWorkspaces

ONE = f"{EVERY}/c1"
HERE = "tests.support.workspace_runtimes"
NOTES = "docs.examples.notes_agent:NotesAgent"


async def begin(rest):
    await rest.keep("c1", None)
    await rest.ask("POST", f"{ONE}/start", json={})
    await rest.wait_until_idle("c1")


async def say(rest, text):
    answer = await rest.ask("POST", f"{ONE}/message?wait=turn&seconds=20", json={"message": text})
    assert answer.status_code == 200, answer.text
    return answer.json()["messages"]


async def run(rest, command):
    return await say(rest, f"/run {command}")


async def files_kept(rest):
    loaded = await rest.workspaces.load("c1")
    return None if loaded is None else dict(loaded.snapshot.files)


async def ended(rest):
    return not await rest.application.manager.is_agent_loop_running("c1")


async def log(rest):
    return (await rest.ask("GET", f"{ONE}/events?limit=100")).json()["events"]


async def refusals(rest):
    return [
        event["message"] or event["content"]
        for event in await log(rest)
        if event.get("extras", {}).get("error_id") in (NOT_KEPT_ID, DAMAGED_ID)
    ]


async def test_what_an_agent_wrote_is_there_after_its_loop_was_closed():
    async with rest_server(agent_class=NOTES) as rest:
        await begin(rest)
        await say(rest, "note Water the plants")
        await rest.ask("POST", f"{ONE}/stop")

        assert await say(rest, "notes") == ["Water the plants\n"]


async def test_a_workspace_is_saved_when_its_agent_comes_to_rest(rest):
    await begin(rest)
    await run(rest, "echo 1 > a")

    await until(lambda: files_kept(rest))
    assert await files_kept(rest) == {"a": b"1\n"}

    await run(rest, "echo 2 > b")
    await until(lambda: is_kept(rest, {"a": b"1\n", "b": b"2\n"}))


async def is_kept(rest, files):
    return await files_kept(rest) == files


async def test_a_file_put_there_while_the_agent_rests_is_saved(rest):
    await begin(rest)
    parts = [("files", ("up.txt", b"uploaded"))]

    await rest.ask("POST", f"{ONE}/upload-files", files=parts)

    await until(lambda: is_kept(rest, {"up.txt": b"uploaded"}))


async def test_a_turn_without_an_action_saves_nothing(rest):
    await begin(rest)
    await say(rest, "hello")
    await rest.ask("POST", f"{ONE}/stop")

    assert await files_kept(rest) is None


async def test_what_is_done_in_a_turn_that_is_cut_short_is_saved_with_the_end_of_the_loop(rest):
    await begin(rest)
    await rest.ask("POST", f"{ONE}/message", json={"message": "/run echo 1 > a\n/run sleep 60"})
    await rest.wait_for("c1", lambda event: event.get("args", {}).get("command") == "sleep 60")

    await rest.ask("POST", f"{ONE}/stop")

    assert await files_kept(rest) == {"a": b"1\n"}


async def test_a_deleted_conversation_has_no_workspace(rest):
    await begin(rest)
    await run(rest, "echo 1 > a")

    await rest.ask("DELETE", ONE)

    assert await files_kept(rest) is None


async def test_the_repository_of_a_workspace_stays_too(rest):
    await begin(rest)
    await run(rest, "git init && echo 1 > a && git add a && git commit -m x && echo 2 > a")
    await rest.ask("POST", f"{ONE}/stop")
    await rest.ask("POST", f"{ONE}/start", json={})
    await say(rest, "hello")

    changes = await rest.ask("GET", f"{ONE}/git/changes")

    assert changes.json() == [{"status": "M", "path": "a"}]


async def test_a_workspace_beyond_the_limits_is_not_kept_and_people_are_told_once():
    async with rest_server(workspace_max_files=2) as rest:
        await begin(rest)
        await run(rest, "touch a b")
        await run(rest, "touch c d")
        await run(rest, "touch e")
        await rest.ask("POST", f"{ONE}/stop")

        (told, *others) = await refusals(rest)
        assert told.startswith("The workspace is not kept for later: it has more than 2 files")
        assert len({told, *others}) == len([told, *others])


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_snapshot_that_fails_ends_no_conversation_and_leaves_what_was_kept(fault):
    async with rest_server(runtime_class=f"{HERE}:FaultyBuilder") as rest:
        await begin(rest)
        await run(rest, "echo 1 > a")
        await until(lambda: is_kept(rest, {"a": b"1\n"}))
        FaultyRuntime.fault = fault
        try:
            await run(rest, "echo 2 > a")
            await until(lambda: refusals(rest))
            await rest.ask("POST", f"{ONE}/stop")
        finally:
            FaultyRuntime.fault = ""

        assert await files_kept(rest) == {"a": b"1\n"}
        (told,) = await refusals(rest)
        assert told == "The workspace could not be saved. What was kept at an earlier rest stays."
        await run(rest, "echo 3 > b")
        await until(lambda: is_kept(rest, {"a": b"1\n", "b": b"3\n"}))


async def test_what_a_runtime_refuses_to_begin_with_stays_and_is_there_for_the_next(caplog):
    async with rest_server(runtime_class=f"{HERE}:FaultyBuilder") as rest:
        await begin(rest)
        await run(rest, "echo 1 > a")
        await rest.ask("POST", f"{ONE}/stop")
        FaultyRuntime.refuses = True
        try:
            await rest.ask("POST", f"{ONE}/message", json={"message": "/run cat a"})
            failed = await rest.wait_for(
                "c1", lambda event: event.get("extras", {}).get("agent_state") == "error"
            )
            await until(lambda: ended(rest))
        finally:
            FaultyRuntime.refuses = False

        reason = failed["extras"]["reason"]
        assert reason == "the workspace cannot be restored: the sandbox takes no files"
        assert any("failed to start" in one.message for one in caplog.records)
        assert await files_kept(rest) == {"a": b"1\n"}
        await run(rest, "cat a")
        assert any(event.get("content") == "1" for event in await log(rest))


async def test_a_runtime_that_returns_no_snapshots_runs_as_before():
    async with rest_server(runtime_class=f"{HERE}:ForgetfulBuilder") as rest:
        await begin(rest)
        await run(rest, "echo 1 > a")
        await rest.ask("POST", f"{ONE}/stop")
        await say(rest, "hello")

        assert await files_kept(rest) is None
        assert await refusals(rest) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unavailable("disk"), "the workspace cannot be read now; try again"),
        (NewerFormat("a", 9, 1), "the workspace was kept by a newer version of the server"),
        (
            WrongKey("planned"),
            "the workspace is sealed with a key that the server does not have",
        ),
    ],
)
async def test_a_loop_does_not_start_beside_a_workspace_that_cannot_be_read_now(error, words):
    async with rest_server(None, None, FaultyWorkspaces) as rest:
        await begin(rest)
        await run(rest, "echo 1 > a")
        await rest.ask("POST", f"{ONE}/stop")
        rest.workspaces.error = error
        await rest.ask("POST", f"{ONE}/message", json={"message": "/run cat a"})

        failed = await rest.wait_for(
            "c1", lambda event: event.get("extras", {}).get("agent_state") == "error"
        )
        assert failed["extras"]["reason"] == words
        await until(lambda: ended(rest))

        rest.workspaces.error = None
        await run(rest, "cat a")
        assert any(event.get("content") == "1" for event in await log(rest))


async def test_a_loop_starts_without_the_files_that_are_damaged_and_says_which():
    async with rest_server(None, None, FaultyWorkspaces) as rest:
        await begin(rest)
        await rest.ask("POST", f"{ONE}/stop")
        sound = Snapshot(files={"a": b"1\n"})
        rest.workspaces.loaded = Loaded(
            sound, tuple(f"b{number}" for number in range(12)), own_lost=True
        )
        await run(rest, "cat a")

        (told,) = await refusals(rest)
        assert "could not be restored: b0, b1, b2" in told
        assert "b9 and 2 more" in told
        assert "history" in told
        assert any(event.get("content") == "1" for event in await log(rest))


async def test_a_loop_starts_anew_where_nothing_of_what_is_kept_can_be_read():
    async with rest_server(None, None, FaultyWorkspaces) as rest:
        await begin(rest)
        await rest.ask("POST", f"{ONE}/stop")
        rest.workspaces.error = Damaged("planned")
        await rest.ask("POST", f"{ONE}/start", json={})
        await until(lambda: refusals(rest))

        assert await refusals(rest) == [
            "What was kept of the workspace is damaged: nothing of it is restored."
        ]


async def test_a_workspace_that_cannot_be_sealed_is_told_in_words():
    async with rest_server(None, None, FaultyWorkspaces) as rest:
        await begin(rest)
        rest.workspaces.error = WrongKey("/srv/parley-data/secret.key is another one")
        await run(rest, "echo 1 > a")
        await until(lambda: refusals(rest))

        (told,) = await refusals(rest)
        assert told == (
            "The workspace is not kept for later: what is kept is sealed with a key that the server"
            " does not have. What was kept at an earlier rest stays."
        )


async def test_a_storage_that_fails_is_told_once_and_the_end_of_the_loop_tries_again():
    async with rest_server(None, None, FaultyWorkspaces) as rest:
        await begin(rest)
        rest.workspaces.error = OutcomeUnknown("planned")
        await run(rest, "echo 1 > a")
        await until(lambda: refusals(rest))
        rest.workspaces.error = None

        await rest.ask("POST", f"{ONE}/stop")

        assert await files_kept(rest) == {"a": b"1\n"}
        assert len(await refusals(rest)) == 1


async def test_where_no_file_may_be_kept_nothing_is_and_nobody_is_told(tmp_path):
    async with server_over(tmp_path, "sqlite", workspace_max_files=0) as (_, api):
        key = await api.create()
        address = f"{EVERY}/{key}"
        said = {"message": "/run echo 1 > a"}
        await api.client.post(f"{address}/message?wait=turn", json=said)
        await api.client.post(f"{address}/stop")

        shown = (await api.client.get(f"{address}/workspace")).json()
        assert (shown["entries"], shown["kept_at"]) == ([], None)
        assert not any(event.get("observation") == "error" for event in await api.log(key))


class GatedRuntime(StubRuntime):
    """Waits at each snapshot until it may go on."""

    def __init__(self):
        super().__init__()
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()

    async def snapshot(self, limits: WorkspaceLimits) -> Snapshot | None:
        taken = await super().snapshot(limits)
        self.asked.set()
        await self.goes_on.wait()
        return taken


class NotingStore(FaultyWorkspaces):
    def __init__(self):
        super().__init__(lambda _: nullcontext())
        self.snapshots = []
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()
        self.goes_on.set()

    async def save(self, conversation_id, snapshot):
        self.asked.set()
        await self.goes_on.wait()
        self.snapshots.append(dict(snapshot.files))


async def gated(rests=lambda: True, inner=None):
    inner = inner or GatedRuntime()
    code = UserCode("c")
    runtime = ContainedRuntime(inner, code, Deadlines())
    store = NotingStore()
    workspaces = Workspaces(store)
    workspace = LoopWorkspace(workspaces, "c", runtime, rests=rests, tell=lambda _: None)
    await runtime.connect()
    workspace.connected()
    return inner, runtime, workspace, workspaces, store


async def test_a_rest_that_is_over_before_its_snapshot_is_taken_is_not_saved():
    resting = True
    inner, runtime, workspace, _, store = await gated(lambda: resting)
    await runtime.write_file("a", b"1")
    await inner.asked.wait()
    resting = False
    await runtime.write_file("a", b"half of it")
    inner.goes_on.set()
    await runtime.write_file("b", b"the rest")
    resting = True
    workspace.rested()
    await until(lambda: store.snapshots)
    await workspace.close(1)

    assert store.snapshots == [{"a": b"half of it", "b": b"the rest"}]


async def test_a_file_written_while_a_snapshot_is_taken_is_saved_after_it():
    inner, runtime, workspace, _, store = await gated()
    await runtime.write_file("a", b"1")
    await inner.asked.wait()
    await runtime.write_file("b", b"2")
    inner.goes_on.set()

    await until(lambda: store.snapshots)
    assert store.snapshots == [{"a": b"1", "b": b"2"}]
    await workspace.close(1)
    assert len(store.snapshots) == 1


async def test_a_snapshot_that_takes_too_long_at_the_end_is_given_up():
    inner, runtime, workspace, _, store = await gated(lambda: False)
    await runtime.write_file("a", b"1")

    await workspace.close(0.05)

    assert inner.asked.is_set()
    assert store.snapshots == []


async def test_without_a_store_no_snapshot_is_taken():
    inner = GatedRuntime()
    runtime = ContainedRuntime(inner, UserCode("c"), Deadlines())
    workspace = LoopWorkspace(Workspaces(), "c", runtime, rests=lambda: True, tell=lambda _: None)
    await workspace.restore()
    await runtime.connect()
    workspace.connected()
    await runtime.write_file("a", b"1")
    workspace.rested()
    await workspace.close(1)

    assert not inner.asked.is_set()


async def test_a_save_that_the_end_of_a_loop_cannot_wait_for_goes_on_and_the_next_loop_waits():
    _, runtime, workspace, workspaces, store = await gated(lambda: False, StubRuntime())
    store.goes_on.clear()
    await runtime.write_file("a", b"1")
    await workspace.close(0.05)
    await runtime.close()

    loading = asyncio.create_task(workspaces.load("c"))
    await store.asked.wait()
    assert store.snapshots == []
    assert not loading.done()
    store.goes_on.set()
    await loading
    assert store.snapshots == [{"a": b"1"}]


async def test_at_the_end_of_the_process_a_save_that_does_not_end_is_given_up(caplog):
    _, runtime, workspace, _, store = await gated(lambda: False, StubRuntime())
    store.goes_on.clear()
    await runtime.write_file("a", b"1")
    async with Workspaces(store, close_seconds=0.05) as workspaces:
        saving = workspaces.begin("c", lambda: runtime.snapshot(WorkspaceLimits()))
        await store.asked.wait()

    await asyncio.wait([saving.task])
    assert saving.task.cancelled()
    assert "saving the workspace of c is given up" in caplog.text
    await workspace.close(0.05)
