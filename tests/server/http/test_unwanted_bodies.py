"""A client that sends a body nobody wants still gets its answer, whenever it begins to read."""

import asyncio
import urllib.error
import urllib.request

import httpx
import orjson
import pytest

from server.sockets.protocol import MAX_MESSAGE_BYTES
from server.sockets.transport.uvicorn_http import UNWANTED_BYTES
from tests.support.intruder import intruder
from tests.support.live import live_server
from tests.support.polling import polling_client
from tests.support.waiting import WAIT_SECONDS

BODY = b"x" * (MAX_MESSAGE_BYTES + 2**20)
JSON = {"Content-Type": "application/json"}
WITHIN = 4.0


@pytest.fixture
async def live():
    async with live_server(session_api_key="k") as opened:
        yield opened


KEY = {"X-Session-API-Key": "k"}
REFUSALS = [
    ("/api/settings", JSON | KEY, 413),
    ("/api/conversations", JSON, 401),
    ("/api/nowhere", JSON | KEY, 413),
    ("/nowhere", JSON, 413),
    ("/socket.io/?EIO=4&transport=polling&sid=unknown", {}, 413),
]


@pytest.mark.parametrize(("target", "headers", "status"), REFUSALS)
async def test_the_answer_reaches_a_client_that_sends_everything_first(
    live, target, headers, status
):
    def ask():
        request = urllib.request.Request(live.url + target, BODY, headers)  # noqa: S310 - http
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)  # noqa: S310 - http
        return refused.value.code, orjson.loads(refused.value.read())["code"]

    for _ in range(5):
        code, word = await asyncio.to_thread(ask)
        assert code == status
        assert word


async def test_a_poll_that_is_too_long_ends_its_session_at_once():
    async with live_server() as live:
        conversation_id = await live.new()
        async with polling_client(live.url, conversation_id=conversation_id) as client:
            await client.connect()
            assert (await client.send("4" + "x" * (MAX_MESSAGE_BYTES + 1024))).status_code == 400
            assert (await client.poll()).status_code == 400
        assert live.application.connections.count(conversation_id) == 0


async def test_after_an_answered_body_the_connection_serves_the_next_request(live):
    async with intruder(live.url) as one:
        headers = JSON | {"Content-Length": str(2**21)}
        answer = await one.ask("POST", "/api/conversations", headers, b"x" * 2**21)
        assert answer.status == 401
        await one.body(answer)
        assert (await one.ask("GET", "/alive")).status == 200


async def test_what_comes_behind_the_last_answer_is_dropped(live):
    async with intruder(live.url) as one:
        headers = JSON | KEY | {"Content-Length": str(len(BODY))}
        answer = await one.ask("POST", "/api/settings", headers, BODY)
        assert answer.status == 413
        await one.send(b"GET /alive HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in await one.cut(WITHIN)


async def test_a_body_without_an_end_is_read_to_a_bound(live):
    async with intruder(live.url) as one:
        headers = JSON | KEY | {"Content-Length": str(4 * UNWANTED_BYTES)}
        answer = await one.ask("POST", "/api/conversations", headers)
        assert answer.status == 413
        with pytest.raises(ConnectionError):
            await all_of(one, 3 * UNWANTED_BYTES)


async def all_of(one, size):
    for _ in range(size // 2**20):
        await one.send(b"x" * 2**20)


async def test_a_client_that_waits_for_leave_to_send_is_refused_before_it_does(live):
    async with httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as client:
        headers = JSON | KEY | {"Expect": "100-continue"}
        answer = await client.post("/api/settings", headers=headers, content=BODY)
        assert answer.status_code == 413
