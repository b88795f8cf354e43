"""The wire under the events: packets that clients rarely send, and the websocket's own frames."""

import orjson
import pytest
from websockets.exceptions import InvalidStatus

from events.actions import MessageAction
from events.event import EventSource
from tests.support.clients import message
from tests.support.live import Live, live_server
from tests.support.raw_client import RawClient
from tests.support.waiting import until

ACK = "43"


@pytest.fixture
async def live():
    async with live_server() as opened:
        yield opened


def packet_of(content: str, ack_id: int) -> str:
    return f"42{ack_id}{orjson.dumps(['oh_user_action', message(content)]).decode()}"


def together(client: RawClient, *texts: str) -> None:
    """Send messages in one piece, so that they are there at once."""
    protocol = client.connection.protocol
    for text in texts:
        protocol.send_text(text.encode())
    client.connection.transport.write(b"".join(protocol.data_to_send()))


async def acknowledged(client: RawClient, ack_id: int) -> dict[str, object]:
    prefix = f"{ACK}{ack_id}["
    while not (text := await client.packet()).startswith(prefix):
        continue
    told: dict[str, object] = orjson.loads(text[len(prefix) - 1 :])[0]
    return told


async def nobody_is_connected(live: Live) -> None:
    server = live.application

    async def nobody() -> bool:
        return not len(server.connections) and not await server.manager.get_connections()

    await until(nobody)


async def test_each_way_of_delivery_is_really_taken(live, delivery):
    async with live.raw(await live.new()) as client:
        await client.connect()

        by_library = len(live.application.library.eio.sockets)
        assert (delivery, by_library) in (("direct", 0), ("engine", 1))


async def test_what_comes_right_behind_connect_is_taken_in_its_order(live):
    conversation_id = await live.new()
    async with live.raw(conversation_id) as client:
        together(client, "40", *(packet_of(f"/quiet {number}", number) for number in range(20)))
        assert (await client.packet()).startswith('40{"sid":')
        told = [await acknowledged(client, number) for number in range(20)]

    assert [one["status"] for one in told] == ["ok"] * 20
    stored = [orjson.loads(event.body) for event in await live.log(conversation_id)]
    said = [one["message"] for one in stored if one.get("action") == "message"]
    assert said == [f"/quiet {number}" for number in range(20)]


async def test_one_who_leaves_the_namespace_may_join_again_on_the_same_websocket(live):
    conversation_id = await live.new()
    await live.append(conversation_id, (MessageAction(content="old"), EventSource.AGENT))
    async with live.raw(conversation_id) as client:
        for _ in range(5):
            await client.connection.send("40")
            while not (await client.packet()).startswith('40{"sid":'):
                continue  # still on its way from the time before
            first, second = [(await client.event())["id"] for _ in range(2)]
            assert first == 0 < second
            await client.connection.send("41")
            await nobody_is_connected(live)


async def test_leaving_and_joining_in_one_breath_is_done_in_that_order(live):
    conversation_id = await live.new()
    async with live.raw(conversation_id) as client:
        await client.connect()
        together(client, packet_of("/quiet", 0), "41", "40", packet_of("/quiet", 1))
        while not (await client.packet()).startswith('40{"sid":'):
            continue

        assert (await acknowledged(client, 1))["status"] == "ok"
        assert len(live.application.connections) == 1
    assert len(await live.log(conversation_id)) > 0
    await nobody_is_connected(live)


async def test_one_who_was_refused_may_ask_again(live):
    async with live.raw("0" * 32) as client:
        assert (await client.connect()).startswith("44{")
        assert (await client.connect()).startswith("44{")


async def test_an_event_of_one_who_has_not_joined_is_not_taken(live):
    conversation_id = await live.new()
    async with live.raw(conversation_id) as client:
        await client.connection.send(packet_of("hello", 0))
        assert (await client.connect()).startswith('40{"sid":')

        assert (await client.send(message("/quiet")))["status"] == "ok"

    assert not any(b"hello" in event.body for event in await live.log(conversation_id))


async def test_an_event_with_an_attachment_is_answered_and_not_stored(live):
    conversation_id = await live.new()
    async with live.raw(conversation_id) as client:
        await client.connect()
        await client.connection.send('451-7["oh_user_action",{"_placeholder":true,"num":0}]')
        await client.connection.send(b"\x00\x01")

        assert (await acknowledged(client, 7))["code"] == "not_an_object"


async def test_a_message_in_fragments_is_one_message(live):
    async with live.raw(await live.new()) as client:
        await client.connect()
        text = packet_of("/quiet in pieces", 3)
        await client.connection.send([text[:5], text[5:40], text[40:]])

        assert (await acknowledged(client, 3))["status"] == "ok"


async def test_an_event_that_only_a_lenient_parser_reads_is_answered(live):
    async with live.raw(await live.new()) as client:
        await client.connect()
        content = '{"action":"message","args":{"content":"\\ud800"}}'
        await client.connection.send(f'425["oh_user_action",{content}]')

        assert (await acknowledged(client, 5))["code"] == "bad_value"


async def test_a_websocket_that_is_closed_in_order_is_answered_and_leaves_nothing_behind(live):
    async with live.raw(await live.new()) as client:
        await client.connect()
        await client.connection.close(1000)

        assert client.connection.close_code == 1000
        await nobody_is_connected(live)


async def test_a_client_that_says_it_leaves_is_let_go(live):
    async with live.raw(await live.new()) as client:
        await client.connect()
        await client.connection.send("1")
        await nobody_is_connected(live)


@pytest.mark.parametrize("query", [{"EIO": "3"}, {"transport": "carrier"}, {"sid": "unknown"}])
async def test_a_request_of_another_kind_is_refused_in_words_before_it_is_a_websocket(live, query):
    with pytest.raises(InvalidStatus, match="HTTP 400") as refused:
        async with live.raw(await live.new(), query=query):
            pass

    told = orjson.loads(refused.value.response.body)
    assert told["code"] == "bad_request"
    assert told["message"]


@pytest.mark.parametrize("packet", ["0{}", "2", "2probe", "5", "6"])
async def test_a_packet_that_no_client_sends_ends_its_websocket(live, packet):
    async with live.raw(await live.new()) as client:
        await client.connect()
        await client.connection.send(packet)

        assert await client.close_code() in (1000, 1006)


async def test_every_packet_counts_whatever_it_is():
    async with (
        live_server(actions_per_second=1, action_burst=1, unlimited_addresses=[]) as live,
        live.raw(await live.new()) as client,
    ):
        await client.connect()
        bucket = live.application.library.connection_limits.packet_bucket("127.0.0.1")
        for _ in range(4):
            await client.connection.send("3")

        await until(lambda: bucket.tokens < 0)
