"""StubRuntime beyond the contract: bounds, canned answers, determinism."""

import asyncio

import pytest

from events.actions import (
    AgentThinkAction,
    BrowseURLAction,
    CmdRunAction,
    FileEditAction,
    FileReadAction,
    FileWriteAction,
    IPythonRunCellAction,
    TaskTrackingAction,
)
from events.observations import (
    AgentThinkObservation,
    BrowserOutputObservation,
    CmdOutputMetadata,
    CmdOutputObservation,
    ErrorObservation,
    FileEditObservation,
    FileReadObservation,
)
from runtime_stub.answers import MAX_TEXT_BYTES
from runtime_stub.errors import RuntimeUnavailable, WorkspaceError
from runtime_stub.stub import StubRuntime, StubRuntimeBuilder


@pytest.fixture
async def runtime():
    runtime = StubRuntime()
    await runtime.connect()
    return runtime


async def test_a_command_tells_who_and_where_it_was(runtime):
    observation = await runtime.perform(CmdRunAction(command="false"))

    assert observation.metadata == CmdOutputMetadata(
        exit_code=1, username="dev", hostname="stub", working_dir="/workspace"
    )


async def test_a_hidden_command_has_a_hidden_answer(runtime):
    answer = await runtime.perform(CmdRunAction(command="pwd", hidden=True))

    assert answer.hidden


async def test_a_command_with_a_folder_of_its_own_leaves_the_current_one(runtime):
    await runtime.perform(CmdRunAction(command="mkdir a b; cd a"))

    own = await runtime.perform(CmdRunAction(command="pwd", cwd="/workspace/b"))
    current = await runtime.perform(CmdRunAction(command="pwd"))

    assert (own.content, current.content) == ("/workspace/b", "/workspace/a")


async def test_a_workspace_takes_no_more_than_its_builder_allows():
    runtime = await StubRuntimeBuilder(max_bytes=10).build("conversation", None)
    await runtime.connect()

    with pytest.raises(WorkspaceError, match="may not exceed 10 bytes"):
        await runtime.write_file("a", b"x" * 11)
    answer = await runtime.perform(FileWriteAction(path="a", content="x" * 11))

    assert isinstance(answer, ErrorObservation)
    assert "may not exceed 10 bytes" in answer.content


async def test_a_closed_runtime_is_not_connected_again(runtime):
    await runtime.close()

    with pytest.raises(RuntimeUnavailable, match="closed"):
        await runtime.connect()


async def test_a_command_under_way_ends_when_the_runtime_is_closed(runtime):
    command = runtime.perform(CmdRunAction(command="sleep 0.01; touch a"))

    with pytest.raises(RuntimeUnavailable):
        await asyncio.gather(command, runtime.close())


async def test_a_cancelled_command_leaves_the_workspace_as_it_was(runtime):
    await runtime.perform(CmdRunAction(command="echo before > a; mkdir b; cd b"))
    command = CmdRunAction(command="echo after > ../a; cd ..; sleep 60; touch c")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await runtime.perform(command)

    assert await runtime.read_file("a") == b"before\n"
    answer = await runtime.perform(CmdRunAction(command="pwd; ls .."))
    assert answer.content == "/workspace/b\na\nb"


async def test_a_command_sees_a_file_that_is_written_while_it_runs(runtime):
    answer, _ = await asyncio.gather(
        runtime.perform(CmdRunAction(command="touch a; sleep 0.01; ls")),
        runtime.write_file("b", b"mine"),
    )

    assert answer.content == "a\nb"


async def test_a_page_is_the_same_for_every_address(runtime):
    first = await runtime.perform(BrowseURLAction(url="https://example.org/a"))
    second = await runtime.perform(BrowseURLAction(url="http://example.com"))

    assert isinstance(first, BrowserOutputObservation)
    assert (first.url, first.trigger_by_action, first.error) == (
        "https://example.org/a",
        "browse",
        False,
    )
    assert first.content.replace(first.url, "") == second.content.replace(second.url, "")


@pytest.mark.parametrize("url", ["", "example.org", "file:///etc/passwd", "http://[", "https://"])
async def test_what_is_no_address_is_refused(runtime, url):
    assert isinstance(await runtime.perform(BrowseURLAction(url=url)), ErrorObservation)


async def test_python_is_refused_politely(runtime):
    answer = await runtime.perform(IPythonRunCellAction(code="1"))

    assert isinstance(answer, ErrorObservation)
    assert "no Python" in answer.content


async def test_a_thought_is_logged(runtime):
    answer = await runtime.perform(AgentThinkAction(thought="hm"))

    assert isinstance(answer, AgentThinkObservation)


async def test_nothing_waits_for_input(runtime):
    answer = await runtime.perform(CmdRunAction(command="y", is_input=True))

    assert isinstance(answer, CmdOutputObservation)
    assert not answer.success


async def test_a_command_needs_its_folder(runtime):
    answer = await runtime.perform(CmdRunAction(command="pwd", cwd="nope"))

    assert isinstance(answer, ErrorObservation)
    assert "nope: No such folder" in answer.content


async def test_a_command_that_removes_the_current_folder_stays_in_its_own(runtime):
    await runtime.perform(CmdRunAction(command="mkdir a b; cd a"))
    await runtime.perform(CmdRunAction(command="rm -r ../a", cwd="b"))

    answer = await runtime.perform(CmdRunAction(command="pwd"))

    assert answer.content == "/workspace/b"


async def test_an_edit_creates_and_shows_a_file(runtime):
    created = await runtime.perform(FileEditAction(path="a", command="create", file_text="x\n"))
    viewed = await runtime.perform(FileEditAction(path="a", command="view"))
    unchanged = await runtime.perform(FileEditAction(path="a", content="x\n"))

    assert isinstance(created, FileEditObservation)
    assert (created.prev_exist, created.old_content) == (False, None)
    assert isinstance(viewed, FileReadObservation)
    assert viewed.content == "x\n"
    assert unchanged.content == "The file is unchanged."


async def test_a_folder_is_not_edited(runtime):
    await runtime.write_file("folder/a", b"")

    answer = await runtime.perform(FileEditAction(path="folder", content="x"))

    assert isinstance(answer, ErrorObservation)


async def test_lines_of_a_file_are_written_over(runtime):
    await runtime.write_file("a", b"1\n2\n3\n")
    await runtime.perform(FileWriteAction(path="a", content="x", start=1, end=2))
    await runtime.perform(FileWriteAction(path="new", content="x", start=1, end=2))

    assert await runtime.read_file("a") == b"1\nx\n3\n"
    assert await runtime.read_file("new") == b"x"


async def test_a_text_too_long_for_an_event_is_read_in_parts_and_not_edited(runtime):
    line = b"x" * 1023 + b"\n"
    await runtime.write_file("a", line * 1025)

    whole = await runtime.perform(FileReadAction(path="a"))
    part = await runtime.perform(FileReadAction(path="a", view_range=[1, 2]))
    edit = FileEditAction(path="a", command="insert", insert_line=0, new_str="y")
    edited = await runtime.perform(edit)

    assert isinstance(whole, ErrorObservation)
    assert part.content.encode() == line * 2
    assert isinstance(edited, ErrorObservation)
    assert await runtime.read_file("a") == line * 1025


async def test_a_file_too_long_to_split_is_not_handled_as_text(runtime):
    await runtime.write_file("a", b"\n" * (MAX_TEXT_BYTES + 1))

    answer = await runtime.perform(FileReadAction(path="a", view_range=[1, 1]))

    assert isinstance(answer, ErrorObservation)
    assert "too long" in answer.content


async def test_bytes_that_are_no_text_are_not_read_as_text(runtime):
    await runtime.write_file("a", b"\xff")

    answer = await runtime.perform(FileReadAction(path="a"))

    assert isinstance(answer, ErrorObservation)
    assert "not UTF-8" in answer.content


async def test_the_task_list_is_kept_until_it_is_replaced(runtime):
    tasks = [{"id": "1", "title": "Begin", "status": "done"}]
    await runtime.perform(TaskTrackingAction(command="plan", task_list=tasks))

    answer = await runtime.perform(TaskTrackingAction(command="view"))

    assert (answer.command, answer.task_list) == ("view", tasks)


async def test_the_task_list_is_shown_in_words(runtime):
    empty = await runtime.perform(TaskTrackingAction())
    tasks = [{"id": "1", "title": "Begin", "status": "done"}, {"id": "2", "title": "End"}]
    planned = await runtime.perform(TaskTrackingAction(command="plan", task_list=tasks))

    assert empty.content == "The task list is empty."
    assert planned.content == "1. [done] Begin\n2. [todo] End"


async def test_a_hidden_output_is_whole_or_refused(runtime):
    for count, content in ((1, 900_000), (12, None)):
        await runtime.write_file("a", b"x" * 900_000)
        line = "; ".join(["cat a"] * count)
        answer = await runtime.perform(CmdRunAction(command=line, hidden=True))
        if content is None:
            assert isinstance(answer, ErrorObservation)
            assert "the output exceeds 8388608 bytes" in answer.content
        else:
            assert len(answer.content) == content


@pytest.mark.parametrize("command", ["read", "write", "browse"])
async def test_an_error_quotes_a_path_whole_or_not_at_all(runtime, command):
    for name, quoted in (("../" + "xxx/" * 100, True), ("../" + "xxx/" * 1500, False)):
        action = {
            "read": FileReadAction(path=name),
            "write": FileWriteAction(path=name, content=""),
            "browse": BrowseURLAction(url=name),
        }[command]
        answer = await runtime.perform(action)
        assert isinstance(answer, ErrorObservation)
        assert (name in answer.content) is quoted
        assert ("xxx" in answer.content) is quoted
