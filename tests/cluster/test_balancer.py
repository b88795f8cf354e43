"""The balancer of deploy/Caddyfile: requests go to servers that are ready, one after the other."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web

from tests.support.balancer import balancer
from tests.support.waiting import until


class Server:
    """A small server that says its number, and may be not ready."""

    def __init__(self, number):
        self.number = number
        self.ready = True
        self.probes = 0

    async def __aenter__(self):
        application = web.Application()
        application.router.add_get("/ready", self.probe)
        application.router.add_route("*", "/{path:.*}", self.answer)
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        self.site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await self.site.start()
        self.port = self.runner.addresses[0][1]
        return self

    async def __aexit__(self, *error):
        await self.runner.cleanup()

    async def probe(self, request):
        self.probes += 1
        return web.Response(status=200 if self.ready else 503)

    async def answer(self, request):
        if request.headers.get("Upgrade") != "websocket":
            return web.Response(text=str(self.number))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(str(self.number))
        async for message in socket:
            await socket.send_str(message.data)
        return socket


@pytest.fixture
async def world(tmp_path):
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(Server(number)) for number in range(3)]
        ports = [server.port for server in servers]
        url = await stack.enter_async_context(balancer(ports, tmp_path))
        http = await stack.enter_async_context(aiohttp.ClientSession(url))
        yield servers, http


async def answers(http, count=30):
    """Which servers answer so many requests, and how often each."""
    found: Counter[int] = Counter()
    for _ in range(count):
        async with http.get("/api") as response:
            assert response.status == 200
            found[int(await response.text())] += 1
    return found


async def test_requests_of_one_connection_go_to_all_servers_alike(world):
    _, http = world

    assert await answers(http) == {0: 10, 1: 10, 2: 10}


async def test_a_server_that_is_not_ready_gets_nothing_until_it_is(world):
    servers, http = world
    servers[1].ready = False
    await until(lambda: _without(http, {1}))

    assert set(await answers(http)) == {0, 2}
    servers[1].ready = True
    await until(lambda: _with(http, 1))

    assert set(await answers(http)) == {0, 1, 2}


async def test_a_request_that_a_dead_server_has_not_taken_goes_to_another(world):
    servers, http = world
    await servers[2].site.stop()
    await servers[2].runner.cleanup()

    assert set(await answers(http)) == {0, 1}


async def test_websockets_pass_both_ways(world):
    _, http = world

    async with asyncio.timeout(30), http.ws_connect("/socket.io") as one:
        first = await one.receive_str()
        await one.send_str("echo")
        assert (first in {"0", "1", "2"}, await one.receive_str()) == (True, "echo")


async def _without(http, numbers):
    return not numbers & set(await answers(http, 6))


async def _with(http, number):
    return number in await answers(http, 6)
