"""Agents that block run in threads: the server answers meanwhile, and a thread that never ends is left."""

import threading

import pytest

from events.actions import CmdRunAction, MCPAction
from events.event import AgentState, EventSource
from runtime_stub.turn import TurnFailed, TurnOver, Usage, Window
from server.turns.threads import AgentThreads
from tests.support.live import live_server
from tests.support.loops import Running
from tests.support.remote import CONVERSATIONS, remote
from tests.support.servers import class_path
from tests.support.turn_agents import Blocking, Blocks
from tests.support.waiting import until

AWAITING = AgentState.AWAITING_USER_INPUT


@pytest.fixture
def forever():
    """The event that threads wait for which block for ever; set at the end."""
    Blocking.let_go = threading.Event()
    yield Blocking.let_go
    Blocking.let_go.set()


async def left(api):
    """The figure of threads that outlast their turn."""
    lines = (await api.client.get("/metrics")).text.splitlines()
    (line,) = [one for one in lines if one.startswith("parley_agent_threads_left ")]
    return float(line.split()[1])


async def test_everything_a_turn_offers_can_be_used_from_a_thread():
    seen: list[object] = []

    def work(turn):
        seen.append(threading.current_thread() is not threading.main_thread())
        turn.status("Working")
        turn.report(Usage("m", cost=0.1))
        seen.append(turn.act(CmdRunAction(command="pwd")).content)
        with turn.doing(MCPAction(name="clock")) as step:
            seen.append(step.agreed())
            step.result("noon")
        seen.append(len(turn.events()) > 0)
        seen.append([one.asked[0].content for one in turn.exchanges(Window())])
        seen.append([one.content for one in turn.news()])
        turn.keep(b"memory")
        with turn.say() as answer:
            answer.write("An ")
            answer.write("answer")

    async with Running(Blocks(work)) as one:
        await one.state(AWAITING, await one.say("hi"))
        said = await one.answers()

    assert seen == [True, "/workspace", True, True, ["hi"], []]
    assert said == ["An answer"]


async def test_what_is_raised_in_a_thread_ends_the_turn_as_anywhere():
    def work(turn):
        raise TurnFailed("No model today.")

    async with Running(Blocks(work)) as one:
        failed = await one.state(AgentState.ERROR, await one.say("hi"))

    assert failed.reason == "No model today."


@pytest.mark.parametrize("raised", [SystemExit(1), KeyboardInterrupt(), StopIteration()])
async def test_what_ends_a_program_ends_a_turn(raised):
    def work(turn):
        raise raised

    async with Running(Blocks(work)) as one:
        failed = await one.state(AgentState.ERROR, await one.say("hi"))

    assert failed.reason.startswith("AGENT_ERROR$FAILED: ")


async def test_a_thread_ends_at_its_next_word_once_its_turn_is_over():
    begun, let_go, ended = threading.Event(), threading.Event(), threading.Event()
    raised = []

    def work(turn):
        with turn.say() as answer:
            answer.write("Begun")
            begun.set()
            let_go.wait()
            try:
                answer.write(" and gone on")
            except TurnOver as over:
                raised.append(over)
                raise
            finally:
                ended.set()

    async with Running(Blocks(work)) as one:
        await one.say("hi")
        await until(begun.is_set)
        await one.loop.close()
        let_go.set()
        await until(ended.is_set)
        (said,) = await one.of_kind("message", EventSource.AGENT)

    assert len(raised) == 1
    assert (said.content, said.interrupted) == ("Begun", "stopped")


async def test_the_server_answers_while_an_agent_blocks_and_a_lost_thread_gives_its_place_back(
    forever,
):
    async with (
        live_server(agent_class=class_path(Blocking), agent_threads=1) as live,
        remote(live.url) as api,
    ):
        one, other = await live.new(), await live.new()
        async with live.joined(one) as client, live.joined(other) as second:
            await client.set_to_work("for ever")
            assert (await api.client.get("/alive")).status_code == 200

            await second.state(AWAITING)
            said = await second.say("after it")
            waits = await second.event(lambda told: "another agent" in str(told.get("message")))
            assert waits["status_update"] is True
            assert await left(api) == 0

            await api.client.post(f"{CONVERSATIONS}/{one}/stop")
            await second.state(AWAITING, after=said["id"])
            assert await left(api) == 1
        forever.set()

        async def none_left():
            return await left(api) == 0

        await until(none_left)


async def test_no_more_threads_begin_once_too_many_were_left_behind():
    class Counts:
        agent_threads_left = 4

    threads = AgentThreads(1, Counts())
    with pytest.raises(TurnFailed, match="Too many threads"):
        await threads.run(lambda: None, "x", lambda: None)
