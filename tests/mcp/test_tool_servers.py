"""Tool servers in a loop and in a server: every agent has them, and approvals, masks and the log hold them."""

from typing import Any

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

import runtime_stub.llm
import runtime_stub.mcp  # noqa: F401 - both take seconds, which no test should be charged with
from events.actions import MCPAction
from events.event import AgentState
from events.observations import CUT_MARK, MAX_OUTPUT_CHARACTERS, ErrorObservation, MCPObservation
from runtime_stub.turn import AgentSettings
from server.turns.context import TurnUser
from storage.users.mcp import McpConfig
from storage.users.settings import Settings
from tests.support.clients import joined
from tests.support.live import live_server
from tests.support.loops import Running, Scripts
from tests.support.model_endpoint import calls, plain
from tests.support.payloads import answers, outcomes
from tests.support.remote import CONVERSATIONS, remote
from tests.support.servers import server_process
from tests.support.tool_servers import PATIENT, program, rude, servers
from tests.support.turn_agents import Does
from tests.support.waiting import others_have_ended, until

AWAITING = AgentState.AWAITING_USER_INPUT
ASKING = AgentState.AWAITING_USER_CONFIRMATION
ADD = MCPAction(name="sums__add", arguments={"a": 1, "b": 2})
KEY = "sk-of-a-tool-server-123"


class HasServers(TurnUser):
    """A user with tool servers."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    async def settings(self):
        return AgentSettings(mcp_config=self.config)

    async def secret(self, name):
        return None


def running(agent, *programs, **options):
    """A loop whose user has these tool servers."""
    user = HasServers(servers(*programs))
    return Running(agent, user=user, **{"mcp": PATIENT, **options})


async def test_a_turn_offers_the_tools_of_the_users_servers_and_carries_them_out():
    offered: list[Any] = []
    found: list[Any] = []

    async def work(turn):
        tools = {tool.name: tool for tool in turn.tools}
        offered.extend(tool.where for tool in tools.values())
        found.append(await turn.act(tools["sums__add"].action({"a": 1, "b": 2})))

    async with running(Does(work), program()) as one:
        await one.state(AWAITING, await one.say("hi"))
        (action,) = await one.of_kind("call_tool_mcp")
        (observation,) = await one.of_kind("mcp")

    assert offered == ["runtime"] * 5 + ["mcp"] * 5
    assert found[0].content == observation.content == "3"
    assert (action.name, action.arguments) == (ADD.name, ADD.arguments)
    assert observation.cause == action.id


async def test_an_agent_that_returns_its_actions_one_by_one_has_them_too():
    async with running(Scripts(ADD), program()) as one:
        await one.state(AWAITING, await one.say("hi"))
        (observation,) = await one.of_kind("mcp")

    assert observation == MCPObservation(
        content="3", name="sums__add", arguments=ADD.arguments, **_envelope(observation)
    )


def _envelope(event):
    return {name: getattr(event, name) for name in ("id", "timestamp", "source", "cause", "turn")}


async def test_a_server_that_cannot_be_used_is_told_at_each_turn_and_ends_none():
    said = []

    async def work(turn):
        said.append(await turn.act(MCPAction(name="rude__work")))

    async with running(Does(work), rude("closes")) as one:
        await one.state(AWAITING, await one.say("hi"))
        await one.state(AWAITING, await one.say("again"))

    text = "The tool server rude cannot be used: the program ended by itself (exit code 0)."
    assert one.statuses == ["Connecting the tool servers.", text, text]
    assert [answer.content for answer in said] == [
        "There is no tool rude__work. No tool server is connected."
    ] * 2
    assert one.shown == []


async def test_a_stop_of_the_turn_cancels_the_call_at_the_server(tmp_path):
    notes = tmp_path / "notes"

    async def work(turn):
        await turn.act(MCPAction(name="sums__wait"))

    async with running(Does(work), program(notes=notes)) as one:
        after = await one.say("hi")
        await until(lambda: notes.exists() and "waits" in notes.read_text())
        await one.command(AgentState.PAUSED)
        await one.state(AgentState.PAUSED, after)
        await until(lambda: "cancelled" in notes.read_text())
        (answer,) = await one.of_kind("error")

    assert isinstance(answer, ErrorObservation)
    assert answer.content.startswith(
        "The action has not been executed because the agent was paused"
    )


async def test_an_action_has_its_own_deadline_too():
    found = []

    async def work(turn):
        found.append(await turn.act(MCPAction(name="sums__wait", timeout=0.1)))

    async with running(Does(work), program()) as one:
        await one.state(AWAITING, await one.say("hi"))

    assert found[0].content == "The action did not finish within 0.1 seconds and was given up."


async def test_of_a_long_result_the_log_has_both_ends_and_no_half_of_a_secret(tmp_path):
    async def work(turn):
        await turn.act(MCPAction(name="rude__work"))

    async with running(Does(work), rude("long", TOOL_KEY=KEY)) as one:
        one.stream.update_secrets({"key": KEY})
        await one.state(AWAITING, await one.say("hi"))
        (observation,) = await one.of_kind("mcp")

    assert len(observation.content) < MAX_OUTPUT_CHARACTERS + len(CUT_MARK) + 3
    assert CUT_MARK in observation.content
    assert KEY[:8] not in observation.content


async def test_after_the_loop_no_program_and_no_task_is_left(tmp_path):
    async def work(turn):
        await turn.act(ADD)

    before = {one.pid for one in psutil.Process().children(recursive=True)}
    async with running(Does(work), program(), rude("stays", str(tmp_path / "rude"))) as one:
        await one.state(AWAITING, await one.say("hi"))
        programs = {one.pid for one in psutil.Process().children(recursive=True)} - before
    await others_have_ended()

    assert len(programs) == 3
    await until(lambda: not any(_runs(pid) for pid in programs))


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_user_without_servers_has_the_runtimes_tools_and_no_word_is_said():
    offered: list[Any] = []
    found: list[Any] = []

    async def work(turn):
        offered.extend(turn.tools)
        found.append(await turn.act(ADD))

    async with running(Does(work)) as one:
        await one.state(AWAITING, await one.say("hi"))

    assert {tool.where for tool in offered} == {"runtime"}
    assert found[0].content == "The tool sums__add cannot be called: no tool server is connected."
    assert one.statuses == []


@pytest.fixture
async def live(model):
    async with live_server(agent_class="llm", mcp_stdio=True) as opened:
        config = McpConfig.model_validate(servers(program(TOOL_KEY=KEY)))
        settings = Settings(llm_base_url=model.url, llm_model="gpt-x", mcp_config=config)
        await opened.users.change_settings(None, lambda old: settings)
        yield opened


async def test_a_model_calls_a_tool_of_the_users_server_and_speaks_of_its_answer(live, model):
    model.say(calls(("sums__add", '{"a": 1, "b": 2}')), plain("It is 3."))
    one = await live.new()
    async with joined(live.url, one) as client, remote(live.url) as api:
        await client.state(AWAITING)
        said = await client.say("What is 1 and 2?")
        await client.state(AWAITING, after=said["id"])
        log = await api.log(one)

    first, second = await model.request(0), await model.request(1)
    offered = {each["function"]["name"]: each["function"] for each in first.body["tools"]}
    assert {"run", "sums__add"} <= offered.keys()
    assert offered["sums__add"]["description"] == "add"
    assert [(each["role"], each.get("content")) for each in second.messages[-1:]] == [("tool", "3")]
    assert [each["args"]["name"] for each in log if each.get("action") == "call_tool_mcp"] == [
        "sums__add"
    ]
    assert [each["content"] for each in log if each.get("observation") == "mcp"] == ["3"]
    assert answers(log) == ["It is 3."]


async def test_values_of_a_servers_environment_are_masked_in_the_log(live, model):
    model.say(calls(("sums__environment", "{}")), plain("Done."))
    one = await live.new()
    async with joined(live.url, one) as client, remote(live.url) as api:
        await client.state(AWAITING)
        said = await client.say("What do you see?")
        await client.state(AWAITING, after=said["id"])
        log = await api.log(one)

    assert KEY in str((await model.request(1)).messages)
    assert "TOOL_KEY=<secret_hidden>" in str(log)
    assert KEY not in str(log) + str(client.payloads)


async def test_in_confirmation_mode_a_person_agrees_to_a_tool_first():
    agent = "tests.support.turn_agents:Adds"
    async with live_server(agent_class=agent, mcp_stdio=True, confirmation_mode=True) as live:
        config = McpConfig.model_validate(servers(program()))
        await live.users.change_settings(None, lambda old: Settings(mcp_config=config))
        one = await live.new()
        async with joined(live.url, one) as client, remote(live.url) as api:
            await client.say("hi")
            asking = await client.state(ASKING)
            asked = await client.event(lambda event: event.get("action") == "call_tool_mcp")
            before = [each for each in await api.log(one) if each.get("observation") == "mcp"]
            path = f"{CONVERSATIONS}/{one}/approvals/{asked['id']}"
            decided = await api.client.post(path, json={"decision": "approve"})
            await client.state(AWAITING, after=asking["id"])
            log = await api.log(one)

    assert decided.status_code == 200
    assert before == []
    assert [each["content"] for each in log if each.get("observation") == "mcp"] == ["3"]


async def test_a_servers_programs_end_with_it_also_when_it_is_killed(tmp_path):
    environment = {"PARLEY_MCP_STDIO": "true"}
    arguments = ("--storage", "memory", "--agent", "tests.support.turn_agents:Adds")
    async with (
        server_process(tmp_path / "data", *arguments, environment=environment) as server,
        remote(server.url) as api,
    ):
        first = await added_by(server, api)
        assert await server.stop() == 0
        await until(lambda: not any(_runs(pid) for pid in first))
        await server.start()
        second = await added_by(server, api)
        await server.kill()
        await until(lambda: not any(_runs(pid) for pid in second))

    assert (len(first), len(second)) == (1, 1)


async def added_by(server, api):
    """Have numbers added in a new conversation; the processes that the server has begun."""
    settings = {"mcp_config": servers(program())}
    assert (await api.client.post("/api/settings", json=settings)).status_code == 200
    one = await api.create()
    async with joined(server.url, one) as client:
        await client.say("hi")
        found = await client.event(lambda event: event.get("observation") == "mcp")
    assert found["content"] == "3"
    return [each.pid for each in psutil.Process(server.pid).children(recursive=True)]


def notices_of(client):
    """The texts of the notices that a client got."""
    return [each["message"] for each in client.payloads if each.get("status_update")]


async def test_without_the_extra_the_user_is_told_how_to_get_it(tmp_path):
    package = tmp_path / "lib" / "mcp"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('there is none')\n")
    environment = {"PYTHONPATH": str(tmp_path / "lib"), "PARLEY_MCP_STDIO": "true"}
    arguments = ("--storage", "memory", "--agent", "tests.support.turn_agents:Adds")
    async with (
        server_process(tmp_path / "data", *arguments, environment=environment) as server,
        remote(server.url) as api,
    ):
        settings = {"mcp_config": servers(program())}
        assert (await api.client.post("/api/settings", json=settings)).status_code == 200
        one = await api.create()
        async with joined(server.url, one) as client:
            await client.state(AWAITING)
            said = await client.say("hi")
            await client.state(AWAITING, after=said["id"])
            log = await api.log(one)

    assert "pip install 'parley-server[mcp]'" in str(notices_of(client))
    assert outcomes(log) == ["done"]
