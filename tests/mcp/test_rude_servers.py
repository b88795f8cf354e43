"""Tool servers that misbehave: each has an answer in words, and harms nobody but its own tools."""

import asyncio
import json
import logging
import re
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from events.actions import MCPAction
from events.observations import ErrorObservation
from runtime_stub.mcp.catalogue import LONGEST_NAME, MOST_SCHEMAS_BYTES
from runtime_stub.mcp.connection import Connection
from runtime_stub.mcp.faults import CLOSED
from runtime_stub.mcp.listing import MOST_TOOLS
from runtime_stub.mcp.results import FAILED_ID, UNAVAILABLE_ID
from runtime_stub.tools import McpOptions
from storage.users.mcp import McpConfig
from tests.support.plain_tool_server import ODD_NAMES, ODD_SCHEMAS
from tests.support.tool_servers import PATIENT, ToolUser, program, rude, servers, with_tools
from tests.support.waiting import others_have_ended, until

IMPATIENT = replace(PATIENT, connect_seconds=0.2)
WORK = MCPAction(name="rude__work")


def call_with(text):
    """A call of the server's tool with a text."""
    return MCPAction(name="rude__work", arguments={"text": text})


async def told_of(server, options=PATIENT):
    """What is told of a server, besides that it is connected, and which tools there are."""
    user = ToolUser(servers(server))
    async with with_tools(user, options) as runtime:
        tools = [tool.name for tool in await runtime.tools()]
    return user.told[1:], tools


async def answer_of(server):
    """What comes of a call of the server's tool, once one of another server was answered after it."""
    async with with_tools(ToolUser(servers(server, program()))) as runtime:
        answer = await runtime.perform(WORK)
        other = await runtime.perform(MCPAction(name="sums__add", arguments={"a": 1, "b": 1}))
        assert other.content == "2"
    return answer


@pytest.mark.parametrize(
    ("server", "options", "why"),
    [
        (rude("silent"), IMPATIENT, "it did not answer within 0.2 seconds"),
        (rude("garbage"), PATIENT, "it does not speak MCP"),
        (rude("closes"), PATIENT, "the program ended by itself (exit code 0)"),
        (rude("endless line"), PATIENT, "it sends more than the description of its tools needs"),
        (rude("big"), PATIENT, "it sends more than the description of its tools needs"),
        (rude("wordy"), PATIENT, "it sends more than the description of its tools needs"),
        (rude("list"), PATIENT, "it does not speak MCP"),
        ({"name": "rude", "command": "/no/such/program"}, PATIENT, "there is no such program"),
        ({"name": "rude", "command": "/"}, PATIENT, "the program cannot be started"),
        (rude("plain"), McpOptions(), "it is a program, which the setting mcp_stdio does not"),
    ],
    ids=lambda given: given.get("command", "")[-8:] if isinstance(given, dict) else None,
)
async def test_a_program_that_cannot_be_used_is_told_in_words(server, options, why):
    (told,), tools = await told_of(server, options)

    assert told.startswith(f"The tool server rude cannot be used: {why}")
    assert tools == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9/mcp", "it cannot be reached"),
        ("ftp://tools.invalid/mcp", "its address is not one of HTTP"),
        ("tools", "its address is not one of HTTP"),
        ("http://tools.invalid/mcp", "it cannot be reached"),
    ],
)
@pytest.mark.parametrize("kind", ["shttp_servers", "sse_servers"])
async def test_an_address_that_cannot_be_used_is_told_in_words(kind, url, why):
    user = ToolUser({kind: [{"url": url, "api_key": "sk-of-the-user"}]})
    async with with_tools(user) as runtime:
        assert await runtime.tools() == []

    assert [one for one in user.told if why in one]
    assert "sk-of-the-user" not in str(user.told)


@pytest.mark.parametrize("kind", ["shttp_servers", "sse_servers"])
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0", "localhost", "[::1]", "[::ffff:127.0.0.1]"),
        *("10.0.0.1", "169.254.169.254"),
    ],
)
async def test_a_private_address_is_not_asked_unless_it_is_permitted(kind, host):
    asked = asyncio.Event()

    async def answer(reader, writer):
        asked.set()
        writer.close()

    listener = await asyncio.start_server(answer, ["127.0.0.1", "::1"], 0)
    port = listener.sockets[0].getsockname()[1]
    user = ToolUser({kind: [{"url": f"http://{host}:{port}/mcp"}]})
    async with listener, with_tools(user, McpOptions()) as runtime:
        assert await runtime.tools() == []

    assert "mcp_private_addresses does not permit" in user.told[-1]
    assert not asked.is_set()


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("401 X", "it does not accept the key (HTTP 401)"),
        ("403 X", "it does not accept the key (HTTP 403)"),
        ("500 X", "it answered with an error (HTTP 500)"),
        ("307 X\r\nLocation: http://elsewhere.invalid/", "it answered with an error (HTTP 307)"),
        ("200 X\r\nContent-Type: application/json", "it does not speak MCP"),
        ("200 X\r\nContent-Type: text/html", "it does not speak MCP"),
        ("200 X\r\nContent-Encoding: gzip", "it sends more than a call needs"),
    ],
)
@pytest.mark.parametrize("kind", ["shttp_servers", "sse_servers"])
async def test_an_answer_of_http_that_is_none_of_mcp_is_told_in_words(kind, head, why):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = b"<html>sk-of-the-user</html>"
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    user = ToolUser({kind: [{"url": f"http://127.0.0.1:{port}/mcp", "api_key": "sk-of-the-user"}]})
    async with listener, with_tools(user) as runtime:
        assert await runtime.tools() == []

    assert user.told[1:] == [f"The tool server 127_0_0_1 cannot be used: {why}."]


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (429, "slow down", "Of its server 127_0_0_1: it answered with an error (HTTP 429)."),
        (401, "who are you?", "Of its server 127_0_0_1: it does not accept the key (HTTP 401)."),
        (400, '{"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "no a"}}', "no a"),
    ],
)
async def test_a_call_that_http_refuses_is_told_with_its_status_or_in_the_servers_words(
    status, body, answer
):
    async with refusing_calls(status, body) as url:
        user = ToolUser({"shttp_servers": [{"url": url}]})
        async with with_tools(user) as runtime:
            refused = await runtime.perform(MCPAction(name="127_0_0_1__work"))

    assert isinstance(refused, ErrorObservation)
    assert refused.content.endswith(answer)


ABOUT = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "web", "version": "1"}}
RESULTS: dict[str, Any] = {
    "initialize": ABOUT | {"capabilities": {"tools": {}}},
    "tools/list": {"tools": [{"name": "work", "inputSchema": {"type": "object"}}]},
}
DONE = {"content": [{"type": "text", "text": "done"}]}


async def read_request(reader):
    """The head of a request by HTTP, in lower case, and the message in it."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    size = re.search(r"content-length: (\d+)", head)
    return head, json.loads(await reader.readexactly(int(size[1]))) if size else {}


@asynccontextmanager
async def refusing_calls(status, body):
    """A server on the web whose one tool is refused; its address."""

    async def call(asked):
        return status, body

    async with web_server(call) as url:
        yield url


def on_the_web(url, kind="shttp_servers"):
    """A runtime with the tools of a server at that address."""
    return with_tools(ToolUser({kind: [{"url": url}]}))


@asynccontextmanager
async def web_server(call, stream=None):
    """A server on the web with one tool, whose calls and stream are answered as is given; its address.

    `call` gives status and body, which may still be to come, `stream` the body; without it there is none.
    """

    async def respond(reader, writer):
        head, asked = await read_request(reader)
        found = RESULTS.get(asked.get("method", ""))
        code, text, kind = (200, "", "json") if "id" in asked else (202, "", "json")
        if found is not None:
            text = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": found})
        elif asked.get("method") == "tools/call":
            code, text = await call(asked)
            if asyncio.isfuture(text):
                writer.write(
                    f"HTTP/1.1 {code} X\r\nContent-Type: application/json\r\n\r\n".encode()
                )
                writer.write((await text).encode())
                writer.close()
                return
        elif head.startswith("get "):
            code, text, kind = (405, "", "json") if stream is None else (200, stream(), "stream")
        types = {"json": "application/json", "stream": "text/event-stream"}
        fields = (
            f"Content-Type: {types[kind]}\r\nContent-Length: {len(text)}\r\nMcp-Session-Id: a\r\n"
        )
        writer.write(f"HTTP/1.1 {code} X\r\n{fields}Connection: close\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mcp"


async def test_a_server_that_ends_its_stream_without_a_pause_is_cut_off_with_a_reason():
    may_answer = asyncio.Event()

    async def never(asked):
        await may_answer.wait()
        return 200, ""

    async with web_server(never, stream=lambda: "retry: 0\n\n") as url:
        async with on_the_web(url) as runtime:
            answer = await runtime.perform(MCPAction(name="127_0_0_1__work"))
        may_answer.set()

    assert answer.content.endswith(
        "Of its server 127_0_0_1: it ends its responses again and again."
    )


async def test_each_of_the_calls_at_one_time_is_told_its_own_error_of_http():
    body = asyncio.get_running_loop().create_future()
    is_refused = asyncio.Event()

    async def call(asked):
        if asked["params"]["arguments"]:
            return 200, json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": DONE})
        is_refused.set()
        return 429, body

    async with web_server(call) as url, on_the_web(url) as runtime:
        refused = asyncio.create_task(runtime.perform(MCPAction(name="127_0_0_1__work")))
        await is_refused.wait()
        other = await runtime.perform(MCPAction(name="127_0_0_1__work", arguments={"a": 1}))
        body.set_result("slow down")
        answer = await refused

    assert other.content == "done"
    assert answer.content.endswith("it answered with an error (HTTP 429).")


@asynccontextmanager
async def event_server(statuses):
    """A server by the older HTTP, which answers calls on its stream, or by the next of these statuses."""

    async def respond(reader, writer):
        head, asked = await read_request(reader)
        if head.startswith("get "):
            kind = "Content-Type: text/event-stream\r\nConnection: close"
            writer.write(
                f"HTTP/1.1 200 X\r\n{kind}\r\n\r\nevent: endpoint\ndata: /post\n\n".encode()
            )
            streams.append(writer)
            return
        status = statuses.pop(0) if statuses and asked["method"] == "tools/call" else 202
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        writer.close()
        if status == 202 and "id" in asked:
            said = {
                "jsonrpc": "2.0",
                "id": asked["id"],
                "result": RESULTS.get(asked["method"], DONE),
            }
            streams[-1].write(f"event: message\ndata: {json.dumps(said)}\n\n".encode())

    streams: list[Any] = []
    listener = await asyncio.start_server(respond, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/sse"
    finally:
        listener.close()
        for one in streams:
            one.close()


async def test_a_call_that_the_older_http_refuses_is_told_with_its_status_and_the_next_one_is_answered():
    async with event_server([429]) as url, on_the_web(url, "sse_servers") as runtime:
        refused, done = [await runtime.perform(MCPAction(name="127_0_0_1__work")) for _ in "ab"]

    assert refused.content.endswith("it answered with an error (HTTP 429).")
    assert done.content == "done"


NONSENSE = (
    "data: secret text\n\n"
    "event: secret text\ndata: x\n\n"
    'data: {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"secret": 1}}\n\n'
)


async def test_what_a_server_says_that_is_no_message_is_not_logged(caplog):
    caplog.set_level(logging.DEBUG)
    is_streamed = asyncio.Event()

    def stream():
        is_streamed.set()
        return NONSENSE

    async def call(asked):
        await is_streamed.wait()
        return 200, json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": DONE})

    async with web_server(call, stream) as url, on_the_web(url) as runtime:
        done = await runtime.perform(MCPAction(name="127_0_0_1__work"))
        await runtime.perform(MCPAction(name="127_0_0_1__work"))

    logging.getLogger("client").warning("of somebody else's")
    assert done.content == "done"
    assert "secret" not in caplog.text
    assert "of somebody else's" in caplog.text


async def test_a_connection_that_has_ended_begins_no_link(tmp_path):
    notes = tmp_path / "notes"
    config = McpConfig.model_validate(servers(program(notes=notes)))
    connection = Connection(config.stdio_servers[0], "sums", PATIENT)
    await connection.close()
    await connection.begin()
    await others_have_ended()

    assert str(connection.fault) == CLOSED
    assert not notes.exists()


async def test_of_a_server_with_very_many_tools_as_many_are_used_as_models_take():
    told, tools = await told_of(rude("many"))

    assert len(tools) == MOST_TOOLS
    assert told == [
        "Of the tool server rude, 880 or more of the tools are left out: 120 are used in all."
    ]


async def test_of_tools_that_are_described_at_length_as_many_are_used_as_models_read():
    (text,), tools = await told_of(rude("heavy"))

    assert 0 < len(tools) * 30_000 < MOST_SCHEMAS_BYTES
    assert text == (
        f"Of the tool server rude, {60 - len(tools)} of the tools are left out: what all tools take"
        " is described at more than 1 MiB."
    )


async def test_names_that_no_model_takes_are_changed_and_each_stays_another():
    _, tools = await told_of(rude("names"))

    assert len(set(tools)) == len(ODD_NAMES)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in tools)
    assert tools[:4] == ["rude__get_page", "rude__get_page_2", "rude__get_page_3", "rude__tool"]
    assert {len(name) for name in tools[4:6]} == {LONGEST_NAME}


async def test_servers_of_one_name_have_tools_of_different_names():
    user = ToolUser(servers(program(), program(KEY="another")))
    async with with_tools(user) as runtime:
        tools = [tool.name for tool in await runtime.tools()]
        added = await runtime.perform(MCPAction(name="sums_2__add", arguments={"a": 1, "b": 2}))

    assert {"sums__add", "sums_2__add"} <= set(tools)
    assert added.content == "3"


async def test_tools_that_no_model_can_be_told_of_are_left_out():
    told, tools = await told_of(rude("schemas"))

    assert tools == ["rude__fits"]
    (text,) = told
    assert text.startswith(f"Of the tool server rude, {len(ODD_SCHEMAS)} of the tools are left out")


async def test_a_server_that_lists_pages_without_end_has_the_tools_of_some():
    assert await told_of(rude("pages")) == ([], [])


async def test_a_server_that_speaks_the_newest_protocol_alone_is_asked_in_that():
    assert (await answer_of(rude("newest"))).content == "newest"


async def test_a_server_that_failed_is_tried_again_at_a_later_turn_without_keeping_it(tmp_path):
    user = ToolUser(servers(rude("absent", str(tmp_path / "there"))))
    async with with_tools(user, replace(PATIENT, retry_seconds=0)) as runtime:
        assert await runtime.tools() == []
        (tmp_path / "there").touch()
        await until(lambda: _is_there(runtime))
        answer = await runtime.perform(WORK)

    assert answer.content == "absent"


async def _is_there(runtime):
    return [tool.name for tool in await runtime.tools()] == ["rude__work"]


async def test_lines_that_are_no_messages_are_passed_over():
    assert (await answer_of(rude("chatty"))).content == "chatty"


async def test_a_number_that_no_log_holds_is_told_as_its_text():
    assert (await answer_of(rude("counts"))).content == '{"total":"18446744073709551616"}'


async def test_half_a_character_that_an_agent_gives_reaches_no_server():
    async with with_tools(ToolUser(servers(rude("says")))) as runtime:
        said = [(await runtime.perform(call_with(text))).content for text in ("\ud800!", "whole")]

    assert said == ["\ufffd!", "whole"]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("huge", "it sends more than a call needs"),
        ("many values", "it sends more than a call needs"),
        ("asks", "it sends more than a call needs"),
        ("endless", "it sends more than a call needs"),
        ("flood", "it sends more than a call needs"),
        ("nonsense", "its answer is no result of a tool"),
        ("dies", "the program ended by itself (exit code 3)"),
    ],
)
async def test_a_call_that_is_not_answered_as_it_should_is_an_error(kind, why):
    answer = await answer_of(rude(kind))

    assert isinstance(answer, ErrorObservation)
    assert answer.error_id == UNAVAILABLE_ID
    assert answer.content == f"The tool rude__work has not answered. Of its server rude: {why}."


async def test_a_call_has_a_deadline_after_which_its_server_is_asked_again():
    user = ToolUser(servers(rude("deaf")))
    async with with_tools(user, replace(PATIENT, call_seconds=0.1)) as runtime:
        answers = [await runtime.perform(WORK), await runtime.perform(WORK)]

    text = (
        "The tool rude__work has not answered. Of its server rude: it did not answer within"
        " 0.1 seconds."
    )
    assert answers == [ErrorObservation(content=text, error_id=UNAVAILABLE_ID)] * 2


async def test_what_a_server_says_of_a_failed_call_is_the_error():
    answer = await answer_of(rude("quotes", TOOL_KEY="sk-of-the-user"))

    assert answer == ErrorObservation(
        content="no such key: sk-of-the-user", error_id=FAILED_ID
    )  # the log masks it
