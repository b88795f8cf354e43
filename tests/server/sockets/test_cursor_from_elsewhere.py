"""A client that was served elsewhere: its cursor may be ahead of what this server has published."""

import pytest

from events.actions import MessageAction
from events.errors import StoreUnavailable
from events.event import AgentState, EventSource
from events.stores.memory import MemoryEventStore
from tests.support.clients import ConnectRefused
from tests.support.faulty_store import FaultyEventStore
from tests.support.live import Live, live_server
from tests.support.sse import sse_frames
from tests.support.streams import open_stream

AGENT = EventSource.AGENT


@pytest.fixture
def store():
    return FaultyEventStore(MemoryEventStore())


@pytest.fixture
async def live(store):
    async with live_server(events=store) as opened:
        yield opened


async def appended_elsewhere(live: Live, conversation_id: str, count: int) -> list[int]:
    """Append to a log past this server; the ids."""
    stream = await open_stream(live.events, conversation_id)
    said = [MessageAction(content=f"elsewhere {number}") for number in range(count)]
    return [(await stream.append(one, AGENT)).id for one in said]


async def test_a_client_gets_nothing_twice_that_another_server_has_sent_it(live):
    key = await live.new()
    async with live.joined(key) as first:
        await first.state(AgentState.AWAITING_USER_INPUT)
        ids = await appended_elsewhere(live, key, 5)
        assert (await live.stream(key)).next_id == ids[0]

        query = {"latest_event_id": str(ids[2])}
        async with live.joined(key, query=query) as moved:
            (last,) = await live.append(key, (MessageAction(content="the end"), AGENT))
            for client in (first, moved):
                await client.until(lambda one: last in one.ids)

    assert last == ids[-1] + 1
    assert moved.ids == [*ids[3:], last]
    assert [one for one in first.ids if one >= ids[0]] == [*ids, last]


async def test_a_cursor_that_no_log_has_begins_at_its_end(live):
    key = await live.new()
    async with live.joined(key) as first:
        state = await first.state(AgentState.AWAITING_USER_INPUT)
        async with live.joined(key, query={"latest_event_id": "1000000"}) as lost:
            (last,) = await live.append(key, (MessageAction(content="the end"), AGENT))
            await lost.until(lambda one: last in one.ids)

    assert last == state["id"] + 1
    assert lost.ids == [last]


async def test_a_store_that_cannot_tell_whether_the_cursor_is_right_refuses_the_client(live, store):
    key = await live.new()
    async with live.joined(key) as first:
        await first.state(AgentState.AWAITING_USER_INPUT)
        store.unreadable, store.read_error = 1, StoreUnavailable("connection lost")
        with pytest.raises(ConnectRefused):
            async with live.joined(key, query={"latest_event_id": "1000000"}):
                pass

        async with live.joined(key, query={"latest_event_id": "1000000"}):
            assert store.unreadable == 0


async def test_server_sent_events_begin_behind_a_cursor_from_elsewhere(live):
    key = await live.new()
    async with live.application.manager.attach(key, None) as conversation:
        (first,) = await live.append(key, (MessageAction(content="here"), AGENT))
        ids = await appended_elsewhere(live, key, 4)
        assert conversation.stream.next_id == first + 1
        async with sse_frames(live.url, key, str(ids[1])) as frames:
            found = [await anext(frames) for _ in range(2)]

    assert [(one.name, one.data["id"]) for one in found] == [("event", one) for one in ids[2:]]
