"""Fixtures of the suites for runtimes."""

import pytest
import pytest_asyncio

from events.actions import CmdRunAction
from events.observations import CmdOutputObservation
from runtime_stub.base import Runtime, RuntimeBuilder

LEAVING = ("../x", "/etc/passwd", "a/../../x", "/workspace/..", "a\0b", "a\nb", "x" * 5000)


async def run(runtime: Runtime, command: str, **fields) -> CmdOutputObservation:
    observation = await runtime.perform(CmdRunAction(command=command, **fields))
    assert isinstance(observation, CmdOutputObservation)
    return observation


class RuntimeFixtures:
    """Gives each test a runtime of its own; a subclass makes the builder."""

    pytestmark = pytest.mark.asyncio

    def make_builder(self) -> RuntimeBuilder:
        """Return the builder under test."""
        raise NotImplementedError

    @pytest.fixture
    def builder(self) -> RuntimeBuilder:
        return self.make_builder()

    @pytest_asyncio.fixture
    async def runtime(self, builder: RuntimeBuilder):
        runtime = await builder.build("conversation", None)
        await runtime.connect()
        yield runtime
        await runtime.close()
