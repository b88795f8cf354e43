"""A server that may open few files: connections leave the storage what it needs."""

import asyncio
from contextlib import AsyncExitStack, suppress

import httpx
import pytest

from tests.support.clients import joined
from tests.support.remote import remote
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

FILES = 64
OTHERS = 80


async def knock(port):
    """Open a connection that says nothing, and hold it until the server ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(OSError):
            await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(("storage", "left"), [("local", 8), ("sqlite", 24)])
async def test_those_who_are_connected_are_stored_however_many_others_come(tmp_path, storage, left):
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            server_process(tmp_path, "--storage", storage, files=FILES)
        )
        async with remote(server.url) as api:
            created = await api.create()
        client = await stack.enter_async_context(joined(server.url, created))
        others = [asyncio.ensure_future(knock(server.port)) for _ in range(OTHERS)]
        try:
            answers = [await client.say(str(number)) for number in range(20)]
        finally:
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    assert [answer["status"] for answer in answers] == ["ok"] * 20
    assert (
        f"accepting at most {left} connections instead of max_connections".encode() in server.stderr
    )


async def test_a_server_that_may_open_too_few_files_says_so_and_does_not_start(tmp_path):
    with pytest.raises(AssertionError, match="may open 56 files, but --storage local needs 56"):
        async with server_process(tmp_path, "--storage", "local", files=56):
            pass


async def test_where_the_system_permits_enough_nothing_is_said(tmp_path):
    # A busy machine may hold the loop, which the watch on it would say.
    unwatched = {"PARLEY_SLOW_CALLBACK_SECONDS": "0"}
    async with server_process(tmp_path, files=20_000, environment=unwatched) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
            assert (await client.get("/alive")).status_code == 200
        await server.stop()
    assert server.stderr == b""
