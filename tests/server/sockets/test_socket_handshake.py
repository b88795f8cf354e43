"""Joining over a real socket: what is refused, and in which words; where replay begins."""

import asyncio
from typing import Any, ClassVar

import orjson
import pytest

from events.actions import MessageAction
from events.event import EventSource
from server.conversations.manager import Joined
from server.conversations.standalone import StandaloneConversationManager
from server.errors import Refused
from server.sockets.handlers import JoinRequest
from storage.users.settings import Settings
from tests.support.clients import ConnectRefused, RecordingClient, message
from tests.support.live import Live, live_server
from tests.support.polling import polling_client
from tests.support.raw_client import payload_of
from tests.support.waiting import WAIT_SECONDS, until

SCOPE = {"type": "websocket", "headers": [], "query_string": b"", "client": ("127.0.0.1", 1)}
UNKNOWN = {"message": "Conversation not found", "data": {"msg_id": "CONVERSATION$NOT_FOUND"}}
NO_ID = {"message": "No conversation_id in query params"}


@pytest.fixture
async def live():
    async with live_server() as opened:
        yield opened


async def refusal(live: Live, conversation_id: str | None, **query: str) -> Any:
    return await refused_to(RecordingClient(live.url, conversation_id, query=dict(query)))


async def refused_to(client: RecordingClient) -> Any:
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            with pytest.raises(ConnectRefused) as refused:
                await client.connect()
    finally:
        await client.close()
    return refused.value.payload


async def replayed_from(live: Live, conversation_id: str, cursor: str | None) -> list[int]:
    async with live.joined(conversation_id, query={"latest_event_id": cursor}) as client:
        ids = await live.append(conversation_id, said("the end"))
        await client.until(lambda one: ids[0] in one.ids)
        return [event["id"] for event in client.events if "old" in event["message"]]


def said(text: str) -> tuple[MessageAction, EventSource]:
    return MessageAction(content=text), EventSource.AGENT


@pytest.mark.parametrize("text", [None, "", "undefined", "null"])
async def test_a_missing_id_is_refused(live, text):
    assert await refusal(live, text) == NO_ID


async def test_a_client_that_polls_is_refused_in_the_same_words(live):
    async with asyncio.timeout(WAIT_SECONDS), polling_client(live.url) as client:
        assert await client.connect() == f"44{orjson.dumps(NO_ID).decode()}"


@pytest.mark.parametrize(
    "text",
    [
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "..",
        ".hidden",
        "a\x00b",
        "a\x1bb",
        "a\nb",
        "a b",
        "x" * 101,
        "x" * 5000,
        "ä",
        "task-1",
    ],
)
async def test_an_id_that_cannot_exist_is_refused_like_an_unknown_one(live, text):
    assert await refusal(live, text) == UNKNOWN
    assert await refusal(live, "0" * 32) == UNKNOWN


async def test_a_foreign_conversation_looks_unknown(live):
    foreign = await live.new(user_id="somebody")

    assert await refusal(live, foreign) == UNKNOWN


async def test_a_deleted_conversation_looks_unknown(live):
    conversation_id = await live.new()
    await live.application.manager.delete_conversation(conversation_id, None)

    assert await refusal(live, conversation_id) == UNKNOWN


async def test_an_unknown_provider_is_refused_by_its_name(live):
    conversation_id = await live.new()

    told = await refusal(live, conversation_id, providers_set="github,sourceforge")

    assert told == {"message": "Unknown provider: sourceforge"}


async def test_known_providers_are_taken(live):
    conversation_id = await live.new()

    async with live.joined(conversation_id, query={"providers_set": "github,gitlab"}) as client:
        assert client.io.connected


async def test_too_many_parameters_are_refused(live):
    query = {f"p{number}": "1" for number in range(150)}

    told = await refusal(live, await live.new(), **query)

    assert told == {"message": "The query has too many parameters"}


@pytest.mark.parametrize("key", [None, "", "wrong", "null", "undefined", "k%C3%A9y"])
async def test_a_wrong_or_missing_key_is_refused(key):
    async with live_server(session_api_key="right") as live:
        query = {} if key is None else {"session_api_key": key}

        told = await refusal(live, await live.new(), **query)

        assert told == {"message": "invalid_session_api_key"}


async def test_the_right_key_is_taken():
    async with live_server(session_api_key="right") as live:
        conversation_id = await live.new()

        async with live.joined(conversation_id, query={"session_api_key": "right"}) as client:
            assert client.io.connected


WAYS = {
    "query": {"query": {"session_api_key": "right"}},
    "auth": {"auth": {"session_api_key": "right"}},
    "header": {"headers": {"X-Session-API-Key": "right"}},
    "bearer": {"headers": {"Authorization": "Bearer right"}},
    "bearer in lower case": {"headers": {"authorization": "bearer right"}},
    "query beside a token for users": {
        "query": {"session_api_key": "right"},
        "headers": {"Authorization": "Bearer of-a-user"},
    },
}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
async def test_the_key_is_taken_wherever_a_client_can_put_it(way, transport):
    async with live_server(session_api_key="right") as live:
        conversation_id = await live.new()

        async with live.joined(conversation_id, transports=(transport,), **way) as client:
            assert client.io.connected


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize(
    "way",
    [
        {"auth": {"session_api_key": "wrong"}},
        {"auth": {"session_api_key": "\ud800"}},
        {"auth": {"session_api_key": None}},
        {"auth": {"session_api_key": ["right"]}},
        {"auth": {"token": "right"}},
        {"auth": ["right"]},
        {"headers": {"X-Session-API-Key": "wrong"}},
        {"headers": {"Authorization": "right"}},
        {"headers": {"Authorization": "Basic right"}},
        {"headers": {"Authorization": "Bearer"}},
    ],
)
async def test_what_is_not_the_key_is_refused_wherever_it_stands(way, transport, caplog):
    async with live_server(session_api_key="right") as live:
        client = RecordingClient(live.url, await live.new(), transports=(transport,), **way)
        told = await refused_to(client)

        assert told == {"message": "invalid_session_api_key"}
    assert "Traceback" not in caplog.text


async def test_settings_that_are_required_and_missing_are_refused():
    async with live_server(require_settings=True) as live:
        assert await refusal(live, await live.new()) == {
            "message": "Settings not found",
            "data": {"msg_id": "CONFIGURATION$SETTINGS_NOT_FOUND"},
        }


async def test_a_user_who_has_stored_the_required_settings_may_join():
    async with live_server(require_settings=True) as live:
        conversation_id = await live.new()
        await live.users.change_settings(None, lambda _: Settings(language="en"))

        async with live.joined(conversation_id) as client:
            await client.state("awaiting_user_input")


class SlowManager(StandaloneConversationManager):
    """Returns from a join when a test lets it."""

    joined: ClassVar[asyncio.Event]
    gate: ClassVar[asyncio.Event]

    async def join_conversation(self, *arguments: Any, **named: Any) -> Joined:
        joined = await super().join_conversation(*arguments, **named)
        self.joined.set()
        await self.gate.wait()
        return joined


def no_way_out():
    raise AssertionError("nothing is made for a client that has left")


async def test_a_client_that_leaves_while_it_joins_is_refused_and_leaves_nothing_behind():
    SlowManager.joined, SlowManager.gate = asyncio.Event(), asyncio.Event()
    async with live_server(conversation_manager_class=f"{__name__}:SlowManager") as live:
        handlers, manager = live.application.handlers, live.application.manager
        query = f"conversation_id={await live.new()}&latest_event_id=-1"
        joining = asyncio.create_task(handlers.join(JoinRequest("one", query, SCOPE, no_way_out)))
        await SlowManager.joined.wait()
        assert list(await manager.get_connections()) == ["one"]

        await handlers.leave("one")
        SlowManager.gate.set()

        with pytest.raises(Refused, match="The client has left"):
            await joining
        assert not await manager.get_connections()
        assert len(live.application.connections) == 0


async def test_refused_clients_leave_nothing_behind(live):
    await refusal(live, "0" * 32)
    await refusal(live, None)
    await refusal(live, "a/b")

    found = await live.conversations.for_user(None).search()

    assert found.results == []
    assert not await live.application.manager.get_connections()
    assert not await live.application.manager.get_running_agent_loops()
    assert len(live.application.connections) == 0
    assert (await live.events.head("0" * 32)).next_id == 0


async def test_an_unknown_namespace_is_refused(live):
    async with live.raw(await live.new()) as client:
        await client.connection.send("40/admin,")

        assert (await client.packet()).startswith("44/admin,")
        assert (await client.connect()).startswith('40{"sid":')


async def test_connect_is_answered_before_anything_is_replayed(live):
    conversation_id = await live.new()
    await live.append(conversation_id, *[said("old") for _ in range(300)])

    async with live.raw(conversation_id) as client:
        assert (await client.connect()).startswith('40{"sid":')
        assert [(await client.event())["id"] for _ in range(300)] == list(range(300))


@pytest.mark.parametrize(
    ("cursor", "first"),
    [
        ("-1", 0),
        (None, 0),
        ("", 0),
        ("undefined", 0),
        ("null", 0),
        ("-7", 0),
        ("1.5", 0),
        ("0x2", 0),
        ("٣", 0),
        ("+3", 0),
        ("9" * 500, 10),
        ("-" + "9" * 500, 0),
        ("-0", 0),
        ("0" * 30 + "3", 4),
        ("0", 1),
        ("3", 4),
        ("9", 10),
        ("10", 10),
        ("123456", 10),
        ("9007199254740993", 10),
        ("9223372036854775807", 10),
        ("99999999999999999999", 10),
    ],
)
async def test_replay_begins_behind_the_cursor(live, cursor, first):
    conversation_id = await live.new()
    await live.append(conversation_id, *[said("old") for _ in range(10)])

    assert await replayed_from(live, conversation_id, cursor) == list(range(first, 10))


async def test_a_client_that_polls_gets_the_same(live):
    conversation_id = await live.new()
    await live.append(conversation_id, *[said("old") for _ in range(250)])

    async with polling_client(live.url, conversation_id=conversation_id) as client:
        assert (await client.connect()).startswith('40{"sid":')
        ids = [payload_of(await client.packet())["id"] for _ in range(250)]
        await client.send(f"427{orjson.dumps(['oh_user_action', message('hello')]).decode()}")
        later: list[str] = []
        while not any("You said: hello" in text for text in later):
            later.append(await client.packet())

    assert ids == list(range(250))
    assert sum(text.startswith('437[{"status":"ok","id":') for text in later) == 1


async def test_a_client_that_leaves_by_polling_has_its_poll_answered(live):
    async with polling_client(live.url, conversation_id=await live.new()) as client:
        await client.connect()
        while "awaiting_user_input" not in await client.packet():
            continue
        poll = asyncio.create_task(client.poll())
        await until(lambda: live.server.runner.server_state.tasks)
        await client.send("1")

        async with asyncio.timeout(WAIT_SECONDS):
            answer = await poll
        assert (answer.status_code, answer.text) == (200, "6")


async def test_a_client_that_polls_first_and_upgrades_misses_nothing(live):
    conversation_id = await live.new()
    await live.append(conversation_id, *[said("old") for _ in range(10)])

    async with live.joined(conversation_id, transports=("polling", "websocket")) as client:
        await client.until(lambda one: len(one.ids) >= 10)
        acknowledged = await client.say("hello")
        await client.event(lambda event: event.get("message") == "You said: hello")

        assert acknowledged["status"] == "ok"
        assert client.ids == sorted(set(client.ids))
        assert client.ids[:10] == list(range(10))
        assert client.io.transport() == "websocket"


async def test_a_client_that_leaves_while_it_is_joining_leaves_nothing_behind(live):
    conversation_id = await live.new()

    for _ in range(20):
        async with live.raw(conversation_id) as client:
            await client.connection.send("40")
            client.cut()
    async with live.joined(conversation_id) as other:
        await other.state("awaiting_user_input")
        assert list(await live.application.manager.get_connections()) == [other.io.get_sid()]


async def test_a_client_that_joins_while_the_server_stops_is_sent_away_to_come_back(live):
    conversation_id = await live.new()

    async with live.raw(conversation_id) as client:
        live.application.stop_intake()
        await client.connection.send("40")
        assert await client.close_code() == 1006


REFUSED_SECONDS = WAIT_SECONDS / 3
"""Less than a client of the library waits for a word."""


@pytest.mark.parametrize("transports", [("websocket",), ("polling",), ("polling", "websocket")])
async def test_during_a_drain_a_client_is_refused_at_once(live, transports):
    conversation_id = await live.new()
    live.application.drain_intake(lasts=True)
    client = RecordingClient(live.url, conversation_id, transports=transports)
    try:
        async with asyncio.timeout(REFUSED_SECONDS):
            with pytest.raises(ConnectRefused):
                await client.connect()
    finally:
        await client.close()
    assert len(live.application.connections) == 0


@pytest.mark.parametrize("transports", [("websocket",), ("polling",)])
async def test_a_client_that_was_refused_during_a_drain_comes_back_after_it(live, transports):
    conversation_id = await live.new()
    async with live.joined(conversation_id, transports=transports, reconnection=True) as client:
        live.application.drain_intake(lasts=True)
        await live.application.handlers.drop_all()
        await client.until(lambda one: one.refusals)
        live.application.drain_intake(lasts=False)

        await client.until(lambda one: len(one.connections) == 2)
