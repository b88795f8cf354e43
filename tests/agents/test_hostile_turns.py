"""Agents that break the rules of a turn harm it alone, and their conversation goes on."""

import asyncio
import contextlib
from typing import cast

import pytest

from events.actions import CmdRunAction, FileEditAction
from events.event import AgentState, EventSource
from events.observations import CmdOutputObservation, TurnEndedObservation
from runtime_stub.stub import StubRuntime
from runtime_stub.turn import TurnFailed, TurnOver, Usage
from tests.support.loops import Running
from tests.support.turn_agents import Does, asked, write
from tests.support.waiting import WAIT_SECONDS

AWAITING = AgentState.AWAITING_USER_INPUT
LONE = "\ud83d"
"""Half a character: no event may hold it as it is."""


async def causes(one):
    """The messages that turns have taken up, in the order of that."""
    return [
        recall.cause
        for recall in await one.of_kind("recall", EventSource.USER)
        if recall.cause is not None
    ]


async def next_is_answered(one):
    """Say something, and wait until the next turn has ended by itself."""
    said = await one.say("and now?")
    await one.state(AWAITING, said)
    assert (await one.answers())[-1] == "still here"
    return said


def at_first(work):
    """Do that in the first turn, and answer in those that follow."""

    async def first(turn):
        if asked(turn) == "and now?":
            await write(turn, "still here")
        else:
            await work(turn)

    return Does(first)


@pytest.mark.parametrize("how", ["return", "raise", "stop"])
async def test_a_text_with_half_a_character_ends_with_its_turn(how):
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def work(turn):
        writing = turn.say()
        await writing.__aenter__()
        writing.write(f"before {LONE} after")
        await writing.flush()
        begun.set()
        if how == "raise":
            raise RuntimeError(f"quoting {LONE}")
        if how == "stop":
            await let_go.wait()

    async with Running(at_first(work)) as one:
        told = asyncio.Event()
        one.stream.partials.tap(lambda pieces: told.set())
        said = await one.say("hi")
        await begun.wait()
        if how == "stop":
            await told.wait()
            await one.command(AgentState.PAUSED)
        wanted = {"return": AWAITING, "raise": AgentState.ERROR, "stop": AgentState.PAUSED}
        await one.state(wanted[how], said)
        await next_is_answered(one)
        ends = await one.outcomes()

    assert ends == [{"return": "done", "raise": "failed", "stop": "stopped"}[how], "done"]
    assert one.stream.partials.open == ()


@pytest.mark.parametrize("how", ["return", "stop"])
async def test_a_text_too_long_for_an_event_is_taken_back_when_its_turn_ends(how):
    begun = asyncio.Event()

    async def work(turn):
        writing = turn.say()
        await writing.__aenter__()
        writing.write("x" * 400_000)
        begun.set()
        if how == "stop":
            await asyncio.Event().wait()

    async with Running(at_first(work), event_bytes=300_000) as one:
        told = []
        shown = asyncio.Event()

        def tell(pieces):
            told.extend(pieces)
            shown.set()

        one.stream.partials.tap(tell)
        said = await one.say("hi")
        await begun.wait()
        if how == "stop":
            await shown.wait()
            await one.command(AgentState.PAUSED)
        await one.state(AWAITING if how == "return" else AgentState.PAUSED, said)
        await next_is_answered(one)

    assert one.stream.partials.open == ()
    dropped = [piece for piece in told if not hasattr(piece, "text")]
    assert [piece.why for piece in dropped] == ["failed"]


async def test_a_reason_with_half_a_character_reaches_people():
    async def work(turn):
        raise TurnFailed(f"the model said {LONE}")

    async with Running(at_first(work)) as one:
        said = await one.say("hi")
        await one.state(AgentState.ERROR, said)
        await next_is_answered(one)
        assert await one.outcomes() == ["failed", "done"]


async def test_messages_that_wait_at_a_stop_come_before_those_that_follow():
    begun = asyncio.Event()

    async def work(turn):
        if asked(turn) == "hi":
            begun.set()
            await asyncio.Event().wait()
        await write(turn, asked(turn))

    async with Running(Does(work)) as one:
        first = await one.say("hi")
        await begun.wait()
        second = await one.say("second")
        await one.command(AgentState.PAUSED)
        await one.state(AgentState.PAUSED)
        third = await one.say("third")
        await one.state(AWAITING, third)
        assert await causes(one) == [first, second, third]
        assert await one.answers() == ["second third"]


async def test_messages_stay_in_order_when_one_comes_between_two_turns():
    let_go, begun = asyncio.Event(), asyncio.Event()

    async def work(turn):
        if asked(turn) == "hi":
            begun.set()
            await let_go.wait()

    async with Running(Does(work)) as one:
        said = [await one.say("hi")]
        await begun.wait()
        said.append(await one.say("0"))
        let_go.set()
        said += [await one.say(str(number)) for number in range(1, 40)]
        await one.event(
            lambda event: isinstance(event, TurnEndedObservation) and event.open_from > said[-1],
            after=said[-1],
        )
        assert await causes(one) == said


async def test_an_answer_that_nobody_waits_for_any_more_is_a_message_again():
    asks: asyncio.Future[asyncio.Task[object]] = asyncio.get_running_loop().create_future()

    async def work(turn):
        if asks.done():
            await write(turn, f"heard {asked(turn)}")
            return
        task = asyncio.get_running_loop().create_task(turn.ask("which?"))
        asks.set_result(task)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async with Running(Does(work)) as one:
        said = await one.say("hi")
        task = await asks
        await one.state(AWAITING, said)
        turn = one.agent.turns[0]
        assert turn.told(turn.cause[0])
        task.cancel()  # before it has resumed with the answer
        await one.event(
            lambda event: event.kind == "message" and event.message == "heard hi", after=said
        )
        assert await causes(one) == [said, said]


class Gate(StubRuntime):
    """Carries actions out until a test lets them end."""

    def __init__(self):
        super().__init__()
        self.at = 0
        self.ended = asyncio.Event()
        self.begun = asyncio.Event()

    async def perform(self, action):
        """See Runtime."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@pytest.mark.parametrize("how", ["return", "raise", "stop"])
async def test_actions_under_way_are_given_up_with_their_turn(how):
    runtime = Gate()
    kept = []

    async def work(turn):
        kept.append(
            asyncio.get_running_loop().create_task(turn.act(CmdRunAction(command="sleep 600")))
        )
        await runtime.begun.wait()
        if how == "raise":
            raise RuntimeError("no")
        if how == "stop":
            await asyncio.Event().wait()

    async with Running(at_first(work), runtime=runtime) as one:
        said = await one.say("hi")
        await runtime.begun.wait()
        if how == "stop":
            await one.command(AgentState.PAUSED)
        wanted = {"return": AWAITING, "raise": AgentState.ERROR, "stop": AgentState.PAUSED}
        await one.state(wanted[how], said)
        async with asyncio.timeout(WAIT_SECONDS):
            await runtime.ended.wait()
        await next_is_answered(one)
        assert [error.cause for error in await one.of_kind("error") if error.cause] != []


async def test_an_action_too_large_to_record_leaves_nothing_to_agree_to():
    async def work(turn):
        with contextlib.suppress(Exception):
            await turn.act(FileEditAction(path="a", file_text="x" * 400_000, command="create"))
        begun.set()
        await let_go.wait()

    begun, let_go = asyncio.Event(), asyncio.Event()
    async with Running(at_first(work), confirmation_mode=True, event_bytes=300_000) as one:
        said = await one.say("hi")
        await begun.wait()
        assert one.loop.state is AgentState.RUNNING
        let_go.set()
        await one.state(AWAITING, said)
        await next_is_answered(one)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(model=cast("str", 7), cost=1.0),
        Usage(model="m", cost=float("nan")),
        Usage(model="m", cost=float("inf")),
        Usage(model="m", cost=-1.0),
        Usage(model="m", prompt_tokens=2**80),
        Usage(model="m", prompt_tokens=-5),
        Usage(model="m", completion_tokens=cast("int", "7")),
    ],
    ids=str,
)
async def test_a_report_of_numbers_that_are_none_is_refused_and_not_counted(usage):
    async def work(turn):
        with pytest.raises(ValueError, match="a report has"):
            turn.report(usage)
        await write(turn, "said")

    async with Running(at_first(work)) as one:
        said = await one.say("hi")
        await one.state(AWAITING, said)
        assert await one.outcomes() == ["done"]
        (event,) = await one.of_kind("message", EventSource.AGENT)
        assert (event.content, event.llm_metrics) == ("said", None)
        await next_is_answered(one)


async def test_a_turn_is_used_from_its_event_loop_only():
    async def work(turn):
        loop = asyncio.get_running_loop()

        def elsewhere():
            found = []
            for use in (
                lambda: turn.act(CmdRunAction(command="echo no")),
                lambda: turn.ask("which?"),
                lambda: turn.keep(b"no"),
                lambda: write(turn, "no"),
            ):
                try:
                    asyncio.run(use())
                except RuntimeError as error:
                    found.append(str(error))
            for call in (lambda: turn.status("no"), turn.news):
                try:
                    call()
                except RuntimeError as error:
                    found.append(str(error))
            return found

        refused.extend(await loop.run_in_executor(None, elsewhere))
        await write(turn, "said")

    refused: list[str] = []
    async with Running(at_first(work)) as one:
        said = await one.say("hi")
        await one.state(AWAITING, said)
        assert await one.answers() == ["said"]
        assert await one.of_kind("run") == []
        await next_is_answered(one)
    assert len(refused) == 6


async def test_a_turn_that_was_kept_has_no_effect_in_the_next():
    kept = []

    async def work(turn):
        kept.append(turn)
        if len(kept) == 1:
            return
        old = kept[0]
        for use in (
            lambda: old.act(CmdRunAction(command="echo")),
            lambda: old.ask("x"),
            lambda: old.keep(b""),
            lambda: write(old, "no"),
            lambda: old.secret("s"),
        ):
            try:
                await use()
            except TurnOver:
                over.append(1)
        await write(turn, "still here")

    over: list[int] = []
    async with Running(Does(work)) as one:
        await one.state(AWAITING, await one.say("hi"))
        await one.state(AWAITING, await one.say("hi"))
        assert len(over) == 5
        assert await one.answers() == ["still here"]


@pytest.mark.parametrize("raised", [GeneratorExit, TurnOver])
async def test_what_an_agents_task_raises_stays_in_its_conversation(raised):
    async def fails():
        raise raised

    async def work(turn):
        task = asyncio.get_running_loop().create_task(fails())
        await asyncio.wait([task])
        await write(turn, "said")

    async with Running(at_first(work)) as one:
        said = await one.say("hi")
        await one.state(AWAITING, said)
        await next_is_answered(one)


async def test_fifty_actions_at_once_have_an_answer_each():
    async def work(turn):
        await asyncio.gather(
            *[turn.act(CmdRunAction(command=f"echo {number}")) for number in range(50)]
        )
        await write(turn, "said")

    async with Running(at_first(work)) as one:
        said = await one.say("hi")
        await one.state(AWAITING, said)
        runs = await one.of_kind("run", EventSource.AGENT)
        acts = [event for event in runs if isinstance(event, CmdRunAction)]
        got = [event for event in runs if isinstance(event, CmdOutputObservation)]
        assert len(acts) == 50
        causes = [event.cause for event in got if event.cause is not None]
        assert sorted(causes) == [event.id for event in acts]


async def test_texts_beyond_the_limit_end_their_turn_and_those_shown_are_kept():
    async def work(turn):
        for number in range(17):
            writing = turn.say()
            await writing.__aenter__()
            writing.write(f"text {number}")
            await asyncio.sleep(0)

    async with Running(at_first(work)) as one:
        said = await one.say("hi")
        await one.state(AgentState.ERROR, said)
        await next_is_answered(one)
        assert await one.answers() == ["text 0", "still here"]
        assert one.stream.partials.open == ()
