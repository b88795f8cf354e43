"""The tools that a turn offers a model: what they say, what they take, and that they are carried out."""

import re
from pathlib import Path

import pytest

from events.actions import ACTIONS, RUNNABLE
from events.event import AgentState
from events.observations import ErrorObservation
from runtime_stub.conformance import TurnDouble
from runtime_stub.stub import StubRuntime
from runtime_stub.tools import BadArguments, Tool, tools_for
from runtime_stub.turn import ToolCall
from tests.support.loops import Running
from tests.support.turn_agents import Does

AWAITING = AgentState.AWAITING_USER_INPUT
PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
CALLS = {
    "run": {"command": "echo hi"},
    "write": {"path": "a.txt", "content": "one\n"},
    "read": {"path": "a.txt", "start": 0, "end": -1},
    "edit": {"command": "str_replace", "path": "a.txt", "old_str": "one", "new_str": "two"},
    "task_tracking": {"command": "plan", "task_list": [{"title": "Begin", "status": "todo"}]},
}


def tool(name):
    """One tool by its name."""
    (found,) = tools_for({name})
    return found


async def test_a_turn_offers_what_its_runtime_carries_out_and_every_call_is():
    found = {}

    async def work(turn):
        for name, arguments in CALLS.items():
            (offered,) = [one for one in turn.tools if one.name == name]
            found[name] = await turn.act(offered.action(arguments), call=ToolCall(name, name))
        found["names"] = {one.name for one in turn.tools}
        found["where"] = {one.where for one in turn.tools}

    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("hi"))

    assert found.pop("names") == CALLS.keys() == StubRuntime.performs
    assert found.pop("where") == {"runtime"}
    assert not [one for one in found.values() if isinstance(one, ErrorObservation)]
    assert found["read"].content == "one\n"


async def test_a_runtime_that_names_no_kinds_offers_no_tools():
    class Bare(StubRuntime):
        performs = frozenset()

    found = []

    async def work(turn):
        found.append(turn.tools)

    async with Running(Does(work), runtime=Bare()) as one:
        await one.state(AWAITING, await one.say("hi"))

    assert found == [[]]


class Weather(StubRuntime):
    """Has a tool of its own, the same for all turns."""

    forecast = Tool("forecast", "Tell the weather.", {"type": "object", "properties": {}}, "mcp")

    async def tools(self):
        return [self.forecast]


async def test_schemas_that_an_agent_changes_are_changed_for_its_turn_alone():
    found = []

    async def work(turn):
        before = {one.name: dict(one.schema["properties"]) for one in turn.tools}
        for one in turn.tools:
            one.schema["properties"]["planted"] = {}
        turn.tools.clear()
        found.append((before, {one.name for one in turn.tools if "planted" in str(one.schema)}))

    async with Running(Does(work), runtime=Weather()) as one:
        await one.state(AWAITING, await one.say("hi"))
        await one.state(AWAITING, await one.say("again"))

    (first, changed), second = found
    assert second == (first, changed)
    assert changed == first.keys() == CALLS.keys() | {"forecast"}
    assert "planted" not in str([first, Weather.forecast, *tools_for(RUNNABLE)])


async def test_a_turn_copies_its_tools_once():
    found = []

    async def work(turn):
        found.extend([turn.tools, turn.tools])

    async with Running(Does(work), runtime=Weather()) as one:
        await one.state(AWAITING, await one.say("hi"))

    first, second = found
    assert all(one is other for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("name", sorted(one.name for one in tools_for(RUNNABLE)))
def test_a_tool_describes_itself_and_each_argument_with_its_type(name):
    described = tool(name)
    properties = described.schema["properties"]

    assert described.description.endswith(".")
    assert (
        set(described.schema["required"]) <= properties.keys() <= ACTIONS[name].model_fields.keys()
    )
    assert described.schema["additionalProperties"] is False
    for said in properties.values():
        assert said["description"]
        assert said.keys() & {"type", "anyOf"}
        assert "title" not in said


def test_only_the_runtimes_kinds_but_calls_of_tool_servers_are_tools():
    assert {one.name for one in tools_for(RUNNABLE)} == RUNNABLE - {"call_tool_mcp"}


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("run", {}, "needs command"),
        ("run", {"command": 5}, "command: Input should be a valid string"),
        ("run", [], "takes an object"),
        ("read", {"path": "a", "start": "0"}, "start: Input should be a valid integer"),
        ("run", {"command": "rm -r /", "security_risk": 0}, "does not take security_risk"),
        ("run", {"command": "ls", "confirmation_state": "confirmed"}, "confirmation_state"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_in_words_for_the_model(name, arguments, said):
    with pytest.raises(BadArguments, match=re.escape(said)):
        tool(name).action(arguments)


def test_a_schema_is_the_callers_own_to_change():
    tool("run").schema["properties"].clear()

    assert tool("run").schema["properties"].keys() == {"command"}


async def test_the_pages_way_with_a_models_call_carries_it_out_or_says_what_is_wrong():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (code,) = [block for block in blocks if "async def call" in block]
    names: dict[str, object] = {"BadArguments": BadArguments, "ToolCall": ToolCall}
    exec(compile(code, "agents.md", "exec"), names)  # noqa: S102 - it is what the page shows
    runtime = StubRuntime()
    await runtime.connect()
    turn = TurnDouble(runtime=runtime)

    async def call(name, arguments):
        return await names["call"](turn, name, arguments, "call-1")  # type: ignore[operator]

    assert await call("run", {"command": "echo hi"}) == "hi"
    assert await call("run", {}) == "run needs command. It takes command."
    assert (await call("fly", {})).startswith("There is no tool fly.")
