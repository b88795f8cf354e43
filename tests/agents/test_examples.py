"""The agents of docs/examples, and the suite for agents, which finds what it is there to find."""

import asyncio
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from docs.examples.own_loop_agent import CuratorAgent
from events.event import AgentState
from runtime_stub.agent import Agent
from runtime_stub.blocking import BlockingAgent
from runtime_stub.conformance import AgentSuite, TurnDouble
from runtime_stub.stub import StubRuntime
from runtime_stub.turn import AgentSettings, Turn
from server.turns.context import TurnUser
from tests.support.loops import Running

AWAITING = AgentState.AWAITING_USER_INPUT
PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()


def of_page(begin):
    """The names a code block of docs/agents.md defines."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (code,) = [block for block in blocks if begin in block]
    names: dict[str, object] = {}
    exec(compile(code, "agents.md", "exec"), names)  # noqa: S102 - it is what the page shows
    return names


Echo = of_page("class Echo")["Echo"]


class TestEcho(AgentSuite):
    def make_agent(self):
        return Echo()


class TestCurator(AgentSuite):
    def make_agent(self):
        return CuratorAgent()

    def make_turn(self, **options):
        return TurnDouble("What is there?", answers=["yes"], **options)


class Threaded(BlockingAgent):
    """Says a word from a thread."""

    resumes = True

    def work(self, turn):
        with turn.say() as answer:
            answer.write("One ")
            answer.write("word")


class TestThreaded(AgentSuite):
    def make_agent(self):
        return Threaded()


async def test_the_agent_of_the_page_says_what_it_was_told():
    turn = TurnDouble("hello")
    await Echo().run(turn)
    assert turn.said == ["hello"]


async def test_the_curator_lists_asks_and_removes():
    runtime = StubRuntime()
    await runtime.connect()
    await runtime.write_file("full.txt", b"one\ntwo\n")
    await runtime.write_file("empty.txt", b"")
    turn = TurnDouble("What is there?", runtime=runtime, answers=["yes"])

    await CuratorAgent().run(turn)

    assert turn.said == ["empty.txt: 0 lines\nfull.txt: 2 lines\n", "Removed."]
    assert await runtime.list_files() == ["full.txt"]


async def test_the_curator_takes_a_name_as_one_name_and_removes_no_other_file():
    runtime = StubRuntime()
    await runtime.connect()
    await runtime.write_file("my notes.txt", b"")
    await runtime.write_file("notes.txt", b"one\ntwo\n")
    await runtime.write_file("folder/inner.txt", b"one\n")
    turn = TurnDouble("What is there?", runtime=runtime, answers=["yes"])

    await CuratorAgent().run(turn)

    assert turn.said == ["my notes.txt: 0 lines\nnotes.txt: 2 lines\n", "Removed."]
    assert sorted(await runtime.list_files()) == ["folder/", "notes.txt"]


async def test_the_curator_works_in_a_server():
    runtime = StubRuntime()
    async with Running(CuratorAgent(), runtime=runtime) as one:
        await runtime.write_file("full.txt", b"one\n")
        await one.state(AWAITING, await one.say("What is there?"))
        texts = [stored.body async for stored in one.stream.search_events()]

    assert any(b"full.txt: 1 lines\\nNothing is empty." in body for body in texts)


class Leaving(Agent):
    """Leaves a task behind when it is cancelled."""

    left: asyncio.Task[None] | None = None

    async def run(self, turn: Turn) -> None:
        try:
            await turn.act(turn.cause[0])  # type: ignore[arg-type]
        except asyncio.CancelledError:
            Leaving.left = asyncio.ensure_future(asyncio.sleep(60))
            raise


class Forgetful(Agent):
    """Claims that it resumes, and does each time something else."""

    resumes = True
    times = 0

    async def run(self, turn: Turn) -> None:
        Forgetful.times += 1
        async with turn.say() as answer:
            answer.write(f"{Forgetful.times}")


async def test_the_suite_finds_a_task_that_a_stop_leaves_behind():
    suite = AgentSuite()
    suite.make_agent = Leaving  # type: ignore[method-assign]
    try:
        with pytest.raises(AssertionError, match="something went on"):
            await suite.test_a_stop_at_any_use_of_the_turn_ends_it_and_leaves_nothing_running()
    finally:
        assert Leaving.left is not None
        Leaving.left.cancel()


async def test_the_suite_finds_an_agent_that_does_not_do_the_same_again():
    suite = AgentSuite()
    suite.make_agent = Forgetful  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        await suite.test_an_agent_that_resumes_does_the_same_again_from_the_same_history()


async def test_what_the_user_has_chosen_is_read_anew_at_each_turn():
    class Chosen(TurnUser):
        model = "one"

        async def settings(self):
            return AgentSettings(llm_model=self.model)

        async def secret(self, name):
            return SecretStr(f"value of {name}")

    found = []

    class Reads(Agent):
        async def run(self, turn: Turn) -> None:
            secret = await turn.secret("TOKEN")
            found.append((turn.settings.llm_model, secret.get_secret_value()))

    user = Chosen()
    async with Running(Reads(), user=user) as one:
        await one.state(AWAITING, await one.say("a"))
        user.model = "two"
        await one.state(AWAITING, await one.say("b"))

    assert found == [("one", "value of TOKEN"), ("two", "value of TOKEN")]
