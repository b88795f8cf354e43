"""LlmAgent keeps the contract of agents."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from runtime_stub.conformance import AgentSuite, TurnDouble
from runtime_stub.llm import LlmAgent
from runtime_stub.turn import AgentSettings
from tests.support.model_endpoint import ModelEndpoint, Reply, calls, model_endpoint, plain


async def calls_then_answers(reply: Reply) -> None:
    """Call a tool first, and answer once it has been."""
    role = reply.request.messages[-1]["role"]
    called = calls(("run", '{"command": "ls"}'), text="I look.")
    await (plain("There.") if role == "tool" else called)(reply)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ModelEndpoint]:
    """An endpoint in a loop of its own, whose tasks are not the agent's."""
    ready, over = threading.Event(), asyncio.Event()
    found: list[ModelEndpoint] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with model_endpoint() as opened:
            opened.otherwise = calls_then_answers
            found.append(opened)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="endpoint")
    thread.start()
    ready.wait()
    yield found[0]
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


class TestLlmAgent(AgentSuite):
    url = ""

    @pytest.fixture(autouse=True)
    def asks(self, endpoint: ModelEndpoint) -> None:
        """Have the agent ask that endpoint."""
        self.url = endpoint.url

    def make_agent(self) -> LlmAgent:
        """See AgentSuite."""
        return LlmAgent()

    def make_turn(self, **options: object) -> TurnDouble:
        """See AgentSuite."""
        settings = AgentSettings(llm_model="gpt-x", llm_base_url=self.url)
        return TurnDouble("Hello", settings=settings, **options)  # type: ignore[arg-type]
