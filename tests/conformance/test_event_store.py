"""Every back-end of the EventStore."""

from events.conformance import EventStoreLifetimeSuite, EventStoreRestartSuite, EventStoreSuite
from tests.support.backends import DURABLE_LOGS, EVENT_STORES, open_event_store, open_logs
from tests.support.kinds import OverKinds, each_of


class TestEventStore(OverKinds, EventStoreSuite):
    kind = each_of(EVENT_STORES)

    def open(self, folder):
        return open_event_store(self.chosen, folder)


class TestEventStoreLifetime(OverKinds, EventStoreLifetimeSuite):
    kind = each_of(EVENT_STORES)

    def open(self, folder):
        return open_logs(self.chosen, folder)


class TestEventStoreRestart(OverKinds, EventStoreRestartSuite):
    kind = each_of(sorted(DURABLE_LOGS))

    def open(self, folder):
        return open_logs(self.chosen, folder)
