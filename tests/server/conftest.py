"""Fixtures of the server's tests."""

import pytest

from tests.support.live import Delivery
from tests.support.rest import rest_server


def pytest_generate_tests(metafunc):
    """Run every suite over real sockets on both ways of serving them."""
    if metafunc.module.__name__.rpartition(".")[2].startswith("test_socket"):
        # Before any other fixture, since those that open a server read it.
        metafunc.fixturenames.insert(0, "delivery")
        metafunc.parametrize("delivery", ["direct", "engine"], indirect=True)


@pytest.fixture
def delivery(request):
    before, Delivery.chosen = Delivery.chosen, request.param
    yield request.param
    Delivery.chosen = before


@pytest.fixture
async def rest():
    async with rest_server() as opened:
        yield opened
