"""Fixtures of the server's tests."""

import pytest

from tests.support.live import Delivery
from tests.support.rest import rest_server


def pytest_generate_tests(metafunc):
    """Run every suite over real sockets on both ways of serving them."""
    module = metafunc.module
    by_name = module.__name__.rpartition(".")[2].startswith("test_socket")
    if by_name or getattr(module, "BOTH_WAYS", False):
        metafunc.parametrize("delivery", ["direct", "engine"], indirect=True)


@pytest.fixture(autouse=True)
def delivery(request):
    """Autouse, so that it comes before those that open a server, and at all."""
    before, Delivery.chosen = Delivery.chosen, getattr(request, "param", Delivery.chosen)
    yield Delivery.chosen
    Delivery.chosen = before


@pytest.fixture
async def rest():
    async with rest_server() as opened:
        yield opened
