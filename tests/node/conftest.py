"""Fixtures of the tests with the official client."""

import pytest_asyncio

from tests.support.official import official_client
from tests.support.remote import remote
from tests.support.servers import server_process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory):
    async with server_process(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(server):
    async with remote(server.url) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def client():
    async with official_client() as opened:
        yield opened
