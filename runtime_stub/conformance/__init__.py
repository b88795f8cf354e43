"""Suites that hold every Runtime to the contract.

Each is a class of tests; a test module of one's own subclasses it under a name that begins with
`Test` and says how a back-end is opened. Needs pytest and pytest-asyncio, which are not installed
with the server, and assertions: run it without `-O`.
"""

from runtime_stub.conformance.repository import RuntimeRepositorySuite
from runtime_stub.conformance.runtime import RuntimeSuite

__all__ = ["RuntimeRepositorySuite", "RuntimeSuite"]
