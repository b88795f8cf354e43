"""Decisions about actions of turns that have ended: carried out once, and gone on with or told not to be."""

import asyncio
from collections import defaultdict

import pytest

from events.actions import ChangeAgentStateAction, CmdRunAction, MessageAction
from events.event import AgentState, ConfirmationState
from events.observations import CmdOutputObservation, TurnEndedObservation
from events.stores.memory import MemoryEventStore
from runtime_stub.agent import Agent
from runtime_stub.scripted import ScriptedAgent
from runtime_stub.stub import StubRuntime
from runtime_stub.turn import Turn
from tests.support.faulty_store import FaultyEventStore, Held, fails
from tests.support.loops import Running
from tests.support.turn_agents import Does, asked, write
from tests.support.written_turns import (
    AGENT,
    AWAITING,
    FAILED_ID,
    SERVER,
    STOPPED_ID,
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

ASKING = AgentState.AWAITING_USER_CONFIRMATION
WAITS = ConfirmationState.AWAITING_CONFIRMATION
AGREED = ConfirmationState.CONFIRMED
PARKING = {"confirmation_mode": True, "approval_patience": 0.05}


class Once(Agent):
    """Says what its turn is begun by, and at which attempt."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        said = [one.content for one in turn.cause if isinstance(one, MessageAction)]
        decided = [one for one in turn.cause if isinstance(one, ChangeAgentStateAction)]
        causes = [*said, *(one.agent_state for one in decided)]
        await write(turn, f"{causes} at {turn.attempt}")


class Resumes(Once):
    """The same, and goes on after a decision."""

    resumes = True


class Noting(StubRuntime):
    """Notes its commands; those that begin with `stay` wait until they are let go, `fail` fails."""

    def __init__(self):
        super().__init__()
        self.performed: list[str] = []
        self.let_go = defaultdict(asyncio.Event)

    async def perform(self, action):
        """See Runtime."""
        self.performed.append(action.command)
        if action.command.startswith("stay"):
            await self.let_go[action.command].wait()
        if action.command == "fail":
            raise RuntimeError("it broke")
        return CmdOutputObservation(content="done", command=action.command)


async def ask_for_all(turn):
    """Have every word of a message carried out, all at once."""
    await asyncio.gather(*(turn.act(CmdRunAction(command=one)) for one in asked(turn).split()))


def question(command, turn=2):
    """An action about which a person is asked."""
    return CmdRunAction(command=command, turn=turn, confirmation_state=WAITS), AGENT


def decision(about, wanted=AgentState.USER_CONFIRMED):
    """A person's decision."""
    return ChangeAgentStateAction(agent_state=wanted, of=about), USER


ASKED = SYSTEM, says("a"), recall(1), state("running"), state(ASKING), question("one")
"""A turn that asks: the message is 1, the turn 2, the question 5."""
ENDED = ended(2, "waiting", open_from=6), state(ASKING)
"""Its end, 6, and the state after it."""
TWO_ASKED = *ASKED, question("two"), ended(2, "waiting", open_from=7), state(ASKING)
"""The same with another question, 6; the log goes on at 9."""
BEGUN = *ASKED, *ENDED, decision(5), recall(8, source=SERVER)
"""The turn, 9, that a decision, 8, has begun."""
UNDER_WAY = CmdRunAction(command="one", turn=9, confirmation_state=AGREED, cause=5), AGENT
DONE = CmdOutputObservation(content="done", command="one", cause=10, turn=9), AGENT
CUTS = {
    "before a loop has read it": (*ASKED, decision(5)),
    "before it is carried out": BEGUN,
    "by a stop before it is carried out": (
        *BEGUN,
        ended(9, "interrupted", open_from=8),
        state("stopped", approvals=[5]),
    ),
    "while it is carried out": (*BEGUN, UNDER_WAY),
    "after it was carried out": (*BEGUN, UNDER_WAY, DONE),
}
"""Logs of a decision at which a process has ended."""
STOP = ended(9, "interrupted", open_from=8), state("stopped")


@pytest.mark.parametrize("agent", [Once, ScriptedAgent])
@pytest.mark.parametrize("cut", CUTS)
async def test_the_message_is_told_where_an_agent_does_not_go_on_after_a_decision(cut, agent):
    store, runtime = await log_of(*CUTS[cut]), Noting()
    found = await come_up(store, agent(), runtime=runtime)

    assert lost(found) == [1]
    assert answers(found) == []
    assert closed(found) == ([(10, STOPPED_ID)] if "while" in cut else [])
    assert runtime.performed == (["one"] if "before" in cut else [])
    for _ in range(2):
        runtime = Noting()
        assert lost(await come_up(store, agent(), runtime=runtime)) == []
        assert runtime.performed == []


@pytest.mark.parametrize("log", [*CUTS.values(), (*BEGUN, UNDER_WAY, DONE, *STOP)])
async def test_an_agent_that_resumes_goes_on_with_the_decision_wherever_it_was_cut_short(log):
    store, runtime = await log_of(*log), Noting()
    found = await come_up(store, Resumes(), runtime=runtime)

    carried_out_now = UNDER_WAY not in log
    assert answers(found) == [f"['user_confirmed'] at {1 if carried_out_now else 2}"]
    assert lost(found) == []
    assert closed(found) == ([(10, STOPPED_ID)] if log[-1] is UNDER_WAY else [])
    assert runtime.performed == (["one"] if carried_out_now else [])
    again = Noting()
    assert answers(await come_up(store, Resumes(), runtime=again)) == []
    assert again.performed == []


@pytest.mark.parametrize(("tries", "goes_on"), [(2, False), (3, True)])
async def test_a_turn_that_a_decision_began_is_begun_so_many_times_and_then_told(tries, goes_on):
    again = ended(9, "crashed", open_from=8), recall(8, source=SERVER)
    store = await log_of(*BEGUN, UNDER_WAY, DONE, *again)
    found = await come_up(store, Resumes(), turn_tries=tries)

    assert answers(found) == (["['user_confirmed'] at 3"] if goes_on else [])
    assert lost(found) == ([] if goes_on else [1])


@pytest.mark.parametrize(
    ("agent", "said", "untold"),
    [(Once, [], [1, 12]), (Resumes, ["['user_confirmed'] at 2", "['b'] at 1"], [])],
)
async def test_a_message_that_a_turn_of_a_decision_had_taken_up_is_not_lost_with_it(
    agent, said, untold
):
    store = await log_of(*BEGUN, UNDER_WAY, DONE, says("b"), recall(12, turn=9))
    found = await come_up(store, agent())

    assert answers(found) == said
    assert lost(found) == untold


async def test_all_messages_of_the_turn_that_asked_are_told():
    store = await log_of(*ASKED, says("b"), recall(6, turn=2), decision(5))

    assert lost(await come_up(store, Once(), runtime=Noting())) == [1, 6]


async def test_of_two_questions_of_a_turn_the_message_is_told_once_after_the_last():
    store, runtime = await log_of(*TWO_ASKED, decision(6)), Noting()
    async with Running(Once(), store=store, runtime=runtime) as one:
        rests = await one.state(ASKING, 9)
        between = lost(await one.events())
        await one.stream.append(*decision(5))
        await one.state(AWAITING, rests.id)
        found = await one.events()

    assert between == []
    assert lost(found) == [1]
    assert runtime.performed == ["two", "one"]


@pytest.mark.parametrize(
    ("agent", "said"),
    [(Once, []), (Resumes, ["['user_confirmed'] at 2", "['user_confirmed'] at 1"])],
)
async def test_a_decision_that_waits_behind_another_is_carried_out_after_a_crash(agent, said):
    begun = decision(5), recall(9, source=SERVER)
    under_way = CmdRunAction(command="one", turn=10, confirmation_state=AGREED, cause=5), AGENT
    store, runtime = await log_of(*TWO_ASKED, *begun, under_way, decision(6)), Noting()
    found = await come_up(store, agent(), runtime=runtime)

    assert runtime.performed == ["two"]
    assert closed(found) == [(11, STOPPED_ID)]
    assert answers(found) == said
    assert lost(found) == ([] if said else [1])


async def test_a_decision_that_waits_behind_a_message_is_carried_out_after_a_crash():
    log = *ASKED, *ENDED, says("b"), recall(8), state("running"), decision(5)
    store, runtime = await log_of(*log), Noting()
    found = await come_up(store, Resumes(), runtime=runtime)

    assert answers(found) == ["['b'] at 2", "['user_confirmed'] at 1"]
    assert runtime.performed == ["one"]


async def test_a_rejection_says_itself_that_nothing_follows():
    store = await log_of(*ASKED, *ENDED, decision(5, AgentState.USER_REJECTED))
    found = await come_up(store, Once())

    assert [one.kind for one in found if one.source == AGENT] == ["run", "user_rejected"]
    assert lost(found) == []


@pytest.mark.parametrize("of", [5, None])
async def test_a_decision_before_the_last_state_counts_whether_or_not_it_names_its_question(of):
    stopped = ended(2, "waiting", open_from=7), state("stopped", approvals=[5])
    store, runtime = await log_of(*ASKED, decision(of), *stopped), Noting()
    found = await come_up(store, Once(), runtime=runtime)

    assert runtime.performed == ["one"]
    assert lost(found) == [1]


async def parked(one, *commands):
    """Have a turn ask about these commands until it is parked; the questions."""
    said = await one.say(" ".join(commands))
    over = await one.event(lambda event: isinstance(event, TurnEndedObservation), said)
    await one.state(ASKING, over.id)
    waiting = [event for event in await one.of_kind("run") if event.confirmation_state == WAITS]
    assert [event.command for event in waiting] == list(commands)
    return [event.id for event in waiting]


async def approve(one, *questions):
    """Decide them in this order."""
    for about in questions:
        await one.stream.append(*decision(about))
    await one.stream.flush()


async def under_way(one, command):
    """Wait until that command is carried out as it was approved; its turn."""
    found = await one.event(
        lambda event: (
            isinstance(event, CmdRunAction)
            and event.command == command
            and event.confirmation_state == AGREED
        )
    )
    return found.turn


async def stopped(one, wanted, turn):
    """Stop the agent by a state, or `of` a turn only that; the id of the command."""
    if wanted == "of":
        return await one.command("paused", of=turn)
    return await one.command(wanted)


@pytest.mark.parametrize("wanted", ["paused", "stopped", "of"])
async def test_a_stop_ends_what_a_turn_was_to_carry_out_and_had_not_come_to(wanted):
    runtime = Noting()
    async with Running(Does(ask_for_all), runtime=runtime, **PARKING) as one:
        questions = await parked(one, "stay1", "stay2", "three")
        await approve(one, questions[0])
        await under_way(one, "stay1")
        await approve(one, *questions[1:])
        runtime.let_go["stay1"].set()
        turn = await under_way(one, "stay2")
        stop = await stopped(one, wanted, turn)
        await one.event(lambda event: event.cause == questions[2], stop)
        again = await one.say("")
        await one.state(AWAITING, again)
        found = await one.events()

    assert runtime.performed == ["stay1", "stay2"]
    assert [about for about, _ in closed(found)][1:] == [questions[2]]


@pytest.mark.parametrize(
    ("wanted", "carried_out"), [("of", True), ("paused", True), ("stopped", False)]
)
async def test_a_decision_that_waits_for_another_turn_outlives_a_stop_of_one_turn(
    wanted, carried_out
):
    runtime = Noting()
    async with Running(Does(ask_for_all), runtime=runtime, **PARKING) as one:
        questions = await parked(one, "stay1", "two")
        await approve(one, questions[0])
        turn = await under_way(one, "stay1")
        await approve(one, questions[1])
        stop = await stopped(one, wanted, turn)
        if wanted != "of":
            rests = await one.state(wanted, stop)
            stop = await one.command("running")
            assert rests.id < stop
        await one.state(AWAITING, stop)
        found = await one.events()

    assert runtime.performed == ["stay1", "two"][: 1 + carried_out]
    assert (questions[1] in dict(closed(found))) is not carried_out


async def test_an_action_that_fails_keeps_no_other_decision_from_being_carried_out():
    runtime = Noting()
    async with Running(Does(ask_for_all), runtime=runtime, **PARKING) as one:
        questions = await parked(one, "stay1", "fail", "three")
        await approve(one, questions[0])
        await under_way(one, "stay1")
        await approve(one, *questions[1:])
        runtime.let_go["stay1"].set()
        failed = await one.state("error")
        await one.state(AWAITING, failed.id)
        found = await one.events()

    assert runtime.performed == ["stay1", "fail", "three"]
    assert [word for _, word in closed(found)] == [FAILED_ID]


async def test_a_question_that_could_not_be_stored_leaves_no_turn_waiting_for_a_decision():
    ready, left = asyncio.Event(), asyncio.Event()

    async def ask_late(turn):
        await ready.wait()
        try:
            await turn.act(CmdRunAction(command="one"))
        finally:
            left.set()

    store, held = FaultyEventStore(MemoryEventStore()), Held(fails)
    one = Running(Does(ask_late), store=store, runtime=Noting(), **PARKING)
    await one.open()
    await one.loop.start()
    said = await one.say("a")
    await one.event(lambda event: event.kind == "recall" and event.source == SERVER, said)
    store.script.append(held)
    ready.set()
    await held.reached.wait()
    closing = asyncio.create_task(one.loop.close())
    await left.wait()
    held.release()
    await closing
    found = await one.events()
    await one.stream.close()

    assert [outcome for _, outcome in ends(found)] == ["interrupted"]
    assert lost(found) == [said]
