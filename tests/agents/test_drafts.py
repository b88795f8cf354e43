"""An argument that is shown while it is written: it becomes its action's, or is taken back."""

import asyncio

import pytest

from events.actions import CmdRunAction
from events.errors import PartialOver
from events.event import AgentState, EventSource
from events.partials import Dropped, Piece
from runtime_stub.turn import TurnOver
from tests.support.loops import Running
from tests.support.turn_agents import Blocks, Does

AWAITING = AgentState.AWAITING_USER_INPUT


class Shown:
    """The pieces that a stream tells of its partials."""

    def __init__(self, stream):
        self.pieces: list[Piece | Dropped] = []
        self._came = asyncio.Event()
        stream.partials.tap(self._take)

    @property
    def dropped(self):
        return [one.why for one in self.pieces if isinstance(one, Dropped)]

    @property
    def text(self):
        return "".join(one.text for one in self.pieces if isinstance(one, Piece))

    async def came(self):
        """Wait until something is told."""
        await asyncio.wait_for(self._came.wait(), 5)

    def _take(self, pieces):
        self.pieces += pieces
        self._came.set()


class Drafting(Does):
    """Shows the beginning of a command, and then does what a test gives it to do with the draft."""

    shown: Shown

    def __init__(self, text, work):
        async def drafted(turn):
            draft = turn.draft("run", "command")
            draft.write(text)
            await self.shown.came()
            await work(turn, draft)

        super().__init__(drafted)


async def done(text, work):
    """The pieces and events of a turn."""
    return await outcome_of(Drafting(text, work))


async def outcome_of(agent):
    """The pieces and events of a turn of that agent."""
    async with Running(agent) as one:
        agent.shown = Shown(one.stream)
        await one.state(AWAITING, await one.say("hi"))
        return agent.shown, await one.of_kind("run", EventSource.AGENT), one.stream


async def says_hello(turn, draft):
    await turn.act(CmdRunAction(command="echo hello"), draft=draft)


async def test_what_is_shown_of_an_argument_becomes_its_actions():
    shown, (action, observation), stream = await done("echo ", says_hello)

    (piece, *_) = shown.pieces
    assert (piece.kind, piece.field, piece.turn) == ("run", "command", action.turn)
    assert shown.text == "echo hello"
    assert shown.dropped == []
    assert action.partial == piece.id
    assert observation.partial is None
    assert observation.content == "hello"
    assert stream.partials.open == ()


async def test_an_action_that_says_something_else_takes_back_what_was_shown():
    shown, (action, _), stream = await done("rm -rf ", says_hello)

    assert action.partial is None
    assert shown.dropped == ["anew"]
    assert stream.partials.open == ()


@pytest.mark.parametrize("by_itself", [True, False])
async def test_what_no_action_has_taken_is_taken_back_at_the_end_of_the_turn(by_itself):
    async def work(_turn, draft):
        if by_itself:
            draft.drop()

    shown, actions, stream = await done("echo ", work)

    assert actions == []
    assert shown.dropped == ["anew"]
    assert stream.partials.open == ()


async def test_a_draft_of_a_turn_that_is_over_takes_no_more():
    kept = []

    async def work(_turn, draft):
        kept.append(draft)

    await done("echo ", work)

    with pytest.raises(TurnOver):
        kept[0].write("more")
    kept[0].drop()


@pytest.mark.parametrize(
    ("text", "dropped"), [("echo ", []), ("rm -rf ", ["anew"])], ids=["whole", "else"]
)
async def test_an_argument_is_shown_from_a_thread_as_from_anywhere(text, dropped):
    def work(turn):
        draft = turn.draft("run", "command")
        draft.write(text)
        turn.act(CmdRunAction(command="echo hello"), draft=draft)

    shown, (action, observation), stream = await outcome_of(Blocks(work))

    assert shown.text.startswith(text)
    assert shown.dropped == dropped
    assert (action.partial is None) is bool(dropped)
    assert observation.content == "hello"
    assert stream.partials.open == ()


async def test_a_thread_takes_back_what_it_has_shown_also_after_its_turn():
    kept = []

    def work(turn):
        for _ in range(2):
            draft = turn.draft("run", "command")
            draft.write("echo ")
            kept.append(draft)
        kept[0].drop()
        with pytest.raises(PartialOver):
            kept[0].write("more")

    _, actions, stream = await outcome_of(Blocks(work))

    assert actions == []
    assert stream.partials.open == ()
    with pytest.raises(TurnOver):
        await asyncio.to_thread(kept[1].write, "more")
    await asyncio.to_thread(kept[1].drop)


async def test_a_person_is_asked_about_the_argument_that_was_shown():
    agent = Drafting("echo ", says_hello)
    async with Running(agent, confirmation_mode=True) as one:
        agent.shown = shown = Shown(one.stream)
        await one.say("hi")
        asks = await one.state(AgentState.AWAITING_USER_CONFIRMATION)
        await one.event(lambda event: event.kind == "run")
        await one.command(AgentState.USER_CONFIRMED)
        await one.state(AWAITING, asks.id)
        asked, agreed, _ = await one.of_kind("run", EventSource.AGENT)

    assert asked.partial == shown.pieces[0].id
    assert agreed.partial is None
    assert shown.dropped == []
