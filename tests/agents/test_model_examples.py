"""The examples that ask a model: what it is told, its calls, and what becomes of its faults."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from docs.examples import blocking_agent, langgraph_agent, openai_agent, pydantic_ai_agent
from events.event import AgentState
from events.stores.memory import MemoryEventStore
from runtime_stub.conformance import AgentSuite, TurnDouble
from runtime_stub.turn import AgentSettings
from storage.conversations.memory import MemoryConversations
from tests.support import approvals
from tests.support.asking import KEY, MODEL, asked, asking_server
from tests.support.clients import joined
from tests.support.live import live_server
from tests.support.model_endpoint import (
    PLANTED,
    ModelEndpoint,
    calls,
    cut,
    error_in_stream,
    garbage_arguments,
    hang,
    plain,
    refused,
    slow_headers,
    unknown_tool,
)
from tests.support.payloads import answers, is_answer, outcomes
from tests.support.remote import CONVERSATIONS, remote
from tests.support.servers import class_path, server_process
from tests.support.sse import following, text_begun
from tests.support.waiting import WAIT_SECONDS

EXAMPLES = {
    "blocking_agent": blocking_agent.PlainChatAgent,
    "langgraph_agent": langgraph_agent.GraphAgent,
    "openai_agent": openai_agent.ToolAgent,
    "pydantic_ai_agent": pydantic_ai_agent.CalendarAgent,
}
FOLDER = Path(blocking_agent.__file__).parent
AWAITING = AgentState.AWAITING_USER_INPUT
GRAPH, OPENAI, CALENDAR = "langgraph_agent", "openai_agent", "pydantic_ai_agent"


@pytest.fixture(params=EXAMPLES)
def example(request):
    return request.param


@pytest.fixture
async def live(example, model):
    async with asking_server(class_path(EXAMPLES[example]), model) as opened:
        yield opened


def only(*names):
    """Run a test with these examples."""
    return pytest.mark.parametrize("example", names, indirect=True)


async def failed(live, text):
    """Ask the agent what it fails at; the reason, and the whole log as text."""
    one = await live.new()
    async with joined(live.url, one) as client, remote(live.url) as api:
        await client.state(AWAITING)
        await client.say(text)
        state = await client.state(AgentState.ERROR)
        log = (await api.client.get(f"{CONVERSATIONS}/{one}/events?limit=100")).text
    return state["extras"]["reason"], log


def told(request):
    """What was told to the model, but for instructions."""
    return [one for one in request.said if one[0] != "system"]


async def test_the_model_of_the_users_settings_is_asked_and_told_the_conversation(live, model):
    model.say(plain("Good morning."), plain("Noon, I think."))
    log = await asked(live, "Hello", "What time is it?")
    second = await model.request(1)

    assert answers(log) == ["Good morning.", "Noon, I think."]
    assert told(second) == [
        ("user", "Hello"),
        ("assistant", "Good morning."),
        ("user", "What time is it?"),
    ]
    assert second.body["model"] == MODEL
    assert second.headers["authorization"] == f"Bearer {KEY}"


async def test_a_message_that_came_while_the_agent_was_at_work_is_told_last(live, model):
    release = asyncio.Event()
    model.say(slow_headers(release, "At last."), plain("And now?"))
    one = await live.new()
    async with joined(live.url, one) as client:
        await client.set_to_work("Do one.")
        await model.request(0)
        await client.say("And two.")
        release.set()
        await client.event(lambda payload: is_answer(payload) and payload["message"] == "And now?")

    assert told(model.requests[1]) == [
        ("user", "Do one."),
        ("assistant", "At last."),
        ("user", "And two."),
    ]


def says(text, payload):
    """Whether an event is a message of that text."""
    return payload.get("action") == "message" and payload["args"]["content"] == text


async def test_the_conversation_is_told_after_a_restart(example, model):
    model.say(plain("Good morning."), plain("At last."))
    kept = {"events": MemoryEventStore(), "conversations": MemoryConversations()}
    one = ""
    for text in ("Hello", "Once more"):
        async with asking_server(class_path(EXAMPLES[example]), model, **kept) as live:
            one = one or await live.new()
            async with joined(live.url, one) as client:
                said = await client.say(text)
                await client.state(AWAITING, after=said["id"])

    assert told(model.requests[1]) == [
        ("user", "Hello"),
        ("assistant", "Good morning."),
        ("user", "Once more"),
    ]


async def test_an_answer_that_a_kill_cut_short_is_begun_again(model, tmp_path):
    model.say(hang(3), plain("At last."))
    async with own_process(tmp_path, "openai_agent:ToolAgent", model) as (server, api):
        created = await api.create("Hello")
        await model.request(0)
        await text_begun(server.url, created)
        await server.kill()
        await server.start()
        async with joined(server.url, created) as client:
            await client.event(partial(says, "At last."))
        log = await api.log(created)

    assert told(model.requests[1]) == [("user", "Hello")]
    assert outcomes(log)[0] == "crashed"


@asynccontextmanager
async def own_process(data, agent_class, model, **environment):
    """A server process for an agent of somebody's own folder, and a client of it."""
    own = {"PARLEY_AGENT_CLASS": agent_class, "PYTHONPATH": str(FOLDER), **environment}
    async with server_process(data, environment=own) as server, remote(server.url) as api:
        chosen = {"llm_base_url": model.url, "llm_model": MODEL}
        await api.client.post("/api/settings", json=chosen)
        yield server, api


@only(GRAPH, OPENAI)
async def test_a_call_is_carried_out_in_the_workspace_and_told_also_in_later_turns(live, model):
    model.say(
        calls(("write", '{"path": "a.txt", "content": "one\\n"}'), text="I write it."),
        plain("It is written."),
        plain("You are welcome."),
    )
    log = await asked(live, "Write it.", "Thank you.")
    second, third = model.requests[1:]

    assert answers(log) == ["I write it.", "It is written.", "You are welcome."]
    (wrote,) = [one for one in log if one.get("action") == "write"]
    assert wrote["tool_call_metadata"]["function_name"] == "write"
    for request in (second, third):
        asked_for, result = request.messages[1:3]
        assert asked_for["content"] == "I write it."
        assert [one["function"]["name"] for one in asked_for["tool_calls"]] == ["write"]
        assert result["role"] == "tool"
        assert result["tool_call_id"] == asked_for["tool_calls"][0]["id"]
    assert told(third)[3:] == [("assistant", "It is written."), ("user", "Thank you.")]


@only(GRAPH, OPENAI)
async def test_several_calls_at_once_are_all_answered(live, model):
    model.say(
        calls(("run", '{"command": "echo one"}'), ("run", '{"command": "echo two"}')),
        plain("Both done."),
    )
    log = await asked(live, "Do both.")

    assert answers(log) == ["Both done."]
    roles = [role for role, _ in told(model.requests[1])]
    assert roles == ["user", "assistant", "tool", "tool"]


@only(GRAPH, OPENAI)
async def test_a_call_that_a_person_agrees_to_after_its_turn_is_told_and_not_made_again(
    example, model
):
    careful = {"confirmation_mode": True, "approval_patience": 0.05}
    model.say(calls(("run", '{"command": "echo one"}')), plain("It says one."))
    async with (
        asking_server(class_path(EXAMPLES[example]), model, **careful) as live,
        remote(live.url) as api,
    ):
        one = await live.new()
        async with joined(live.url, one) as client:
            approval = await approvals.asked(client, "Run it.")
            parked = await client.state(AgentState.AWAITING_USER_CONFIRMATION, after=approval)
            assert parked["extras"]["approvals"] == [approval]
            await approvals.decide(api, one, approval)
            await client.event(partial(says, "It says one."))

    assert [role for role, _ in told(model.requests[1])] == ["user", "assistant", "tool"]
    assert told(model.requests[1])[-1] == ("tool", "one")
    assert len(model.requests) == 2


@only(CALENDAR)
async def test_a_tool_of_the_agents_own_is_called_and_recorded(live, model):
    model.say(
        calls(("days_between", '{"first": "2026-11-30", "last": "2026-12-24"}')),
        plain("It is 24 days."),
    )
    log = await asked(live, "How long is it until then?")
    told_back = told(model.requests[1])[-1]

    assert answers(log) == ["It is 24 days."]
    assert told_back == ("tool", "24")
    (call,) = [one for one in log if one.get("action") == "call_tool_mcp"]
    (result,) = [one for one in log if one.get("observation") == "mcp"]
    assert call["args"]["arguments"] == {"first": "2026-11-30", "last": "2026-12-24"}
    assert call["tool_call_metadata"]["function_name"] == "days_between"
    assert (result["cause"], result["content"]) == (call["id"], "24 days")


@only(GRAPH, OPENAI, CALENDAR)
async def test_a_call_of_a_tool_that_there_is_not_is_told_to_the_model(live, model):
    model.say(unknown_tool(), plain("Then not."))
    log = await asked(live, "Beam me up.")
    role, text = told(model.requests[1])[-1]

    assert answers(log) == ["Then not."]
    assert role == "tool"
    assert "teleport" in text


@only(OPENAI, CALENDAR)
async def test_arguments_that_are_no_json_are_told_to_the_model(live, model):
    model.say(garbage_arguments(), plain("Then not."))

    assert answers(await asked(live, "Run it.")) == ["Then not."]


@only(GRAPH)
async def test_arguments_that_are_no_json_end_the_turn(live, model):
    model.say(garbage_arguments())
    reason, _ = await failed(live, "Run it.")

    assert reason == "AGENT_ERROR$MODEL_FAILED"


async def test_a_key_in_a_providers_error_is_nowhere_in_the_log(live, model):
    model.say(refused(401))
    reason, log = await failed(live, "Hello")

    assert reason == "AGENT_ERROR$MODEL_REFUSED_KEY"
    assert PLANTED not in log
    assert KEY not in log


async def test_a_model_that_fails_says_nothing_of_its_own(live, model):
    model.say(refused(400))
    reason, log = await failed(live, "Hello")

    assert reason == "AGENT_ERROR$MODEL_FAILED"
    assert PLANTED not in log


@pytest.mark.parametrize(
    ("status", "expected"),
    [(403, "MODEL_FAILED"), (429, "MODEL_BUSY"), (500, "MODEL_FAILED")],
)
async def test_a_request_that_is_refused_is_not_repeated_unseen(live, model, status, expected):
    model.say(refused(status))
    reason, log = await failed(live, "Hello")

    assert reason == f"AGENT_ERROR${expected}"
    assert len(model.requests) == 1
    assert PLANTED not in log


async def test_an_error_in_the_place_of_the_rest_is_the_models_failure(live, model):
    model.say(error_in_stream(3))
    reason, log = await failed(live, "Hello")

    assert reason == "AGENT_ERROR$MODEL_FAILED"
    assert PLANTED not in log


@only(GRAPH, OPENAI)
async def test_a_call_without_arguments_is_one_with_none(live, model):
    model.say(calls(("run", "")), plain("Then not."))
    log = await asked(live, "Run it.")

    assert answers(log) == ["Then not."]
    assert told(model.requests[1])[-1] == ("tool", "run needs command. It takes command.")


async def test_a_model_that_cannot_be_reached_ends_the_turn(live, model):
    await model.kill()
    reason, _ = await failed(live, "Hello")
    await model.start()

    assert reason == "AGENT_ERROR$MODEL_UNREACHABLE"


async def test_the_words_before_a_connection_broke_are_kept(live, model):
    seen = asyncio.Event()

    async def until_seen(reply):
        await asyncio.wait_for(seen.wait(), WAIT_SECONDS)

    model.before_fault = until_seen
    model.say(cut(3))
    one = await live.new()
    async with joined(live.url, one) as client, following(live.url, one) as followed:
        await client.state(AWAITING)
        await client.say("Hello")
        await followed.shown("Good morning to ")
        seen.set()
        state = await client.state(AgentState.ERROR)
        (said,) = [payload for payload in client.events if is_answer(payload)]

    assert state["extras"]["reason"] == "AGENT_ERROR$MODEL_UNREACHABLE"
    assert (said["message"], said["interrupted"]) == ("Good morning to ", "failed")


async def test_without_a_model_the_turn_says_that_none_is_set(example):
    async with live_server(agent_class=class_path(EXAMPLES[example])) as live:
        reason, _ = await failed(live, "Hello")

    assert reason == "AGENT_ERROR$MODEL_UNREACHABLE"


@asynccontextmanager
async def service():
    """An address, and an event that is set when somebody connects to it."""
    came = asyncio.Event()

    async def serve(reader, writer):
        came.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", came


@pytest.mark.parametrize("traced", [False, True])
async def test_a_graph_is_told_to_the_tracing_service_only_where_the_variable_says_so(
    model, tmp_path, traced
):
    async with service() as (address, came):
        variables = {"LANGSMITH_ENDPOINT": address, "LANGSMITH_API_KEY": "a key of the service"}
        if traced:
            variables["LANGSMITH_TRACING"] = "true"
        agent = "langgraph_agent:GraphAgent"
        async with own_process(tmp_path, agent, model, **variables) as (server, api):
            created = await api.create("Hello")
            async with joined(server.url, created) as client:
                await client.event(is_answer)
            if traced:
                await asyncio.wait_for(came.wait(), WAIT_SECONDS)
            await server.stop()

        assert came.is_set() == traced


class ExampleSuite(AgentSuite):
    """The suite of agents, with a model in another thread, whose tasks are none of the agent's."""

    @pytest.fixture(autouse=True)
    def _model(self):
        loop = asyncio.new_event_loop()
        thread = Thread(target=loop.run_forever, name="model")
        thread.start()
        endpoint = ModelEndpoint()
        asyncio.run_coroutine_threadsafe(endpoint.start(), loop).result(WAIT_SECONDS)
        self.chosen = AgentSettings(llm_base_url=endpoint.url, llm_model=MODEL)
        yield
        asyncio.run_coroutine_threadsafe(endpoint.kill(), loop).result(WAIT_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_SECONDS)
        loop.close()

    def make_turn(self, **options):
        return TurnDouble("Hello", settings=self.chosen, **options)


class TestBlocking(ExampleSuite):
    def make_agent(self):
        return blocking_agent.PlainChatAgent()


class TestGraph(ExampleSuite):
    def make_agent(self):
        return langgraph_agent.GraphAgent()


class TestOpenai(ExampleSuite):
    def make_agent(self):
        return openai_agent.ToolAgent()


class TestCalendar(ExampleSuite):
    def make_agent(self):
        return pydantic_ai_agent.CalendarAgent()
