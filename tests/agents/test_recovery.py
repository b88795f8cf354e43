"""The recovery of a log that an earlier loop left: turns cut short, old logs, open actions."""

import asyncio

import pytest

from events.actions import ChangeAgentStateAction, CmdRunAction, MessageAction
from events.event import AgentState
from events.observations import CmdOutputObservation
from events.stores.memory import MemoryEventStore
from runtime_stub.agent import Agent
from runtime_stub.scripted import ScriptedAgent
from runtime_stub.stub import StubRuntime
from runtime_stub.turn import Reason, Turn
from tests.support.faulty_store import FaultyEventStore, Held, fails, passes
from tests.support.loops import Running, Scripts
from tests.support.written_turns import (
    AGENT,
    AWAITING,
    FAILED_ID,
    SERVER,
    SYSTEM,
    USER,
    answers,
    closed,
    come_up,
    ended,
    ends,
    log_of,
    lost,
    recall,
    says,
    state,
)


class Telling(Agent):
    """Says what it was asked, and at which attempt."""

    resumes = True
    idempotent = frozenset(("run",))

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        texts = [one.content for one in turn.cause if isinstance(one, MessageAction)]
        async with turn.say() as answer:
            answer.write(f"{texts} at {turn.attempt}")


class TellingOnce(Telling):
    """The same, and does not resume."""

    resumes = False
    idempotent = frozenset()


class Counting(StubRuntime):
    """Counts the actions it performs."""

    def __init__(self):
        super().__init__()
        self.performed: list[str] = []

    async def perform(self, action):
        self.performed.append(action.command)
        return CmdOutputObservation(content="done", command=action.command)


RUNNING, RESTS, STOPPED = state("running"), state("awaiting_user_input"), state("stopped")


@pytest.mark.parametrize("agent", [TellingOnce, ScriptedAgent])
async def test_a_turn_without_an_end_is_told_as_lost(agent):
    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING)
    found = await come_up(store, agent())

    assert lost(found) == [1]
    assert ends(found) == [(2, "crashed")]
    assert answers(found) == []
    for _ in range(2):
        assert lost(await come_up(store, agent())) == []


async def test_a_turn_without_an_end_is_begun_again_by_an_agent_that_resumes():
    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING)
    found = await come_up(store, Telling())

    assert answers(found) == ["['a'] at 2"]
    assert lost(found) == []
    assert [outcome for _, outcome in ends(found)] == ["crashed", "done"]


async def test_all_messages_of_a_turn_are_told_or_begun_again():
    events = SYSTEM, says("a"), says("b"), recall(1), recall(2, turn=3), RUNNING
    assert lost(await come_up(await log_of(*events), TellingOnce())) == [1, 2]
    assert answers(await come_up(await log_of(*events), Telling())) == ["['a', 'b'] at 2"]


@pytest.mark.parametrize(("marks", "told"), [(1, False), (2, True), (3, True)])
async def test_a_message_is_taken_up_so_many_times_and_no_more(marks, told):
    store = await log_of(SYSTEM, says("a"), *([recall(1), RUNNING] * marks))
    found = await come_up(store, Telling(), turn_tries=2)

    assert lost(found) == ([1] if told else [])
    assert answers(found) == ([] if told else ["['a'] at 2"])


async def test_tries_are_counted_over_the_ends_that_recoveries_write():
    store = await log_of(
        SYSTEM, says("a"), recall(1), RUNNING, ended(2, "crashed", open_from=1), recall(1), RUNNING
    )
    assert lost(await come_up(store, Telling(), turn_tries=2)) == [1]


@pytest.mark.parametrize("rest", ["awaiting_user_input", "stopped", "paused", "error", "finished"])
async def test_a_turn_of_an_old_log_ended_with_the_state_of_rest_behind_it(rest):
    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING, state(rest))
    found = await come_up(store, Telling())

    assert (lost(found), answers(found), ends(found)) == ([], [], [])


async def test_a_turn_that_ended_is_not_lost_although_no_state_followed():
    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING, ended(2, open_from=4))
    found = await come_up(store, Telling())

    assert (lost(found), answers(found)) == ([], [])


@pytest.mark.parametrize("in_time", [True, False])
@pytest.mark.parametrize(("agent", "said", "untold"), [(Telling, 1, 0), (TellingOnce, 0, 1)])
async def test_a_loop_that_ends_while_the_mark_of_a_message_is_written_does_not_lose_it(
    agent, said, untold, in_time
):
    store, held = FaultyEventStore(MemoryEventStore()), Held()
    one = Running(agent(), store=store)
    await one.open()
    await one.loop.start()
    rests = await one.state(AWAITING)
    store.script.extend([passes, held])
    message = await one.say("a")
    await held.reached.wait()
    closing = asyncio.create_task(one.loop.close())
    await asyncio.sleep(0)
    if not in_time:
        await closing
    held.release()
    await closing
    stopped = await one.state("stopped")
    found = await one.events(rests.id)
    await one.stream.close()
    again = await come_up(store, agent())

    assert [one.id < stopped.id for one in found if one.kind == "turn_ended"] == [True]
    assert [outcome for _, outcome in ends(found)] == ["interrupted"]
    assert answers(again) == ["['a'] at 2"] * said
    assert lost([*found, *again]) == [message] * untold


async def test_a_loop_that_ends_while_the_mark_of_a_message_cannot_be_written_leaves_it_waiting():
    store, held = FaultyEventStore(MemoryEventStore()), Held(fails)
    one = Running(Telling(), store=store)
    await one.open()
    await one.loop.start()
    rests = await one.state(AWAITING)
    store.script.extend([passes, held])
    await one.say("a")
    await held.reached.wait()
    closing = asyncio.create_task(one.loop.close())
    await asyncio.sleep(0)
    held.release()
    await closing
    await one.state("stopped")
    found = await one.events(rests.id)
    await one.stream.close()

    assert ends(found) == []
    assert answers(await come_up(store, Telling())) == ["['a'] at 1"]


@pytest.mark.parametrize(("reason", "again"), [("", True), (Reason.TURN_LOST, False)])
async def test_a_turn_the_end_of_a_server_cut_short_is_begun_again_unless_it_was_told(
    reason, again
):
    store = await log_of(
        SYSTEM,
        says("a"),
        recall(1),
        RUNNING,
        ended(2, "interrupted", open_from=1, reason=reason),
        STOPPED,
    )
    found = await come_up(store, Telling())

    assert answers(found) == (["['a'] at 2"] if again else [])
    assert lost(found) == []


async def test_messages_nothing_has_taken_up_begin_one_turn():
    store = await log_of(
        SYSTEM, says("a"), recall(1), RUNNING, says("b"), says("c"), ended(2, open_from=4), RESTS
    )
    assert answers(await come_up(store, Telling())) == ["['b', 'c'] at 1"]


async def test_a_message_is_open_although_a_newer_one_was_taken_up_as_an_answer():
    question = MessageAction(content="?", wait_for_response=True, turn=2), AGENT
    store = await log_of(
        *(SYSTEM, says("a"), recall(1), RUNNING, says("waits"), question, RESTS, says("answer")),
        *(recall(7, turn=2), RUNNING, ended(2, open_from=4), RUNNING),
    )
    assert answers(await come_up(store, Telling())) == ["['waits'] at 1"]


async def test_a_question_that_a_crash_left_open_is_answered_by_a_new_turn():
    question = MessageAction(content="?", wait_for_response=True, turn=2), AGENT
    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING, question, RESTS)
    assert lost(await come_up(store, Telling())) == []

    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING, question, RESTS, says("blue"))
    assert answers(await come_up(store, Telling())) == ["['blue'] at 1"]


async def test_a_question_whose_loop_is_closed_ends_its_turn_as_waiting():
    class Asking(Agent):
        async def run(self, turn: Turn) -> None:
            (message,) = turn.cause
            if isinstance(message, MessageAction) and message.content == "paint":
                await turn.ask("Which colour?")
            async with turn.say() as answer:
                answer.write("done")

    store = await log_of(SYSTEM)
    async with Running(Asking(), store=store) as one:
        first = await one.state(AWAITING)
        await one.say("paint")
        await one.state(AWAITING, first.id)
        await one.stream.flush()
    async with Running(Asking(), store=store) as one:
        last = one.stream.next_id - 1
        await one.state(AWAITING, last - 3)
        said = await one.say("blue")
        await one.state(AWAITING, said)
        found = await one.events()

    assert [outcome for _, outcome in ends(found)] == ["waiting", "done"]
    assert answers(found) == ["Which colour?", "done"]
    assert lost(found) == []


@pytest.mark.parametrize(("agent", "times"), [(Telling, 1), (TellingOnce, 0)])
async def test_an_action_left_open_is_carried_out_again_if_it_may_be_and_else_closed(agent, times):
    runtime = Counting()
    action = CmdRunAction(command="echo a", turn=2), AGENT
    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING, action)
    found = await come_up(store, agent(), runtime=runtime)

    assert runtime.performed == ["echo a"] * times
    (answer,) = [one for one in found if one.cause == 4]
    assert isinstance(answer, CmdOutputObservation) == bool(times)
    assert answer.turn == 2


async def test_an_action_that_fails_when_it_is_repeated_is_answered_and_the_loop_comes_up():
    class Broken(StubRuntime):
        async def perform(self, action):
            raise RuntimeError("it broke")

    action = CmdRunAction(command="echo a", turn=2), AGENT
    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING, action)
    found = await come_up(store, Telling(), runtime=Broken())

    assert closed(found) == [(4, FAILED_ID)]
    assert answers(found) == ["['a'] at 2"]


async def test_a_runtime_may_say_itself_what_it_may_do_twice():
    class Repeatable(Counting):
        idempotent = frozenset(("run",))

    runtime = Repeatable()
    action = CmdRunAction(command="echo a", turn=2), AGENT
    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING, action)
    await come_up(store, TellingOnce(), runtime=runtime)

    assert runtime.performed == ["echo a"]


async def test_a_command_to_go_on_that_no_loop_heard_begins_a_turn():
    command = ChangeAgentStateAction(agent_state=AgentState.RUNNING), USER
    store = await log_of(
        SYSTEM, says("a"), recall(1), RUNNING, ended(2, open_from=4), STOPPED, command
    )
    assert answers(await come_up(store, Telling())) == ["[] at 1"]


async def test_a_turn_without_a_message_that_was_cut_short_is_begun_again():
    store = await log_of(SYSTEM, recall(None, source=SERVER), RUNNING)
    found = await come_up(store, Telling())

    assert answers(found) == ["[] at 2"]


async def test_an_old_agent_observes_again_what_was_begun_again():
    class Again(Scripts):
        resumes = True

        def observe(self, event):
            if event.source == USER:
                self.things.append(MessageAction(content=f"heard {event.content}"))

    store = await log_of(SYSTEM, says("a"), recall(1), RUNNING)
    assert answers(await come_up(store, Again())) == ["heard a"]
