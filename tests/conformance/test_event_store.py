"""Every back-end of the EventStore."""

from events.conformance import EventStoreLifetimeSuite, EventStoreRestartSuite, EventStoreSuite
from tests.support.backends import DURABLE, EVENT_STORES, open_event_store, open_stores
from tests.support.kinds import OverKinds, each_of


class TestEventStore(OverKinds, EventStoreSuite):
    kind = each_of(EVENT_STORES)

    def open(self, folder):
        return open_event_store(self.chosen, folder)


class TestEventStoreLifetime(OverKinds, EventStoreLifetimeSuite):
    kind = each_of(EVENT_STORES)

    def open(self, folder):
        return open_stores(self.chosen, folder)


class TestEventStoreRestart(OverKinds, EventStoreRestartSuite):
    kind = each_of(sorted(DURABLE))

    def open(self, folder):
        return open_stores(self.chosen, folder)
