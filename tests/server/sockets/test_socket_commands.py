"""The agent steered through the socket, and what ends a connection."""

import contextlib

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.clients import ConnectRefused, command, joined, message
from tests.support.live import live_server
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def live():
    async with live_server() as opened:
        yield opened


def answered(text: str):
    return lambda event: event.get("message") == "You said: " + text


async def test_a_message_sent_while_the_loop_starts_is_kept_and_answered(live):
    async with live.joined(await live.new()) as client:
        told = await client.say("early")
        await client.event(answered("early"))

        assert told["status"] == "ok"


async def test_stop_ends_work_that_takes_long_and_the_next_message_resumes(live):
    async with live.joined(await live.new()) as client:
        await client.say("/slow 2 600000")
        await client.state("running")
        told = await client.send(command("stopped"))
        await client.state("stopped", after=told["id"])
        again = await client.say("hello")
        await client.state("running", after=again["id"])


async def test_pause_and_resume(live):
    async with live.joined(await live.new()) as client:
        await client.say("/slow 2 2000")
        await client.state("running")
        paused = await client.state("paused", after=(await client.send(command("paused")))["id"])
        await client.send(command("running"))
        await client.state("awaiting_user_input", after=paused["id"])


@pytest.mark.parametrize(
    ("decision", "outcome"), [("user_confirmed", "run"), ("user_rejected", "user_rejected")]
)
async def test_an_action_is_confirmed_or_rejected(decision, outcome):
    async with (
        live_server(confirmation_mode=True) as live,
        live.joined(await live.new()) as client,
    ):
        await client.say("/run echo hello")
        asked = await client.state("awaiting_user_confirmation")
        told = await client.send(command(decision))
        await client.state(decision, after=told["id"])
        await client.event(lambda event: event.get("observation") == outcome)
        await client.state("awaiting_user_input", after=asked["id"])


async def test_what_one_client_does_every_client_sees(live):
    conversation_id = await live.new()
    async with live.joined(conversation_id) as one, live.joined(conversation_id) as other:
        told = await one.say("hello")
        await one.state("awaiting_user_input", after=told["id"])
        await other.state("awaiting_user_input", after=told["id"])

        shared = [event for event in other.events if event["id"] >= told["id"]]
        assert shared == [event for event in one.events if event["id"] >= told["id"]]


async def test_a_message_of_3_mebibytes_passes(live):
    text = "/quiet\n" + "x" * 3 * MEBIBYTE
    async with live.raw(await live.new()) as client:
        await client.connect()
        told = await client.send(message(text))
        while told["id"] not in {event["id"] for event in client.received.events}:
            await client.event()

    assert told["status"] == "ok"
    assert any(event["message"] == text for event in client.received.events)


async def test_an_oversize_message_closes_with_1009_and_hurts_nobody_else(live):
    conversation_id = await live.new()
    async with live.joined(conversation_id) as other, live.raw(conversation_id) as client:
        await client.connect()
        with contextlib.suppress(ConnectionClosed):
            await client.connection.send("x" * 5 * MEBIBYTE)

        assert await client.close_code() == 1009
        assert (await other.say("hello"))["status"] == "ok"


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "4",
        "4x",
        "42",
        "42[]",
        "42{}",
        '42"a"',
        "42[[]]",
        "42[1,2,3]",
        "42{",
        "99",
        "47",
        "451-",
    ],
)
async def test_garbage_hurts_nobody_else(live, garbage):
    conversation_id = await live.new()
    async with live.joined(conversation_id) as other, live.raw(conversation_id) as client:
        await client.connect()
        await client.connection.send(garbage)
        await client.connection.send(garbage.encode())

        assert (await other.say("hello"))["status"] == "ok"
        await other.event(answered("hello"))


async def test_pings_of_one_who_reads_nothing_fill_no_buffer(live):
    async with live.raw(await live.new(), receive_bytes=4096) as client:
        await client.connect()
        client.stop_reading()
        (protocol,) = live.server.runner.server_state.connections
        for _ in range(3_000):
            await client.connection.ping()
        async with live.joined(await live.new()) as other:
            await other.say("hello")

        assert protocol.transport.get_write_buffer_size() < 128 * 1024


async def test_deletion_shows_stopped_ends_the_transport_and_refuses_the_way_back(live):
    conversation_id = await live.new()
    async with live.joined(conversation_id, reconnection=True) as client:
        await client.state("awaiting_user_input")

        assert await live.application.manager.delete_conversation(conversation_id, None)

        await client.state("stopped")
        await client.until(lambda one: one.disconnects != [])
        assert client.disconnects == ["transport error"]
        with pytest.raises(ConnectRefused) as refused:
            async with live.joined(conversation_id):
                pass
        assert refused.value.payload["message"] == "Conversation not found"
        assert len(live.application.connections) == 0


async def test_a_restart_shows_stopped_and_clients_come_back_with_their_cursor(tmp_path):
    async with server_process(tmp_path) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http:
            created = await http.post("/api/conversations", json={})
        conversation_id = created.json()["conversation_id"]
        async with joined(server.url, conversation_id, reconnection=True) as client:
            told = await client.say("hello")
            await client.state("awaiting_user_input", after=told["id"])

            assert await server.stop() == 0
            await client.until(lambda one: one.disconnects != [])
            stopped = client.events[-1]
            await server.start()
            await client.until(lambda one: len(one.connections) == 2)
            told = await client.say("again")
            await client.event(answered("again"))

            assert stopped["extras"]["agent_state"] == "stopped"
            assert client.connections[1].cursor == stopped["id"]
            assert client.disconnects == ["transport error"]
            assert client.ids == sorted(set(client.ids))
