"""A conversation's stream of Server-Sent Events: events and pieces behind a cursor, exactly once."""

import asyncio
import re
import time
from collections import Counter
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

import httpx
import orjson
import pytest

from events.cursor import Cursor
from events.event import AgentState, EventSource
from events.live import LiveReader
from events.observations import AgentStateChangedObservation, TurnEndedObservation
from events.stores.memory import MemoryEventStore
from server.routes.stream import RETRY_SPREAD_MILLISECONDS, IdleTimer, SharedFrames
from storage.conversations.memory import MemoryConversations
from tests.support.live import live_server
from tests.support.partials import LAST, finish, texts_until, write_all
from tests.support.seeds import choices
from tests.support.sse import SseView, sse_frames
from tests.support.streams import message, open_stream
from tests.support.waiting import WAIT_SECONDS, until

USER, ENVIRONMENT = EventSource.USER, EventSource.ENVIRONMENT


@pytest.fixture
async def live():
    async with live_server(delta_interval_seconds=0.02) as opened:
        yield opened


@asynccontextmanager
async def opened(live):
    """A new conversation's id, and its stream."""
    key = await live.new()
    async with live.application.manager.attach(key, None) as conversation:
        yield key, conversation.stream


async def take(frames, view, done):
    """Read until the view is as wanted."""
    while not done(view):
        view.take(await anext(frames))


async def test_events_come_as_they_are_stored_and_each_names_its_cursor(live):
    async with opened(live) as (key, stream):
        await stream.append(message("one"), USER)
        state = AgentStateChangedObservation(agent_state=AgentState.RUNNING)
        await stream.append(state, ENVIRONMENT)
        view = SseView()
        async with sse_frames(live.url, key) as frames:
            await take(frames, view, lambda one: one.opened)
            assert view.cursor == "1"
            await stream.append(message("two"), USER)
            await take(frames, view, lambda one: one.ids == [0, 1, 2])
        stored = await live.log(key)
    assert [event["source"] for event in view.events] == ["user", "environment", "user"]
    assert [httpx.Response(200, content=one.body).json() for one in stored] == view.events


async def test_clients_that_are_sent_the_same_event_and_hold_other_texts_have_cursors_of_their_own(
    live,
):
    async with opened(live) as (key, stream), sse_frames(live.url, key) as frames:
        view = SseView()
        writing = stream.partials.begin("message", "content", 7)
        writing.write("Good ")
        await take(frames, view, lambda one: one.held)
        async with sse_frames(live.url, key, deltas=0) as of_other:
            await until(lambda: live.application.connections.count(key) == 2)
            await stream.append(message("one"), USER)
            await take(frames, view, lambda one: one.events)
            other = await anext(of_other)
    assert (view.cursor, other.id) == (f"0~{writing.id}:5", "0")
    assert view.events == [other.data]


async def test_clients_at_the_same_place_share_the_frames_of_an_event():
    stream = await open_stream(MemoryEventStore())
    for text in ("one", "two"):
        await stream.append(message(text), USER)
    shared, frames = SharedFrames(), []
    for position in (-1, 0, 0):
        with LiveReader(stream, Cursor(position)) as reader:
            given = await reader.next()
            assert given is not None
            frames.append(shared.of(given, Cursor(position)))
    assert [one.count(b"id: ") for one in frames] == [2, 1, 1]
    assert frames[1] is frames[2]
    await stream.close()


async def test_a_text_comes_while_it_is_written_and_its_event_completes_it(live):
    async with opened(live) as (key, stream), sse_frames(live.url, key) as frames:
        view = SseView()
        writing = stream.partials.begin("message", "content", 7)
        writing.write("Good ")
        await take(frames, view, lambda one: one.held)
        assert view.cursor == f"-1~{writing.id}:5"
        writing.write("morning")
        await take(frames, view, lambda one: one.held == {writing.id: "Good morning"})
        await finish(stream, writing)
        await take(frames, view, lambda one: one.events)
        assert view.held == {}
        assert view.cursor == "0"
        assert (view.events[0]["partial"], view.events[0]["turn"]) == (writing.id, 7)


async def held_at_every_place(key, stream, url):
    """Write a log with two texts at a time, of which the last two stay open.

    Return what a client held behind each frame that it was sent, the first one before any.
    """
    view, places = SseView(), [SseView()]
    async with sse_frames(url, key) as frames:
        for number in range(3):
            await stream.append(message(f"question {number}"), USER)
            texts = [stream.partials.begin("message", "content", number) for _ in range(2)]
            for pieces in (
                ("Once ", "Größe: hun"),
                ("upon ", "ter2-hunter2, \U0001f511 "),
                ("it.", "z!"),
            ):
                for text, piece in zip(texts, pieces, strict=True):
                    text.write(piece)
                await stream.partials.next_telling()
            await stream.append(message(f"meanwhile {number}"), USER)
            if number < 2:
                for text in reversed(texts):
                    await finish(stream, text)
        wholes = {one.id: one.shown for one in texts}
        while view.held != wholes or len(view.events) < 10:
            view.take(await anext(frames))
            places.append(deepcopy(view))
    return places


async def goes_on(live, key, place, client):
    """Return the view of a client that comes back from a place and takes all there is."""
    view = deepcopy(place)
    async with sse_frames(live.url, key, view.cursor, client=client, end="now") as frames:
        async for frame in frames:
            view.take(frame)
    return view.events, view.held


async def test_a_client_goes_on_exactly_behind_every_event_and_every_piece():
    """While the last texts are open, once they are events, and after a restart in mid-text."""
    events, conversations = MemoryEventStore(), MemoryConversations()
    stores: dict[str, Any] = {"events": events, "conversations": conversations}
    for ends in (True, False):
        async with (
            live_server(delta_interval_seconds=0.02, **stores) as live,
            opened(live) as (key, stream),
            httpx.AsyncClient(timeout=WAIT_SECONDS) as client,
        ):
            stream.update_secrets({"KEY": "hunter2-hunter2"})
            places = await held_at_every_place(key, stream, live.url)
            assert len(places) > 20
            last = places[-1]
            assert list(last.held.values()) == [
                "Once upon it.",
                "Größe: <secret_hidden>, \U0001f511 z!",
            ]
            for place in places:
                assert await goes_on(live, key, place, client) == (last.events, last.held)
            if ends:
                for text in stream.partials.open:
                    await finish(stream, text)
                log = [orjson.loads(one.body) for one in await live.log(key)]
                for place in places:
                    assert await goes_on(live, key, place, client) == (log, {})
        if not ends:
            async with (
                live_server(**stores) as live,
                httpx.AsyncClient(timeout=WAIT_SECONDS) as client,
            ):
                first = await goes_on(live, key, SseView(), client)
                log = [orjson.loads(one.body) for one in await live.log(key)]
                texts = [one["args"]["content"] for one in log if one.get("interrupted")]
                assert texts == list(last.held.values())
                assert first == (log, {})
                for place in places:
                    assert await goes_on(live, key, place, client) == (log, {})


async def test_a_client_goes_on_exactly_behind_every_character_of_a_text(live):
    async with opened(live) as (key, stream), httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        await stream.append(message("question"), USER)
        writing = stream.partials.begin("message", "content", 0)
        writing.write("Größe: \U0001f511, e\u0301 and so on")
        await stream.partials.next_telling()
        whole = SseView()
        async with sse_frames(live.url, key, client=client, end="now") as frames:
            async for frame in frames:
                whole.take(frame)
        text = whole.held[writing.id]
        for at in range(1, len(text) + 1):
            place = deepcopy(whole)
            place.held, place.cursor = {writing.id: text[:at]}, f"0~{writing.id}:{at}"
            assert await goes_on(live, key, place, client) == (whole.events, whole.held)
        await finish(stream, writing)
        log = [orjson.loads(one.body) for one in await live.log(key)]
        for at in range(1, len(text) + 1):
            place = deepcopy(whole)
            place.held, place.cursor = {writing.id: text[:at]}, f"0~{writing.id}:{at}"
            assert await goes_on(live, key, place, client) == (log, {})


async def test_wanderers_hold_a_prefix_of_what_is_written_or_its_event(live):
    seed = 20261130
    async with opened(live) as (key, stream):
        stream.update_secrets({"KEY": "hunter2-hunter2"})
        texts: list[str] = []
        cuts: Counter[int] = Counter()

        async def wander(number):
            chance = choices(seed + 1 + number)
            view = SseView()
            while view.said[-1:] != [LAST]:
                cursor = view.cursor
                async with sse_frames(live.url, key, cursor, client=client) as frames:
                    for _ in range(chance.randint(1, 6)):
                        if view.said[-1:] == [LAST]:
                            break
                        view.take(await anext(frames))
                cuts[number] += 1
            return view

        writing = texts_until(lambda: cuts.total() > 50, "hunter2-hunter2", texts)
        author = asyncio.create_task(write_all(stream, writing, choices(seed)))
        async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
            views = await asyncio.gather(*(wander(number) for number in range(8)))
        await author
    masked = [text.replace("hunter2-hunter2", "<secret_hidden>") for text in texts]
    for view in views:
        assert [event["args"]["content"] for event in view.events] == masked
        assert view.held == {}


async def test_without_deltas_events_alone_come(live):
    async with opened(live) as (key, stream), sse_frames(live.url, key, deltas=0) as frames:
        writing = stream.partials.begin("message", "content", 0)
        writing.write("text")
        await stream.partials.next_telling()
        await finish(stream, writing)
        frame = await anext(frames)
        assert (frame.name, frame.id) == ("event", "0")


async def test_notices_come_too_and_move_no_cursor(live):
    async with opened(live) as (key, _), sse_frames(live.url, key) as frames:
        await anext(frames)
        live.application.connections.notify(key, {"status_update": True, "message": "busy"})
        frame = await anext(frames)
        assert (frame.name, frame.id, frame.data["message"]) == ("notice", "", "busy")


async def test_a_silent_stream_is_kept_open_by_a_frame_of_its_own():
    woken = asyncio.Semaphore(0)
    timer = IdleTimer(woken.release, 0.05)
    timer.restart()
    async with asyncio.timeout(WAIT_SECONDS):
        for _ in range(3):
            await woken.acquire()
    assert woken.locked()
    timer.stop()


@pytest.mark.parametrize("cursor", ["x", "4~", "4~a:b", "1~" + "a" * 600 + ":1"])
async def test_a_cursor_that_cannot_be_read_is_refused(live, cursor):
    key = await live.new()
    address = f"{live.url}/api/conversations/{key}/stream"
    async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        by_header = await client.get(address, headers={"Last-Event-ID": cursor})
        by_query = await client.get(address, params={"cursor": cursor})
    assert [one.status_code for one in (by_header, by_query)] == [400, 400]
    assert by_header.json()["code"] == by_query.json()["code"] == "bad_cursor"


async def test_a_cursor_past_the_end_counts_as_the_end(live):
    async with (
        opened(live) as (key, stream),
        sse_frames(live.url, key, "99~ffffffff-1:4") as frames,
    ):
        assert (await anext(frames)).data == {"type": "open", "partials": []}
        await stream.append(message("one"), USER)
        assert (await anext(frames)).id == "0"


async def test_an_unknown_conversation_is_refused_and_a_head_request_ends(live):
    key = await live.new()
    async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        unknown = await client.get(f"{live.url}/api/conversations/nothing/stream")
        head = await client.head(f"{live.url}/api/conversations/{key}/stream")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "conversation_not_found")
    assert (head.status_code, head.content) == (200, b"")


async def test_a_client_that_leaves_leaves_nothing_behind(live):
    async with opened(live) as (key, stream):
        for _ in range(5):
            async with sse_frames(live.url, key) as frames:
                await anext(frames)
                assert live.application.connections.count(key) == 1

            async def gone():
                return live.application.connections.count(key) == 0

            await until(gone)
        assert stream.partials._taps == ()


async def test_a_deleted_conversation_ends_its_streams(live):
    key = await live.new()
    async with sse_frames(live.url, key) as frames:
        await anext(frames)
        await live.application.manager.delete_conversation(key, None)
        assert [frame async for frame in frames if frame.name != "event"] == []


async def test_a_server_that_stops_ends_every_stream_without_an_error_in_the_log(caplog):
    # A busy machine may hold the loop, which the watch on it would say.
    async with live_server(slow_callback_seconds=0) as live:
        key = await live.new()
        views = []

        async def follow():
            async with sse_frames(live.url, key) as frames:
                views.append([frame async for frame in frames])

        following = [asyncio.create_task(follow()) for _ in range(20)]

        async def joined():
            return live.application.connections.count(key) == 20

        await until(joined)
    await asyncio.gather(*following)
    assert len(views) == 20
    assert [one for one in caplog.records if one.levelname in ("ERROR", "WARNING")] == []


async def test_who_comes_while_the_server_stops_is_told_when_to_come_back(live):
    """An EventSource that is answered with another status never comes back."""
    key = await live.new()
    await live.application.manager.shutdown()
    address = f"{live.url}/api/conversations/{key}/stream"
    async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        answers = [await client.get(address) for _ in range(20)]
    assert {(one.status_code, one.headers["content-type"]) for one in answers} == {
        (200, "text/event-stream; charset=utf-8")
    }
    assert all(re.fullmatch(r"retry: \d+\n\n", one.text) for one in answers)
    pauses = {int(one.text.split()[1]) for one in answers}
    assert len(pauses) > 5
    assert max(pauses) < RETRY_SPREAD_MILLISECONDS


async def test_a_stream_may_end_with_what_there_is_or_with_a_turn(live):
    async with opened(live) as (key, stream):
        await stream.append(message("question"), USER)
        await stream.append(TurnEndedObservation(turn=0, outcome="done"), ENVIRONMENT)
        await stream.append(message("another"), USER)
        writing = stream.partials.begin("message", "content", 0)
        writing.write("text")
        await stream.partials.next_telling()

        async with sse_frames(live.url, key, end="turn") as frames:
            assert [frame.id async for frame in frames] == ["0", "1"]
        view = SseView()
        async with sse_frames(live.url, key, end="now") as frames:
            async for frame in frames:
                view.take(frame)
        assert (view.ids, view.held) == ([0, 1, 2], {writing.id: "text"})


async def test_the_duration_of_a_stream_is_the_time_until_it_began():
    async with live_server() as live, httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        key = await live.new()
        await client.get(f"{live.url}/alive")
        asked = time.perf_counter()
        async with sse_frames(live.url, key, client=client) as frames:
            await anext(frames)
            begun = time.perf_counter()
            for _ in range(20):
                live.application.connections.notify(key, {"message": "still here"})
                await anext(frames)
            await live.application.manager.delete_conversation(key, None)
            assert [frame async for frame in frames if frame.name == "delta"] == []
        metrics = (await client.get(f"{live.url}/metrics")).text
    route = 'route="/api/conversations/{conversation_id}/stream",status="200"'
    pattern = rf"^parley_http_request_seconds_sum{{.*{re.escape(route)}.*}} (\S+)$"
    seconds = re.search(pattern, metrics, re.MULTILINE)
    assert seconds is not None
    assert 0 < float(seconds[1]) <= begun - asked
