"""Tools of real servers: offered, called, cancelled, reconnected, and what their results become."""

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from events.actions import CmdRunAction, MCPAction
from events.observations import ErrorObservation, MCPObservation
from runtime_stub.conformance import RuntimeRepositorySuite, RuntimeSnapshotSuite, RuntimeSuite
from runtime_stub.errors import RuntimeUnavailable
from runtime_stub.mcp import McpRuntime
from runtime_stub.stub import StubRuntime, StubRuntimeBuilder
from tests.support.tool_servers import (
    PATIENT,
    ToolUser,
    program,
    rude,
    sdk_program,
    servers,
    web_tool_server,
    with_tools,
)
from tests.support.waiting import others_have_ended, until


@pytest.fixture
def notes(tmp_path):
    """The file in which a tool server notes what it was asked."""
    path = tmp_path / "notes"
    path.touch()
    return path


def call(name, **arguments):
    return MCPAction(name=name, arguments=arguments)


def started(notes):
    """The processes that noted their start, from the first on."""
    lines = notes.read_text().split("\n")
    return [int(line.split()[1]) for line in lines if line.startswith("started")]


class ToolsAroundStub(StubRuntimeBuilder):
    """The in-memory runtime, with tool servers around it."""

    async def build(self, conversation_id, user_id):
        inner = await super().build(conversation_id, user_id)
        return McpRuntime(inner, ToolUser(None).read)


class TestMcpRuntime(RuntimeSuite):
    def make_builder(self):
        return ToolsAroundStub()


class TestMcpSnapshots(RuntimeSnapshotSuite):
    def make_builder(self):
        return ToolsAroundStub()


class TestMcpRepository(RuntimeRepositorySuite):
    def make_builder(self):
        return ToolsAroundStub()


async def test_tools_of_a_program_are_offered_with_its_schemas_and_their_results_are_typed(notes):
    async with with_tools(ToolUser(servers(sdk_program(notes)))) as runtime:
        tools = {tool.name: tool for tool in await runtime.tools()}
        added = await runtime.perform(tools["sdk__add"].action({"a": 1, "b": 2}))
        weather = await runtime.perform(call("sdk__weather", city="Rome"))
        picture = await runtime.perform(call("sdk__picture"))
        failed = await runtime.perform(call("sdk__fail", why="it rains"))
        wrong = await runtime.perform(call("sdk__add", a="one"))
        waiting = asyncio.create_task(runtime.perform(call("sdk__wait")))
        await until(lambda: "waits" in notes.read_text())
        waiting.cancel()
        await until(lambda: "cancelled" in notes.read_text())

    assert tools["sdk__add"].where == "mcp"
    assert tools["sdk__add"].description == "Add two numbers."
    assert tools["sdk__add"].schema["required"] == ["a", "b"]
    assert added == MCPObservation(content="3", name="sdk__add", arguments={"a": 1, "b": 2})
    assert json.loads(weather.content) == {"city": "Rome", "degrees": 21}
    assert picture.content == "[picture: image/png, 70 bytes]"
    assert isinstance(failed, ErrorObservation)
    assert failed.content == "Error executing tool fail: it rains"
    assert isinstance(wrong, ErrorObservation)
    assert "valid integer" in wrong.content


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_a_server_on_the_web_gets_the_users_key_and_is_asked_again_when_it_comes_back(
    notes, transport
):
    async with web_tool_server(transport, notes) as server:
        kind = "sse_servers" if transport == "sse" else "shttp_servers"
        user = ToolUser(servers(**{kind: [{"url": server.url, "api_key": "sk-of-the-user"}]}))
        async with with_tools(user) as runtime:
            tools = [tool.name for tool in await runtime.tools()]
            said = await runtime.perform(call("127_0_0_1__authorization"))
            huge = await runtime.perform(call("127_0_0_1__repeat", text="x" * 1024, times=9 * 1024))
            await server.kill()
            gone = await runtime.perform(call("127_0_0_1__add", a=2, b=2))
            await server.start()
            after = await runtime.perform(call("127_0_0_1__add", a=3, b=3))
            await server.kill()
            await server.start()
            unnoticed = await runtime.perform(call("127_0_0_1__add", a=4, b=4))

    assert "127_0_0_1__add" in tools
    assert said.content == "Bearer sk-of-the-user"
    assert isinstance(huge, ErrorObservation)
    assert huge.content.startswith("The tool 127_0_0_1__repeat has not answered.")
    assert isinstance(gone, ErrorObservation)
    assert "Of its server 127_0_0_1: it c" in gone.content
    assert "add 2 2" not in notes.read_text()
    assert after.content == "6"
    assert unnoticed.content == "8"


async def test_a_program_gets_the_users_variables_and_a_few_of_the_servers(monkeypatch):
    monkeypatch.setenv("PARLEY_SECRET_KEY", "planted-secret-of-the-server")
    user = ToolUser(servers(program(TOOL_KEY="sk-of-the-user")))
    async with with_tools(user) as runtime:
        found = await runtime.perform(call("sums__environment"))

    names = {line.partition("=")[0] for line in found.content.split("\n")}
    assert "TOOL_KEY=sk-of-the-user" in found.content.split("\n")
    assert names <= {"TOOL_KEY", "HOME", "LANG", "LC_CTYPE", "LOGNAME", "PATH", "TMPDIR", "USER"}
    assert "PATH" in names


async def test_a_cancelled_call_is_cancelled_at_the_server(notes):
    async with with_tools(ToolUser(servers(program(notes=notes)))) as runtime:
        waiting = asyncio.create_task(runtime.perform(call("sums__wait")))
        await until(lambda: "waits" in notes.read_text())
        waiting.cancel()
        await asyncio.wait([waiting])
        await until(lambda: "cancelled" in notes.read_text())
        after = await runtime.perform(call("sums__add", a=1, b=1))

    assert waiting.cancelled()
    assert after.content == "2"
    assert len(started(notes)) == 1


async def test_calls_go_side_by_side_and_beside_actions_of_the_workspace(notes):
    async with with_tools(ToolUser(servers(program(notes=notes)))) as runtime:
        waiting = asyncio.create_task(runtime.perform(call("sums__wait")))
        await until(lambda: "waits" in notes.read_text())
        added, said = await asyncio.gather(
            runtime.perform(call("sums__add", a=2, b=2)),
            runtime.perform(CmdRunAction(command="echo here")),
        )
        waiting.cancel()
        await asyncio.wait([waiting])

    assert (added.content, said.content) == ("4", "here")


async def test_a_program_that_has_died_is_started_again_at_the_next_call(notes):
    async with with_tools(ToolUser(servers(program(notes=notes)))) as runtime:
        await runtime.tools()
        left = await runtime.perform(call("sums__leave"))
        added = await runtime.perform(call("sums__add", a=1, b=2))
        first, second = started(notes)
        os.kill(second, 9)
        await until(lambda: not _is_up(runtime))
        again = await runtime.perform(call("sums__add", a=2, b=3))

    assert isinstance(left, ErrorObservation)
    assert left.content.endswith("Of its server sums: the program ended by itself (exit code 7).")
    assert (added.content, again.content) == ("3", "5")
    assert first != second
    assert len(started(notes)) == 3


async def test_what_a_program_leaves_behind_when_it_ends_is_ended_with_it(notes):
    async with with_tools(ToolUser(servers(program(notes=notes)))) as runtime:
        await runtime.tools()
        left = await runtime.perform(call("sums__abandon"))
        (abandoned,) = [
            int(line.split()[1]) for line in notes.read_text().split("\n") if "abandons" in line
        ]
        await until(lambda: not psutil.pid_exists(abandoned))

    assert isinstance(left, ErrorObservation)


async def test_a_change_of_the_users_servers_counts_from_the_next_call_on(notes):
    user = ToolUser(servers(program("one", notes=notes)))
    async with with_tools(user) as runtime:
        assert {tool.name.split("__")[0] for tool in await runtime.tools()} == {"one"}
        user.config = servers(program("one", notes=notes), program("two"))
        added = await runtime.perform(call("two__add", a=1, b=1))
        user.config = servers(program("two"))
        gone = await runtime.perform(call("one__add", a=1, b=1))
        (pid,) = started(notes)
        await until(lambda: not psutil.pid_exists(pid))

    assert added.content == "2"
    assert gone.content.startswith("There is no tool one__add. There are: two__add, ")


async def test_after_the_end_no_program_and_no_task_is_left(notes):
    user = ToolUser(servers(program(notes=notes), rude("stays", str(notes) + ".rude")))
    async with with_tools(user) as runtime:
        await runtime.tools()
        waiting = asyncio.create_task(runtime.perform(call("sums__wait")))
        await until(lambda: "waits" in notes.read_text())
        stubborn = [int(one) for one in Path(f"{notes}.rude").read_text().split()]
        processes = [*started(notes), *stubborn]
        assert all(psutil.pid_exists(pid) for pid in processes)

    await others_have_ended()
    await until(lambda: not any(_runs(pid) for pid in processes))
    assert isinstance(waiting.result(), ErrorObservation)
    with pytest.raises(RuntimeUnavailable):
        await runtime.perform(call("sums__add", a=1, b=1))


def _is_up(runtime):
    """Whether the first tool server is known to be there."""
    link = runtime._connections[0]._link
    return link is not None and link.is_up


def _runs(pid):
    """Whether a process runs; one whose parent has not waited for it does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("moment", ["as the first exists", "once both run"])
async def test_an_end_while_servers_are_connected_leaves_nothing(notes, moment):
    before = {one.pid for one in psutil.Process().children()}
    silent = [program(name, "silent", notes=notes) for name in ("one", "two")]
    options = replace(PATIENT, connect_seconds=3600)  # they are not given up meanwhile
    runtime = McpRuntime(StubRuntime(), ToolUser(servers(*silent)).read, options)
    await runtime.connect()
    listing = asyncio.create_task(runtime.tools())
    if moment == "once both run":
        await until(lambda: len(started(notes)) == 2)
    else:
        await until(lambda: {one.pid for one in psutil.Process().children()} - before)
    begun = {one.pid for one in psutil.Process().children()} - before
    assert not listing.done()

    await runtime.close()
    await others_have_ended()

    assert listing.done()
    await until(lambda: not any(map(_runs, begun | {*started(notes)})))
    await until(lambda: {one.pid for one in psutil.Process().children()} <= before)
