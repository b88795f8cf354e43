"""The conformance suites of a Runtime with a shell and a repository, as tests of pytest."""

import asyncio

import pytest
import pytest_asyncio

from events.actions import (
    BrowseInteractiveAction,
    BrowseURLAction,
    CmdRunAction,
    FileEditAction,
    FileReadAction,
    FileWriteAction,
    IPythonRunCellAction,
    MCPAction,
    NullAction,
    TaskTrackingAction,
)
from events.event import ConfirmationState
from events.observations import (
    CmdOutputObservation,
    ErrorObservation,
    FileEditObservation,
    FileReadObservation,
    FileWriteObservation,
    Observation,
    UserRejectObservation,
)
from runtime_stub.base import (
    FileChange,
    FileVersions,
    Runtime,
    RuntimeBuilder,
    RuntimeStatus,
    WorkspaceLimits,
)
from runtime_stub.errors import BadWorkspacePath, FileMissing, RuntimeUnavailable

LEAVING = ("../x", "/etc/passwd", "a/../../x", "{root}/..", "a\0b", "a\nb", "x" * 5000)


async def run(runtime: Runtime, command: str, **fields) -> CmdOutputObservation:
    observation = await runtime.perform(CmdRunAction(command=command, **fields))
    assert isinstance(observation, CmdOutputObservation)
    return observation


class RuntimeFixtures:
    """Fixtures that give each test a new runtime; a subclass makes the builder."""

    pytestmark = pytest.mark.asyncio

    def make_builder(self) -> RuntimeBuilder:
        """Return the builder under test."""
        raise NotImplementedError

    @pytest.fixture
    def builder(self) -> RuntimeBuilder:
        return self.make_builder()

    @pytest_asyncio.fixture
    async def runtime(self, builder: RuntimeBuilder):
        runtime = await builder.build("conversation", None)
        await runtime.connect()
        yield runtime
        await runtime.close()


class RuntimeSuite(RuntimeFixtures):
    """The contract of a Runtime for actions and files."""

    async def test_a_runtime_is_stopped_until_it_is_connected_and_after_it_is_closed(self, builder):
        runtime = await builder.build("conversation", "ann")
        assert runtime.status == RuntimeStatus.STOPPED

        await runtime.connect()
        await runtime.connect()
        assert runtime.status == RuntimeStatus.READY

        await runtime.close()
        await runtime.close()
        assert runtime.status == RuntimeStatus.STOPPED

    @pytest.mark.parametrize("closed", [False, True], ids=["before connect", "after close"])
    async def test_a_runtime_that_is_not_ready_says_so(self, builder, closed):
        runtime = await builder.build("conversation", None)
        if closed:
            await runtime.connect()
            await runtime.close()

        for call in (
            runtime.perform(NullAction()),
            runtime.read_file("a"),
            runtime.write_file("a", b""),
            runtime.list_files(),
            runtime.changes(),
            runtime.versions("a"),
            runtime.branch(),
        ):
            with pytest.raises(RuntimeUnavailable):
                await call

    async def test_a_command_is_answered_with_its_output_and_where_it_ran(self, runtime):
        observation = await run(runtime, "echo 'hello  there'")

        assert (observation.content, observation.success) == ("hello  there", True)
        assert observation.command == "echo 'hello  there'"
        assert observation.metadata.working_dir == runtime.root
        assert (observation.id, observation.source, observation.cause) == (None, None, None)

    async def test_a_failing_command_is_an_answer_with_its_exit_code(self, runtime):
        assert (await run(runtime, "false")).metadata.exit_code == 1

        unknown = await run(runtime, "no-such-command --now")

        assert unknown.metadata.exit_code == 127
        assert "no-such-command: command not found" in unknown.content

    async def test_the_current_folder_is_kept_from_command_to_command(self, runtime):
        await run(runtime, "mkdir -p a/b && cd a/b")

        observation = await run(runtime, "pwd")

        assert observation.content == observation.metadata.working_dir == f"{runtime.root}/a/b"

    async def test_commands_see_the_environment_and_what_is_merged_into_and_taken_from_it(
        self, runtime
    ):
        runtime.set_environment({"ONE": "1", "TWO": "2", "THREE": "3"})
        runtime.set_environment({"TWO": "zwei", "THREE": None, "FOUR": None})

        assert (await run(runtime, "echo $ONE \"${TWO}$THREE\" '$ONE'")).content == "1 zwei $ONE"

    @pytest.mark.parametrize(
        "action",
        [
            BrowseInteractiveAction(browser_actions="click('1')"),
            BrowseURLAction(url="https://example.org/"),
            BrowseURLAction(url="no address"),
            FileEditAction(path="missing", command="str_replace", old_str="a", new_str="b"),
            FileEditAction(path="../x", command="create", file_text=""),
            FileReadAction(path="missing"),
            FileReadAction(path="/etc/passwd"),
            FileWriteAction(path="/etc/passwd", content=""),
            IPythonRunCellAction(code="1"),
            MCPAction(name="tool"),
            NullAction(),
            TaskTrackingAction(command="no such"),
        ],
        ids=lambda action: action.kind,
    )
    async def test_every_action_is_answered_with_an_observation(self, runtime, action):
        observation = await runtime.perform(action)

        assert isinstance(observation, Observation)
        assert observation.content

    async def test_an_action_nobody_confirmed_is_not_carried_out(self, runtime):
        for state, answer in (
            (ConfirmationState.AWAITING_CONFIRMATION, ErrorObservation),
            (ConfirmationState.REJECTED, UserRejectObservation),
        ):
            action = CmdRunAction(command="touch a", confirmation_state=state)
            assert isinstance(await runtime.perform(action), answer)

        assert list(await runtime.list_files()) == []

    async def test_a_file_is_read_back_byte_for_byte_by_either_form_of_its_path(self, runtime):
        content = bytes(range(256))

        written = await runtime.write_file("new/folder/a.bin", content)

        assert written == f"{runtime.root}/new/folder/a.bin"
        assert await runtime.read_file("new/folder/a.bin") == content
        assert await runtime.read_file(written) == content

    @pytest.mark.parametrize("path", LEAVING)
    async def test_a_path_that_leaves_the_workspace_is_refused_at_every_door(self, runtime, path):
        path = path.format(root=runtime.root)
        for call in (
            runtime.read_file(path),
            runtime.write_file(path, b"x"),
            runtime.list_files(path),
        ):
            with pytest.raises(BadWorkspacePath):
                await call

    async def test_a_folder_is_not_written_over_and_a_file_has_nothing_below_it(self, runtime):
        await runtime.write_file("folder/a", b"")

        with pytest.raises(BadWorkspacePath):
            await runtime.write_file("folder", b"")
        with pytest.raises(BadWorkspacePath):
            await runtime.write_file("folder/a/b", b"")
        with pytest.raises(BadWorkspacePath):
            await runtime.read_file("folder")

    async def test_what_is_missing_is_told_apart(self, runtime):
        with pytest.raises(FileMissing):
            await runtime.read_file("missing")
        with pytest.raises(FileMissing):
            await runtime.list_files("missing")

    async def test_a_folder_is_listed_sorted_with_a_slash_after_folders(self, runtime):
        for path in ("b", "a/c", ".hidden", "a.txt"):
            await runtime.write_file(path, b"")

        assert list(await runtime.list_files()) == [".hidden", "a.txt", "a/", "b"]
        assert list(await runtime.list_files(f"{runtime.root}/a")) == ["c"]

    async def test_file_actions_and_commands_see_the_same_files(self, runtime):
        written = await runtime.perform(FileWriteAction(path="a.txt", content="one\ntwo\nthree\n"))
        assert isinstance(written, FileWriteObservation)
        assert (await run(runtime, "cat a.txt; echo four > b.txt")).content == "one\ntwo\nthree"

        path = f"{runtime.root}/b.txt"
        read = await runtime.perform(FileReadAction(path=path))
        assert isinstance(read, FileReadObservation)
        assert (read.path, read.content) == (path, "four\n")

        ranged = await runtime.perform(FileReadAction(path="a.txt", view_range=[2, 3]))
        assert ranged.content == "two\nthree\n"

    async def test_an_edit_tells_what_was_and_what_is(self, runtime):
        await runtime.write_file("a.txt", b"one\ntwo\n")

        edit = FileEditAction(path="a.txt", command="str_replace", old_str="two", new_str="zwei")
        observation = await runtime.perform(edit)

        assert isinstance(observation, FileEditObservation)
        assert observation.prev_exist
        assert (observation.old_content, observation.new_content) == ("one\ntwo\n", "one\nzwei\n")
        assert {"-two", "+zwei"} <= set((observation.diff or "").split("\n"))
        assert await runtime.read_file("a.txt") == b"one\nzwei\n"

    async def test_an_edit_that_fails_changes_nothing_and_says_why(self, runtime):
        await runtime.write_file("a.txt", b"twice twice")

        edit = FileEditAction(path="a.txt", command="str_replace", old_str="twice", new_str="x")
        observation = await runtime.perform(edit)

        assert isinstance(observation, ErrorObservation)
        assert "2 times" in observation.content
        assert await runtime.read_file("a.txt") == b"twice twice"

    async def test_a_cancelled_command_is_over_and_leaves_the_current_folder(
        self, builder, runtime
    ):
        await run(runtime, "mkdir a b; cd b")
        command = CmdRunAction(command="cd ../a; sleep 0.3; touch ../later")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await runtime.perform(command)

        # Elsewhere, and longer than the rest of it would take: it would have done that by then.
        other = await builder.build("other", None)
        await other.connect()
        await run(other, "sleep 0.6")
        await other.close()
        assert (await run(runtime, "pwd; ls ..")).content == f"{runtime.root}/b\na\nb"

    async def test_a_file_written_under_a_running_command_stays(self, runtime):
        _, path = await asyncio.gather(
            run(runtime, "touch a; sleep 0.01; ls"), runtime.write_file("b", b"mine")
        )

        assert (await run(runtime, "ls")).content == "a\nb"
        assert await runtime.read_file(path) == b"mine"

    async def test_actions_run_one_after_the_other(self, runtime):
        first, second = await asyncio.gather(
            run(runtime, "sleep 0.1; echo 1 > a"), run(runtime, "cat a")
        )

        assert (first.content, second.content) == ("", "1")

    async def test_a_file_action_comes_after_the_command_before_it(self, runtime):
        _, read = await asyncio.gather(
            run(runtime, "sleep 0.1; echo 1 > a"), runtime.perform(FileReadAction(path="a"))
        )

        assert isinstance(read, FileReadObservation)
        assert read.content == "1\n"

    async def test_each_runtime_has_a_workspace_of_its_own(self, builder, runtime):
        other = await builder.build("other", None)
        await other.connect()
        await other.write_file("a", b"")

        assert list(await runtime.list_files()) == []
        await other.close()


class RuntimeSnapshotSuite(RuntimeFixtures):
    """The contract of a Runtime that returns snapshots of its workspace."""

    async def restored(self, builder, snapshot):
        runtime = await builder.build("conversation", None)
        await runtime.restore(snapshot)
        await runtime.connect()
        return runtime

    async def test_a_new_workspace_has_no_files(self, runtime):
        snapshot = await runtime.snapshot(WorkspaceLimits())

        assert (snapshot.files, snapshot.folders) == ({}, frozenset())

    async def test_a_snapshot_names_files_by_paths_from_the_root_and_folders_without_any(
        self, runtime
    ):
        await runtime.write_file("a/b.txt", b"\xff\x00")
        await run(runtime, "mkdir -p c/d; touch empty")

        snapshot = await runtime.snapshot(WorkspaceLimits())

        assert snapshot.files == {"a/b.txt": b"\xff\x00", "empty": b""}
        assert snapshot.folders == {"c/d"}

    async def test_another_runtime_begins_with_what_was_there(self, builder, runtime):
        await runtime.write_file("a/b.txt", b"1\n")
        await run(runtime, "mkdir -p c/d")
        snapshot = await runtime.snapshot(WorkspaceLimits())
        await runtime.close()

        other = await self.restored(builder, snapshot)

        assert list(await other.list_files()) == ["a/", "c/"]
        assert list(await other.list_files("c")) == ["d/"]
        assert await other.read_file("a/b.txt") == b"1\n"
        assert (await run(other, "cat a/b.txt")).content == "1"
        again = await other.snapshot(WorkspaceLimits())
        assert (again.files, again.folders) == (snapshot.files, snapshot.folders)
        await other.close()

    async def test_what_is_done_later_is_in_no_earlier_snapshot(self, builder, runtime):
        await runtime.write_file("a", b"1")
        snapshot = await runtime.snapshot(WorkspaceLimits())
        await runtime.write_file("a", b"2")
        await run(runtime, "touch b")

        assert snapshot.files == {"a": b"1"}
        other = await self.restored(builder, snapshot)
        assert await other.read_file("a") == b"1"
        await other.close()

    async def test_a_command_is_in_a_snapshot_wholly_or_not_at_all(self, runtime):
        working = asyncio.create_task(run(runtime, "touch a; sleep 0.3; touch b"))
        found = []
        while not working.done():
            snapshot = await runtime.snapshot(WorkspaceLimits())
            found.append(set(snapshot.files))
            await asyncio.wait((working,), timeout=0.02)
        last = await runtime.snapshot(WorkspaceLimits())

        assert all(names in (set(), {"a", "b"}) for names in found)
        assert set(last.files) == {"a", "b"}


class RuntimeRepositorySuite(RuntimeFixtures):
    """The contract of a Runtime's repository."""

    async def test_changes_are_those_since_the_last_commit(self, runtime):
        assert await runtime.changes() is None

        await run(runtime, "git init && echo 1 > b && echo 1 > c && echo 1 > a && git add b c")
        first = [FileChange("U", "a"), FileChange("A", "b"), FileChange("A", "c")]
        assert await runtime.changes() == first

        await run(runtime, "git add a; git commit -m first")
        assert await runtime.changes() == []

        await run(runtime, "echo 2 > a; rm b; touch d")
        assert await runtime.changes() == [
            FileChange("M", "a"),
            FileChange("D", "b"),
            FileChange("U", "d"),
        ]

    async def test_a_path_is_told_as_it_was_committed_and_as_it_is(self, runtime):
        assert await runtime.versions("a") is None

        await run(
            runtime, "git init && echo 1 > a && echo 1 > b && git add a b && git commit -m first"
        )
        await run(runtime, "echo 2 > a; rm b; echo 3 > c")

        assert await runtime.versions("a") == FileVersions(b"1\n", b"2\n")
        assert await runtime.versions("b") == FileVersions(b"1\n", None)
        assert await runtime.versions("c") == FileVersions(None, b"3\n")
        assert await runtime.versions("d") == FileVersions(None, None)
        for path in LEAVING:
            with pytest.raises(BadWorkspacePath):
                await runtime.versions(path.format(root=runtime.root))

    async def test_the_branch_is_the_one_that_was_switched_to(self, runtime):
        assert await runtime.branch() is None

        await run(runtime, "git init && echo 1 > a && git add a && git commit -m first")
        before = await runtime.branch()
        await run(runtime, "git checkout -b topic")

        assert (before, await runtime.branch()) == ("main", "topic")
