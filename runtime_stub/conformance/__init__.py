"""Suites that hold every Runtime to the contract.

Each is a class of tests; subclass it in a test module under a name that begins with `Test`, and
define how a back-end is opened. Needs pytest and pytest-asyncio, which are not installed with the
server, and assertions: run it without `-O`.
"""

from runtime_stub.conformance.runtime import RuntimeRepositorySuite, RuntimeSuite

__all__ = ["RuntimeRepositorySuite", "RuntimeSuite"]
