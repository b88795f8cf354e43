"""The loop of this folder's tests, and a pump over a store that goes wrong as it is told."""

import pytest

from events.batch import AppendQueue
from events.pump import AppendPump
from events.stores.base import Head
from events.stores.memory import MemoryEventStore
from tests.support.faulty_store import FaultyEventStore
from tests.support.quick_loop import QuickLoop


def pytest_asyncio_loop_factories(config, item):
    return {"quick": QuickLoop}


@pytest.fixture
def store():
    return FaultyEventStore(MemoryEventStore())


@pytest.fixture
def published():
    return []


@pytest.fixture
def waiting_limit():
    return 100


@pytest.fixture
def pump(store, published, waiting_limit):
    return AppendPump(
        "c",
        store,
        Head(0, None, ""),
        queue=AppendQueue(waiting_limit),
        append_seconds=10.0,
        publish=lambda events, _summary, _size: published.extend(events),
    )
