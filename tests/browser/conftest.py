"""One Chromium and one server for the whole folder; a profile per test."""

import pytest_asyncio

from tests.support.browser import chromium, new_context, person
from tests.support.gallery import TITLE, gallery
from tests.support.long_log import long_log
from tests.support.servers import server_process
from tests.support.written_logs import write_log


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    async with chromium() as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(tmp_path_factory):
    # A test may leave an agent at work; no other waits for its place.
    places = {"PARLEY_MAX_CONCURRENT_CONVERSATIONS": "1000"}
    folder = tmp_path_factory.mktemp("server") / "data"
    async with server_process(folder, environment=places) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser):
    opened = await new_context(browser)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def reader(context, server):
    return await person(context, server.url)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser, server):
    """One page for all tests of a module that only call the page's scripts."""
    context = await new_context(browser)
    reader = await person(context, server.url)
    await reader.visit()
    yield reader.page
    await context.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def library(tmp_path_factory):
    """A server over conversations written beforehand: `gallery`, `thousand`, `ten-thousand`."""
    data_dir = tmp_path_factory.mktemp("library") / "data"
    await write_log(data_dir, "gallery", TITLE, gallery())
    await write_log(data_dir, "thousand", "A thousand events", long_log(1_000))
    await write_log(data_dir, "ten-thousand", "Ten thousand events", long_log(10_000))
    async with server_process(data_dir) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(context, library):
    return await person(context, library.url)
