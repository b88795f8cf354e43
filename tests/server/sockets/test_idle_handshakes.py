"""A client that holds a place without a word loses it, at every door."""

import asyncio

import pytest

from server.sockets.transport.uvicorn_http import UNWANTED_SECONDS
from tests.support.clients import message
from tests.support.intruder import (
    PING,
    TEXT,
    frame,
    intruder,
    join,
    still_serves,
    until_figure,
)
from tests.support.live import live_server
from tests.support.polling import polling_client

BOTH_WAYS = True
SOON = 2.0
WITHIN = 8.0
"""Sooner than the default."""


@pytest.fixture
async def impatient():
    async with live_server(handshake_seconds=SOON) as opened:
        yield opened


async def test_a_connection_on_which_nothing_comes_is_cut(impatient):
    async with intruder(impatient.url) as one:
        assert await one.cut(WITHIN) == b""


@pytest.mark.parametrize(
    "said",
    [
        b"G",
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: local",
        b"GET /alive HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 4000,
    ],
)
async def test_a_request_that_does_not_come_in_time_is_answered_so(impatient, said):
    async with intruder(impatient.url) as one:
        await one.send(said)
        assert (await one.answer()).status == 408
        assert b'"too_slow"' in await one.cut(WITHIN)


async def test_a_body_that_comes_after_its_answer_ends_no_connection(impatient):
    async with intruder(impatient.url) as one:
        headers = {"Content-Length": "5", "Content-Type": "application/json"}
        assert (await one.ask("POST", "/alive", headers)).status == 405
        await one.send(b"{   }")

        with pytest.raises(TimeoutError):
            await one.cut(UNWANTED_SECONDS + 0.5)
        assert (await one.ask("GET", "/health")).status == 200


async def test_a_second_request_must_come_in_time_as_the_first(impatient):
    async with intruder(impatient.url) as one:
        assert (await one.ask("GET", "/alive")).status == 200
        await one.send(b"GET /alive HTTP/1.1\r\nHost: loc")
        assert b"200" not in await one.cut(WITHIN)


async def test_a_websocket_that_never_asks_to_join_is_cut(impatient):
    async with intruder(impatient.url) as one:
        assert (await one.upgrade(f"conversation_id={await impatient.new()}")).status == 101
        assert b'0{"sid"' in await one.cut(WITHIN)
    await until_figure(impatient.url, "parley_handshakes", 0)


async def test_a_websocket_that_only_pings_is_cut_as_well(impatient):
    async with intruder(impatient.url) as one:
        assert (await one.upgrade("conversation_id=x")).status == 101
        await one.send(frame(PING, b"") * 10 + frame(TEXT, b"3"))
        await one.cut(WITHIN)


async def test_one_who_was_refused_and_says_nothing_more_is_cut(impatient):
    async with intruder(impatient.url) as one:
        assert (await one.upgrade("conversation_id=unknown")).status == 101
        await one.message()
        await one.text("40")
        assert (await one.message()).startswith("44{")
        await one.cut(WITHIN)


async def test_one_who_left_and_says_nothing_more_is_cut(impatient):
    async with intruder(impatient.url) as one:
        await join(impatient, one)
        await one.text("41")
        await one.cut(WITHIN)


async def test_a_session_that_polls_and_never_asks_to_join_is_ended(impatient):
    async with polling_client(impatient.url) as client, asyncio.timeout(WITHIN):
        while (await client.poll()).status_code == 200:
            continue
    await until_figure(impatient.url, "parley_handshakes", 0)


async def test_one_who_has_joined_may_be_silent_for_as_long_as_he_likes(impatient):
    conversation_id = await impatient.new()
    async with (
        impatient.raw(conversation_id) as client,
        polling_client(impatient.url, conversation_id=conversation_id) as poller,
        intruder(impatient.url) as other,
    ):
        await client.connect()
        await poller.connect()
        await client.connection.send("41/elsewhere,")
        await other.upgrade("conversation_id=x")
        await other.cut(WITHIN)
        await poller.send("41/elsewhere,")

        assert (await client.send(message("/quiet")))["status"] == "ok"
        assert impatient.application.connections.count(conversation_id) == 2
        await poller.send("1")


async def test_where_too_many_only_hold_a_place_the_oldest_gives_way():
    async with (
        live_server(max_handshakes=8) as live,
        intruder(live.url, "127.0.0.67") as first,
        intruder(live.url, "127.0.0.68") as second,
    ):
        await first.upgrade("conversation_id=x")
        await second.upgrade("conversation_id=x")
        async with intruder(live.url, "127.0.0.67") as third:
            await third.upgrade("conversation_id=x")
            await first.cut(WITHIN)
            await third.text("40")
            assert "44{" in await third.message() + await third.message()
        await second.text("40")
        assert "44{" in await second.message() + await second.message()
        await still_serves(live)
