"""Suites that hold every Runtime and Agent to the contract, and a Turn for tests of agents.

Each is a class of tests; subclass it in a test module under a name that begins with `Test`, and
define how a back-end is opened. Needs pytest and pytest-asyncio, which are not installed with the
server, and assertions: run it without `-O`.
"""

from runtime_stub.conformance.agent import AgentSuite, TurnDouble
from runtime_stub.conformance.runtime import (
    RuntimeRepositorySuite,
    RuntimeSnapshotSuite,
    RuntimeSuite,
)

__all__ = [
    "AgentSuite",
    "RuntimeRepositorySuite",
    "RuntimeSnapshotSuite",
    "RuntimeSuite",
    "TurnDouble",
]
