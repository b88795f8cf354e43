"""Names of tools that a model takes, and addresses that may be asked."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx2
import pytest
from hypothesis import given, strategies as st
from mcp.types import Tool as ListedTool

from runtime_stub.look_ups import LookUps
from runtime_stub.mcp.catalogue import LONGEST_NAME, catalogue_of, names_of
from runtime_stub.mcp.connection import Connection
from runtime_stub.mcp.faults import PRIVATE
from runtime_stub.mcp.listing import MOST_TOOLS, Listed, Listing, listing_of
from runtime_stub.mcp.web import is_public
from runtime_stub.outgoing import LookedUp, certificates
from runtime_stub.tools import McpOptions
from storage.users.mcp import CommandServer, EventServer, HttpServer

NAMES = st.text(st.characters(codec="utf-8"), max_size=80) | st.sampled_from(("a", "a b", "a_b"))


@given(st.lists(st.tuples(NAMES.filter(bool), st.lists(NAMES, max_size=6)), max_size=6))
def test_whatever_servers_and_tools_are_called_each_name_is_valid_and_its_own(listed):
    programs = [CommandServer(name=server, command="c") for server, _ in listed]
    connections = [
        Connection(server, name, McpOptions())
        for server, name in zip(programs, names_of(programs), strict=True)
    ]
    for connection, (_, tools) in zip(connections, listed, strict=True):
        schema = {"type": "object"}
        connection.listing = Listing([Listed(one, one, schema, 17) for one in tools])

    entries = catalogue_of(connections).entries

    assert len(entries) == sum(len(tools) for _, tools in listed)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in entries)
    assert all(name == entry.tool.name for name, entry in entries.items())
    assert [entry.listed for entry in entries.values()] == [
        one for _, tools in listed for one in tools
    ]
    assert LONGEST_NAME == 64


async def test_tools_are_looked_at_one_by_one_while_the_loop_does_other_things():
    loop, ticks = asyncio.get_running_loop(), []

    def tick():
        ticks.append("one")
        if len(ticks) < MOST_TOOLS:
            loop.call_soon(tick)

    found = [ListedTool(name=f"{one}", input_schema={"type": "object"}) for one in range(200)]
    loop.call_soon(tick)
    listing = await listing_of(found)

    assert (len(listing.tools), listing.unusable, listing.left_out) == (MOST_TOOLS, 0, 80)
    assert len(ticks) == MOST_TOOLS


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing listens there
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:0:7f00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("fec0::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("fc00::1", False),
        ("fe80::1%eth0", False),
        ("ff02::1", False),
    ],
)
def test_an_address_is_public_in_whichever_form_it_is_written(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "[::1]"])
async def test_a_request_goes_to_the_address_that_was_looked_at_under_the_name_that_was_given(host):
    heads = []

    async def answer(reader, writer):
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    address = "::1" if host == "[::1]" else "127.0.0.1"
    listener = await asyncio.start_server(answer, address, 0)
    transport = LookedUp(partial(LookUps().addresses, None), {address}.__contains__)
    async with listener, httpx2.AsyncClient(transport=transport) as client:
        port = listener.sockets[0].getsockname()[1]
        answered = await client.post(f"http://{host}:{port}/mcp", json={"a": 1})

    assert (answered.status_code, answered.text) == (200, "ok")
    assert f"host: {host}:{port}" in heads[0].lower()


class NoThreads(ThreadPoolExecutor):
    """Threads that everybody shares, and that are to be left alone."""

    def submit(self, fn, /, *args, **kwargs):
        raise AssertionError("the threads of all are used")


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("kind", [HttpServer, EventServer])
async def test_names_of_tool_servers_are_looked_up_in_threads_that_nobody_shares(kind, private):
    certificates()  # they are read in one, once
    asyncio.get_running_loop().set_default_executor(NoThreads())
    connection = Connection(
        kind(url="http://localhost:9/mcp"), "one", McpOptions(private_addresses=private)
    )
    await connection.begin()
    await connection.close()

    assert str(connection.fault) == ("it cannot be reached" if private else PRIVATE)


async def test_each_address_of_a_host_is_tried():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    transport = LookedUp(partial(LookUps(lambda _: ["127.0.0.9", "127.0.0.1"]).addresses, None))
    async with listener, httpx2.AsyncClient(transport=transport) as client:
        answered = await client.post(f"http://tools.invalid:{port}/mcp", json={"a": 1})

    assert answered.text == "ok"


async def test_a_proxy_of_the_environment_reaches_servers_where_private_addresses_are_permitted(
    monkeypatch,
):
    asked = []

    async def answer(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    server = HttpServer(url="http://tools.invalid/mcp")
    connection = Connection(server, "one", McpOptions(private_addresses=True))
    async with listener:
        await connection.begin()
        await connection.close()

    assert asked[0].startswith("POST http://tools.invalid/mcp HTTP/1.1")
