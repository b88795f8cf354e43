"""Clients that poll: answers they can read, and requests that end whatever was posted."""

import asyncio

import orjson
import pytest

from events.actions import MessageAction
from events.event import EventSource
from server.sockets.protocol import MAX_PACKETS
from tests.support.intruder import figure, until_figure
from tests.support.live import live_server
from tests.support.polling import RECORD_SEPARATOR, polling_client
from tests.support.waiting import WAIT_SECONDS, until

EVENT = '["oh_user_action",{"action":"none"}]'
MANY = 100


@pytest.fixture
async def live():
    async with live_server() as opened:
        yield opened


async def conversation_of(live, events):
    conversation_id = await live.new()
    said = [(MessageAction(content=f"old {n}"), EventSource.USER) for n in range(events)]
    await live.append(conversation_id, *said)
    return conversation_id


async def test_an_official_client_that_polls_gets_a_long_backlog_over_one_connection(live):
    conversation_id = await conversation_of(live, MANY)
    async with live.joined(conversation_id, transports=("polling",)) as client:
        await client.until(lambda one: len(one.ids) >= MANY)
        assert (await client.say("/quiet hello"))["status"] == "ok"

        assert client.ids[:MANY] == list(range(MANY))
        assert client.io.transport() == "polling"
        assert len(client.connections) == 1


async def test_an_answer_to_a_poll_holds_no_more_packets_than_clients_read(live):
    conversation_id = await conversation_of(live, MANY)
    sizes: list[int] = []
    async with polling_client(live.url, conversation_id=conversation_id) as client:
        await client.connect()
        while sum(sizes) < MANY:
            answer = await client.poll()
            sizes.append(answer.text.count(RECORD_SEPARATOR) + 1)
        await client.send("1")
    assert max(sizes) == MAX_PACKETS


async def test_two_polls_at_once_share_what_is_due(live):
    conversation_id = await conversation_of(live, MANY)
    async with polling_client(live.url, conversation_id=conversation_id) as client:
        await client.connect()
        seen: list[str] = []
        while sum("oh_event" in packet for packet in seen) < MANY:
            for answer in await asyncio.gather(client.poll(), client.poll()):
                assert answer.status_code == 200
                seen += answer.text.split(RECORD_SEPARATOR)
            await client.send(f"420{EVENT}")  # so that no poll has to wait
            await client.send(f"421{EVENT}")
        await client.send("1")


@pytest.mark.parametrize("packet", ["0", "2", "5", "6", "6x", "2probe", "0{}"])
async def test_what_no_client_may_post_is_refused_at_once(live, packet):
    async with polling_client(live.url, conversation_id=await live.new()) as client:
        for said in (packet, f"{packet}\x1e40", f"3\x1e{packet}"):
            async with asyncio.timeout(WAIT_SECONDS):
                assert (await client.send(said)).status_code == 400
        assert (await client.connect()).startswith("40{")
        await client.send("1")
    await until_figure(live.url, "parley_clients", 1)


async def test_a_session_that_has_ended_is_unknown_to_whoever_asks_again(live, caplog):
    async with polling_client(live.url, conversation_id=await live.new()) as client:
        await client.connect()
        await client.send("1")
        for _ in range(2):
            assert (await client.send("3")).status_code == 400
            assert (await client.poll()).status_code == 400
    assert "Traceback" not in caplog.text


async def test_another_namespace_is_refused_with_an_object_as_the_official_client_reads_it(live):
    async with polling_client(live.url, conversation_id=await live.new()) as client:
        await client.send("40/elsewhere,")
        packet = await client.packet()
        assert packet.startswith("44/elsewhere,")
        told = orjson.loads(packet.removeprefix("44/elsewhere,"))
        assert told == {"message": "Unable to connect"}
        assert (await client.connect()).startswith("40{")
        await client.send("1")


async def test_a_second_connect_changes_nothing(live):
    async with polling_client(live.url, conversation_id=await live.new()) as client:
        assert (await client.connect()).startswith("40{")
        for repeated in ("40", '40{"session_api_key":"other"}'):
            await client.send(repeated)
        await client.send('421["oh_user_action",{"action":"message","args":{"content":"x"}}]')
        while not (packet := await client.packet()).startswith("431"):
            assert not packet.startswith("44")
        assert orjson.loads(packet.removeprefix("431"))[0]["status"] == "ok"
        await client.send("1")


async def test_sessions_that_poll_are_counted(live):
    async with polling_client(live.url) as client:
        told = await client._http.get("/metrics")
        assert figure(told, "parley_clients") == 2  # the session, and the connection that asks
        assert figure(told, "parley_handshakes") == 1


@pytest.mark.parametrize("farewell", ["1", "41"], ids=["close", "disconnect"])
async def test_nothing_is_replayed_to_a_client_that_leaves_in_the_step_it_joins_in(live, farewell):
    async with polling_client(live.url, conversation_id=await live.new()) as client:
        answer = await client.send(f"40{RECORD_SEPARATOR}{farewell}")

    assert answer.text == "OK"
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("replay")]


async def test_a_client_that_leaves_while_it_is_held_back_has_broken_no_rule(caplog):
    async with (
        live_server(actions_per_second=1, action_burst=1, unlimited_addresses=[]) as live,
        polling_client(live.url, conversation_id=await live.new()) as client,
    ):
        await client.connect()
        sending = asyncio.create_task(client.send(RECORD_SEPARATOR.join([f"42{EVENT}"] * 4)))
        bucket = live.application.library.connection_limits.packet_bucket("127.0.0.1")
        await until(lambda: bucket.tokens < 0)
        await client.send("1")
        await sending

    assert "closing a connection" not in caplog.text
