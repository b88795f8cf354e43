"""A stop of a thread that waits: the turn ends at once, and what the thread left for it ends the wait."""

import logging
import threading

import pytest
from pydantic import SecretStr

from events.event import AgentState
from runtime_stub.turn import TurnOver
from storage.users.settings import Settings
from tests.support.live import live_server
from tests.support.loops import Running
from tests.support.model_endpoint import hang, model_endpoint
from tests.support.remote import CONVERSATIONS, remote
from tests.support.turn_agents import Blocks
from tests.support.waiting import until

AWAITING = AgentState.AWAITING_USER_INPUT


class Thread:
    """The work of a thread that waits, and how it ends."""

    def __init__(self):
        self.begun, self.let_go, self.ended = (threading.Event() for _ in range(3))
        self.called: list[str] = []

    def wait(self):
        """Wait as for a silent connection."""
        self.begun.set()
        self.let_go.wait()
        self.ended.set()


@pytest.fixture
def thread():
    made = Thread()
    yield made
    made.let_go.set()


def names_of_threads():
    """The names of the threads that live."""
    return {one.name for one in threading.enumerate()}


async def stopped(work, thread):
    """Have an agent work until its thread waits, and stop it."""
    async with Running(Blocks(work)) as one:
        await one.say("hi")
        await until(thread.begun.is_set)


@pytest.mark.parametrize("shown", [None, 3], ids=["silent", "mid-text"])
async def test_a_stop_ends_the_turn_and_the_models_connection_while_the_thread_waits_for_it(shown):
    agent = "docs.examples.blocking_agent:PlainChatAgent"
    async with (
        model_endpoint() as model,
        live_server(agent_class=agent, agent_threads=1) as live,
        remote(live.url) as api,
    ):
        settings = Settings(llm_base_url=model.url, llm_api_key=SecretStr("sk-1"))
        await live.users.change_settings(None, lambda _: settings)
        model.say(hang(shown, "Good morning to you"))
        one = await live.new()
        async with live.joined(one) as client:
            await client.state(AWAITING)
            await client.say("hello")
            recall = await client.event(lambda event: event.get("action") == "recall")
            request = await model.request(0)
            answer = await api.client.post(
                f"{CONVERSATIONS}/{one}/stop-turn", json={"turn": recall["id"]}
            )
            assert answer.json() == {"stopped": True}
            await until(request.left.is_set)
            assert not request.finished

            # The only place is free again.
            resting = await client.state(AgentState.STOPPED)
            said = await client.say("again")
            await client.state(AWAITING, after=resting["id"])
            await until(lambda: f"agent of {one}" not in names_of_threads())
            texts = [
                event["args"]["content"]
                for event in client.events
                if event.get("action") == "message" and event["id"] > said["id"]
            ]

    assert texts == ["Good morning to you."]


async def test_what_a_thread_left_for_a_stop_is_called_in_another_thread(thread):
    def let_go():
        thread.called.append(threading.current_thread().name)
        thread.let_go.set()

    def work(turn):
        turn.on_stop(let_go)
        thread.wait()

    await stopped(work, thread)
    await until(thread.ended.is_set)

    assert thread.called == ["stop of c"]


async def test_what_fails_at_a_stop_keeps_nothing_else_from_being_called(thread, caplog):
    def exits():
        raise SystemExit("sk-planted")

    def work(turn):
        turn.on_stop(exits)
        turn.on_stop(thread.let_go.set)
        thread.wait()

    with caplog.at_level(logging.WARNING):
        await stopped(work, thread)
        await until(thread.ended.is_set)

    assert "on_stop of c failed: SystemExit" in caplog.text
    assert "sk-planted" not in caplog.text


async def test_what_was_left_for_a_block_is_not_called_after_it(thread):
    def work(turn):
        with turn.on_stop(lambda: thread.called.append("of the block")):
            pass
        turn.on_stop(thread.let_go.set)
        thread.wait()

    await stopped(work, thread)
    await until(thread.ended.is_set)

    assert thread.called == []


async def test_at_the_end_of_a_turn_nothing_is_called_and_nothing_can_be_left(thread):
    turns = []

    def work(turn):
        turns.append(turn)
        turn.on_stop(lambda: thread.called.append("at the end"))

    async with Running(Blocks(work)) as one:
        await one.state(AWAITING, await one.say("hi"))
        with pytest.raises(TurnOver):
            turns[0].on_stop(thread.let_go.set)

    assert thread.called == []
