"""Fixtures of the server's tests."""

import pytest

from tests.support.rest import rest_server


@pytest.fixture
async def rest():
    async with rest_server() as opened:
        yield opened
