"""A connection that has ended is gone at once: none waits for the collector in a ring with itself.

Connections come and go by the thousand, and the collector looks at what is old only now and then.
"""

import asyncio
import gc
from collections import Counter
from typing import NamedTuple

import httpx
import pytest
from engineio.async_socket import AsyncSocket
from websockets.server import ServerProtocol

from server.sockets.library.server import LibraryConnection, PacketSocket
from server.sockets.transport.uvicorn_http import HttpProtocol
from server.sockets.transport.uvicorn_websocket import GuardedProtocol
from tests.support.clients import message
from tests.support.intruder import CLOSE, PING, frame, intruder, until_figure
from tests.support.leak_run import by_polling, by_upgrade, by_websocket
from tests.support.live import live_server
from tests.support.servers import LoopServer
from tests.support.waiting import WAIT_SECONDS

BOTH_WAYS = True
ROUNDS = 10
OURS = ("server.", "events.", "storage.")


async def half_a_head(live, _):
    async with intruder(live.url) as one:
        await one.send(b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: lo")


async def a_request(live, _):
    async with intruder(live.url) as one:
        assert (await one.ask("GET", "/alive")).status == 200


async def a_websocket_that_says_nothing(live, conversation_id):
    async with intruder(live.url) as one:
        await one.upgrade(f"conversation_id={conversation_id}")
        await one.message()


async def a_refused_client(live, _):
    async with intruder(live.url) as one:
        await one.upgrade("conversation_id=unknown")
        await one.message()
        await one.text("40")
        await one.message()


async def a_client_that_sends(live, conversation_id):
    async with live.raw(conversation_id) as client:
        await client.connect()
        await client.send(message("/quiet"))


async def a_client_that_leaves_during_its_replay(live, conversation_id):
    async with live.raw(conversation_id) as client:
        await client.connect()


async def a_websocket_that_pings_and_says_farewell(live, conversation_id):
    async with intruder(live.url) as one:
        await one.upgrade(f"conversation_id={conversation_id}")
        await one.message()
        await one.send(frame(PING, b"") + frame(CLOSE, (1000).to_bytes(2)))
        await one.cut()


def name_of(one):
    return f"{type(one).__module__}.{type(one).__name__}"


@pytest.fixture
def kept_garbage():
    """Return the objects of our own types that only the collector would have ended."""
    gc.collect()
    gc.freeze()  # what other tests have left costs no look any more: by the end a million objects
    gc.disable()
    of_a_server: Counter[str] = Counter()

    def find():
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found = Counter(map(name_of, gc.garbage))
        gc.garbage.clear()
        if not of_a_server:
            of_a_server.update(map(name_of, gc.get_objects()))
        # As much as a server has is what an earlier one left; of a connection's it is one for each.
        return {
            name: count
            for name, count in found.items()
            if name.startswith(OURS) and count >= ROUNDS + of_a_server[name]
        }

    yield find
    gc.set_debug(0)
    gc.garbage.clear()
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize(
    "come_and_go",
    [
        half_a_head,
        a_request,
        a_websocket_that_says_nothing,
        a_refused_client,
        a_client_that_sends,
        a_client_that_leaves_during_its_replay,
    ],
)
async def test_a_connection_that_has_ended_waits_for_no_collector(come_and_go, kept_garbage):
    async with live_server() as live:
        conversation_id = await live.new()
        await come_and_go(live, conversation_id)  # what is made at first use stays
        await until_figure(live.url, "parley_clients", 1)  # who asks
        kept_garbage()

        for _ in range(ROUNDS):
            await come_and_go(live, conversation_id)
        await until_figure(live.url, "parley_clients", 1)  # who asks

        assert kept_garbage() == {}


async def test_what_the_library_read_for_a_connection_ends_with_it(kept_garbage):
    # A suspended generator is in that ring: the collector ends it before it can be asked for it.
    async with live_server() as live:
        conversation_id = await live.new()
        kept_garbage()
        for _ in range(ROUNDS):
            await a_websocket_that_pings_and_says_farewell(live, conversation_id)
        await until_figure(live.url, "parley_clients", 1)  # who asks

        assert not [one for one in gc.get_objects() if isinstance(one, ServerProtocol)]


class Door(NamedTuple):
    """The paths by which clients connect."""

    server: LoopServer
    conversation_id: str


OF_A_CLIENT = (
    AsyncSocket,
    GuardedProtocol,
    PacketSocket,
    HttpProtocol,
    ServerProtocol,
    LibraryConnection,
)
WAYS = [
    *((by_websocket, ending) for ending in ("clean", "cut", "unfinished")),
    *((by_polling, ending) for ending in ("clean", "unfinished")),
    *((by_upgrade, ending) for ending in ("clean", "cut", "unfinished")),
]
"""A polling client that is cut is known to be gone after a ping only."""
FREED_SECONDS = 15.0
"""Less than until the next ping of a client that has left, or the next look at all."""


def alive():
    return Counter(name_of(one) for one in gc.get_objects() if isinstance(one, OF_A_CLIENT))


@pytest.mark.parametrize(("way", "ending"), WAYS)
@pytest.mark.usefixtures("kept_garbage")
async def test_what_the_server_has_of_a_client_is_freed_when_it_leaves(way, ending):
    async with (
        live_server(handshake_seconds=1) as live,
        httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as asking,
    ):
        door = Door(live.server, await live.new())
        await asking.get("/ready")
        before = alive()
        for _ in range(ROUNDS // 2):
            await way(door, ending)

        deadline = asyncio.get_running_loop().time() + FREED_SECONDS
        while (more := alive() - before) and asyncio.get_running_loop().time() < deadline:
            await asking.get("/ready")

        assert not more
