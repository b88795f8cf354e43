"""Suites that hold every EventStore to the contract.

Each is a class of tests; a test module of one's own subclasses it under a name that begins with
`Test` and says how a back-end is opened. Needs pytest and pytest-asyncio, which are not installed
with the server, and assertions: run it without `-O`.
"""

from events.conformance.event_store import EventStoreSuite
from events.conformance.lifetime import EventStoreLifetimeSuite, EventStoreRestartSuite

__all__ = ["EventStoreLifetimeSuite", "EventStoreRestartSuite", "EventStoreSuite"]
