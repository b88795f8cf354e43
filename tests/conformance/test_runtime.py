"""Every runtime."""

from runtime_stub.conformance import RuntimeRepositorySuite, RuntimeSnapshotSuite, RuntimeSuite
from runtime_stub.stub import StubRuntimeBuilder


class TestStubRuntime(RuntimeSuite):
    def make_builder(self):
        return StubRuntimeBuilder()


class TestStubSnapshots(RuntimeSnapshotSuite):
    def make_builder(self):
        return StubRuntimeBuilder()


class TestStubRepository(RuntimeRepositorySuite):
    def make_builder(self):
        return StubRuntimeBuilder()
