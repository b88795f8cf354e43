"""Streams of Server-Sent Events of a server process that is stopped."""

import asyncio
import re
import socket

import httpx
import pytest

from server.routes.stream import RETRY_MILLISECONDS, RETRY_SPREAD_MILLISECONDS
from tests.support.clients import message
from tests.support.remote import remote
from tests.support.servers import server_process
from tests.support.sse import sse_frames
from tests.support.waiting import WAIT_SECONDS
from tests.support.writing_agent import SETTINGS, request

STREAMS = 40
RETRY = re.compile(r"^retry: (\d+)$", re.MULTILINE)


async def read_all(client, address, begun):
    """Read a stream to its end; `begun` is told when it has begun. Raises if it is broken off."""
    async with client.stream("GET", address) as response:
        text = ""
        async for piece in response.aiter_text():
            if not text:
                begun()
            text += piece
    return text


@pytest.mark.parametrize("writing", [False, True], ids=["at rest", "in mid-text"])
async def test_a_stop_ends_every_stream_in_order_and_logs_nothing(tmp_path, writing):
    # A busy machine may hold the loop, which the watch on it would say.
    unwatched = {"PARLEY_SLOW_CALLBACK_SECONDS": "0"}
    environment = SETTINGS | unwatched | {"PARLEY_SHUTDOWN_SECONDS": "8"}
    async with (
        server_process(tmp_path / "data", environment=environment) as server,
        remote(server.url) as api,
    ):
        key = await api.create()
        if writing:
            await api.post(key, message(request(1, 100_000)))
            async with sse_frames(server.url, key) as frames:
                while (await anext(frames)).data.get("type") != "text":
                    continue
        address = f"{server.url}/api/conversations/{key}/stream"
        begun = asyncio.Semaphore(0)
        async with httpx.AsyncClient(timeout=WAIT_SECONDS, limits=httpx.Limits()) as client:
            reading = [
                asyncio.create_task(read_all(client, address, begun.release))
                for _ in range(STREAMS)
            ]
            for _ in reading:
                await begun.acquire()
            code = await server.stop()
            texts = await asyncio.gather(*reading)
    assert (code, server.stderr.decode()) == (0, "")
    pauses = [[int(one) for one in RETRY.findall(text)] for text in texts]
    assert {(len(one), one[0]) for one in pauses} == {(2, RETRY_MILLISECONDS)}
    assert len({one[-1] for one in pauses}) > STREAMS // 2
    assert max(one[-1] for one in pauses) < RETRY_SPREAD_MILLISECONDS
    assert all(writing == ('"interrupted":' in text) for text in texts)


async def test_a_client_that_reads_nothing_is_dropped_at_a_stop_without_an_error(tmp_path):
    environment = {"PARLEY_SHUTDOWN_SECONDS": "8"}
    async with (
        server_process(tmp_path / "data", environment=environment) as server,
        remote(server.url) as api,
    ):
        key = await api.create()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)  # noqa: FBT003 - the socket API
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", server.port))
            path = f"/api/conversations/{key}/stream"
            await loop.sock_sendall(
                client, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
            )
            assert (await loop.sock_recv(client, 12)) == b"HTTP/1.1 200"
            for _ in range(4):
                await api.post(key, message("x" * 3_000_000))
            code = await server.stop()
    told = server.stderr.decode()
    assert code == 0
    assert "Traceback" not in told
    assert "ERROR" not in told.upper()
