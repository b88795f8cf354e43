"""Every runtime."""

import pytest

from runtime_stub.conformance import RuntimeRepositorySuite, RuntimeSnapshotSuite, RuntimeSuite
from runtime_stub.local.runtime import LocalRuntimeBuilder
from runtime_stub.stub import StubRuntimeBuilder
from tests.support.local_worlds import options, passable_folder


class TestStubRuntime(RuntimeSuite):
    def make_builder(self):
        return StubRuntimeBuilder()


class TestStubSnapshots(RuntimeSnapshotSuite):
    def make_builder(self):
        return StubRuntimeBuilder()


class TestStubRepository(RuntimeRepositorySuite):
    def make_builder(self):
        return StubRuntimeBuilder()


@pytest.fixture
def passable():
    with passable_folder() as folder:
        yield folder


class TestLocalRuntime(RuntimeSuite):
    @pytest.fixture
    def builder(self, passable):
        return LocalRuntimeBuilder(options(passable))


class TestLocalRepository(RuntimeRepositorySuite):
    @pytest.fixture
    def builder(self, passable):
        return LocalRuntimeBuilder(options(passable))


class TestLocalSnapshots(RuntimeSnapshotSuite):
    @pytest.fixture
    def builder(self, passable):
        return LocalRuntimeBuilder(options(passable))

    async def restored(self, builder, snapshot):
        # The directory of the same conversation is still there.
        runtime = await builder.build("elsewhere", None)
        await runtime.restore(snapshot)
        await runtime.connect()
        return runtime
