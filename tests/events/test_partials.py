"""Partials: texts that are shown while they are written, and the reader of events and pieces."""

import asyncio
from typing import Any

import orjson
import pytest

from events import partials
from events.actions import MessageAction
from events.cursor import Cursor
from events.errors import BadCursor, PartialOver, StreamClosed, TextTooLong, TooManyPartials
from events.event import Interruption
from events.live import LiveReader, Opened
from events.partials import Dropped, Pace, Piece
from events.stores.memory import MemoryEventStore
from tests.support.partials import finish
from tests.support.streams import AGENT, USER, log_of, message, open_stream


@pytest.fixture
async def stream():
    stream = await open_stream(MemoryEventStore())
    yield stream
    await stream.close()


@pytest.fixture
async def unhurried():
    """Its longest interval is an hour."""
    stream = await open_stream(MemoryEventStore(), pace=Pace(0.0, 3600))
    yield stream
    await stream.close()


def begin(stream):
    return stream.partials.begin("message", "content", 0)


async def given(reader: LiveReader) -> Any:
    return await reader.next()


async def told_by(stream):
    told: list[Piece | Dropped] = []
    stream.partials.tap(told.extend)
    return told


async def test_the_first_piece_is_told_at_once_and_the_next_at_the_interval(stream):
    told = await told_by(stream)
    partial = begin(stream)
    partial.write("Good ")
    partial.write("morning")
    await asyncio.sleep(0)
    assert [(one.at, one.to, one.text) for one in told] == [(0, 12, "Good morning")]

    now = asyncio.get_running_loop().time()
    partial.write(", you")
    partial.write(".")
    await stream.partials.next_telling()

    assert [(one.at, one.to, one.text) for one in told[1:]] == [(12, 18, ", you.")]
    assert asyncio.get_running_loop().time() - now == pytest.approx(0.05)
    assert told[0][:4] == (partial.id, "message", "content", 0)


async def test_the_rest_is_told_before_the_event_is_published_and_nothing_after(stream):
    order: list[str | int] = []
    stream.partials.tap(lambda pieces: order.extend(one.text for one in pieces))
    stream.tap(lambda events, _summary: order.extend(one.id for one in events))
    partial = begin(stream)
    partial.write("one")
    await asyncio.sleep(0)
    partial.write(" two")

    appended = await finish(stream, partial)

    assert order == ["one", " two", appended.id]
    stored = orjson.loads((await log_of(stream._store))[0].body)
    assert (stored["partial"], stored["turn"]) == (partial.id, 0)
    assert stored["args"]["content"] == "one two"
    with pytest.raises(PartialOver):
        partial.write("three")
    with pytest.raises(PartialOver):
        await finish(stream, partial)


async def test_a_partial_is_open_until_the_step_in_which_its_event_is_published(stream):
    seen = []
    partial = begin(stream)
    partial.write("text")
    stream.partials.tap(lambda _pieces: seen.append([one.id for one in stream.partials.open]))
    stream.tap(lambda _events, _summary: seen.append([one.id for one in stream.partials.open]))

    await finish(stream, partial)

    assert seen == [[partial.id], []]


async def test_an_interrupted_text_says_so(stream):
    partial = begin(stream)
    partial.write("half a sen")

    await finish(stream, partial, interrupted=Interruption.STOPPED)

    events = [orjson.loads(one.body) async for one in stream.search_events()]
    assert events[0]["interrupted"] == "stopped"


async def test_a_secret_in_pieces_is_told_masked_and_stored_masked(stream):
    stream.update_secrets({"KEY": "hunter2-hunter2"})
    told = await told_by(stream)
    partial = begin(stream)
    for piece in ("It is hun", "ter2-hun", "ter2", "! Keep it."):
        partial.write(piece)
        await stream.partials.next_telling()

    await finish(stream, partial)

    events = [orjson.loads(one.body) async for one in stream.search_events()]
    assert events[0]["args"]["content"] == "It is <secret_hidden>! Keep it."
    assert "".join(one.text for one in told) == "It is <secret_hidden>! Keep it."
    assert partial.shown == "It is <secret_hidden>! Keep it."
    assert partial.text == "It is hunter2-hunter2! Keep it."


async def test_what_was_told_is_taken_back_visibly(stream):
    told = await told_by(stream)
    shown, unseen = begin(stream), begin(stream)
    shown.write("wrong")
    await asyncio.sleep(0)

    shown.drop("anew")
    unseen.drop("empty")

    assert told[1:] == [Dropped(shown.id, "anew")]
    assert stream.partials.open == ()


async def test_a_partial_whose_event_cannot_be_appended_is_dropped_and_says_why(stream):
    told = await told_by(stream)
    partial = begin(stream)
    partial.write("text")
    await asyncio.sleep(0)

    def refuse(_event, _source, settled):
        settled(StreamClosed("no"))

    outcomes: list[object] = []
    partial.finish(MessageAction(content="text"), AGENT, refuse, outcomes.append)
    assert told[-1] == Dropped(partial.id, "failed")
    assert [type(one) for one in outcomes] == [StreamClosed]

    other = begin(stream)
    other.write("text")
    await stream.partials.next_telling()
    await stream.close()
    with pytest.raises(PartialOver):
        await finish(stream, other)


async def test_as_many_partials_and_characters_as_may_be(stream):
    every = [begin(stream) for _ in range(partials.MAX_OPEN)]
    with pytest.raises(TooManyPartials):
        begin(stream)
    every[0].drop("empty")
    partial = begin(stream)

    partial.write("x" * partials.MAX_CHARACTERS)
    with pytest.raises(TextTooLong):
        partial.write("y")
    assert len(partial.text) == partials.MAX_CHARACTERS


async def test_flush_waits_until_not_too_much_is_untold(stream):
    partial = begin(stream)
    partial.write("x")
    await partial.flush()
    assert partial.told == 0

    partial.write("x" * partials.UNTOLD_CHARACTERS)
    await partial.flush()
    assert partial.told == partials.UNTOLD_CHARACTERS + 1


async def test_pieces_give_way_while_the_loop_is_late():
    pace = Pace(0.05, 0.3)
    intervals = []
    for _ in range(4):
        pace.adapt(late=True)
        intervals.append(pace.seconds)
    for _ in range(4):
        pace.adapt(late=False)
        intervals.append(pace.seconds)
    assert intervals == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.15, 0.075, 0.05, 0.05])


@pytest.mark.parametrize(
    "cursor",
    [Cursor(), Cursor(41), Cursor(41, {"9570aa64-3": 1032}), Cursor(0, {"a-1": 1, "b-2": 2})],
)
def test_a_cursor_is_read_as_it_is_spelled(cursor):
    assert Cursor.parse(str(cursor)) == cursor
    assert str(Cursor(41, {"9570aa64-3": 1032})) == "41~9570aa64-3:1032"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-2",
        "1.5",
        "٣",
        "4~",
        "4~a",
        "4~a:",
        "4~:3",
        "4~a:-1",
        "4~a b:1",
        "9" * 17,
        "1" + "~a:1" * 17,
        "1~" + "a" * 600 + ":1",
    ],
)
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(BadCursor):
        Cursor.parse(text)


async def test_a_reader_is_given_the_backlog_what_is_open_and_what_follows(stream):
    await stream.append(message("a"), USER)
    partial = begin(stream)
    partial.write("Good ")
    await asyncio.sleep(0)
    with LiveReader(stream) as reader:
        assert [one.id for one in await given(reader)] == [0]
        assert await given(reader) == Opened([(partial, 0)])
        pieces = await given(reader)
        assert [(one.at, one.text) for one in pieces] == [(0, "Good ")]
        assert str(reader.cursor) == f"0~{partial.id}:5"

        partial.write("day")
        assert [one.text for one in await given(reader)] == ["day"]
        await finish(stream, partial)
        assert [one.id for one in await given(reader)] == [1]
        assert str(reader.cursor) == "1"
        waiting = asyncio.ensure_future(given(reader))
        await asyncio.sleep(0)
        await stream.close()
        assert await waiting is None


async def test_a_reader_goes_on_in_mid_word(stream):
    partial = begin(stream)
    partial.write("Good morning")
    await asyncio.sleep(0)
    with LiveReader(stream, Cursor(-1, {partial.id: 7, "ffffffff-9": 3})) as reader:
        assert await given(reader) == Opened([(partial, 7)])
        assert [(one.at, one.to, one.text) for one in await given(reader)] == [(7, 12, "rning")]


async def test_a_reader_that_was_slow_is_told_that_a_text_was_dropped(stream):
    partial = begin(stream)
    partial.write("Good")
    await asyncio.sleep(0)
    with LiveReader(stream) as reader:
        await given(reader)
        await given(reader)
        partial.drop("anew")
        other = begin(stream)
        other.write("Better")
        await stream.partials.next_telling()

        assert await given(reader) == [
            Dropped(partial.id, "anew"),
            Piece(other.id, "message", "content", 0, 0, 6, "Better"),
        ]


async def test_a_reader_without_deltas_is_given_events_only(stream):
    with LiveReader(stream, Cursor(99), deltas=False) as reader:
        waiting = asyncio.ensure_future(given(reader))
        await asyncio.sleep(0)
        partial = begin(stream)
        partial.write("text")
        await stream.partials.next_telling()
        await finish(stream, partial)
        assert [one.id for one in await waiting] == [0]


async def test_a_text_that_nobody_is_told_of_gives_pieces_at_the_longest_interval(unhurried):
    partial = begin(unhurried)
    partial.write("Good ")
    await asyncio.sleep(0)
    assert partial.shown == "Good "
    partial.write("morning")
    for _ in range(3):
        await asyncio.sleep(0)
    assert partial.shown == "Good "

    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    unhurried.partials.tap(told.set_result)

    pieces = await asyncio.wait_for(told, 60)
    assert [(one.at, one.text) for one in pieces] == [(5, "morning")]


async def test_who_waits_until_a_text_is_told_waits_no_longest_interval(unhurried):
    partial = begin(unhurried)
    partial.write("Good ")
    await asyncio.sleep(0)
    partial.write("morning")
    await asyncio.wait_for(unhurried.partials.next_telling(), 60)
    assert partial.shown == "Good morning"


async def test_readers_that_hold_the_same_are_given_the_same_pieces_until_more_is_told(stream):
    partial = begin(stream)
    partial.write("Good ")
    await stream.partials.next_telling()
    follow = stream.partials.follow
    pieces, after = follow({})
    assert follow({}) == (pieces, after)
    assert follow({})[0] is pieces
    assert after == {partial.id: 5}
    assert follow({partial.id: 3}) == ([pieces[0]._replace(at=3, text="d ")], after)
    assert follow({}) == (pieces, after)

    partial.write("morning")
    await stream.partials.next_telling()

    assert follow({})[0] == [pieces[0]._replace(to=12, text="Good morning")]
    assert follow(after) == ([pieces[0]._replace(at=5, to=12, text="morning")], {partial.id: 12})
    partial.drop("anew")
    assert follow({partial.id: 12}) == ([Dropped(partial.id, "anew")], {})
