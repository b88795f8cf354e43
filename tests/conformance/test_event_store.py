"""Every back-end of the EventStore."""

import pytest

from events.conformance import EventStoreLifetimeSuite, EventStoreRestartSuite, EventStoreSuite
from tests.support.backends import DURABLE, EVENT_STORES, open_event_store, open_stores


class TestEventStore(EventStoreSuite):
    @pytest.fixture(autouse=True, params=EVENT_STORES)
    def kind(self, request):
        self.chosen = request.param

    def open(self, folder):
        return open_event_store(self.chosen, folder)


class TestEventStoreLifetime(EventStoreLifetimeSuite):
    @pytest.fixture(autouse=True, params=EVENT_STORES)
    def kind(self, request):
        self.chosen = request.param

    def open(self, folder):
        return open_stores(self.chosen, folder)


class TestEventStoreRestart(EventStoreRestartSuite):
    @pytest.fixture(autouse=True, params=sorted(DURABLE))
    def kind(self, request):
        self.chosen = request.param

    def open(self, folder):
        return open_stores(self.chosen, folder)
