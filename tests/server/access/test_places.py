"""The limits of connections, in all and of one address, and the addresses that are let in no more."""

import asyncio
from typing import Any

from tests.support.intruder import intruder
from tests.support.live import live_server
from tests.support.rest import assert_refused, client_at, rest_server
from tests.support.waiting import WAIT_SECONDS

BOTH_WAYS = True
OPENING = "/socket.io/?EIO=4&transport=polling"


async def test_an_address_may_have_so_many_connections_and_no_more():
    async with (
        live_server(max_connections_per_address=2) as live,
        intruder(live.url) as first,
        intruder(live.url) as second,
    ):
        assert (await first.upgrade("conversation_id=x")).status == 101
        assert (await second.upgrade("conversation_id=x")).status == 101
        async with intruder(live.url) as third:
            answer = await third.answer()
            assert (answer.status, answer.headers["retry-after"]) == (429, "5")
            assert b'"rate_limited"' in await third.cut()
        async with intruder(live.url, "127.0.0.67") as other:
            assert (await other.ask("GET", "/alive")).status == 200
        first.close()
        async with asyncio.timeout(WAIT_SECONDS):
            while not await gets_in(live):
                continue


async def gets_in(live):
    async with intruder(live.url) as one:
        try:
            return (await one.ask("GET", "/alive")).status == 200
        except (EOFError, ConnectionError):
            return False


async def test_sessions_that_poll_hold_places_although_they_hold_no_connection():
    async with (
        rest_server(max_connections_per_address=2) as rest,
        client_at(rest, "10.0.0.1") as client,
        client_at(rest, "10.0.0.2") as other,
    ):
        for _ in range(2):
            assert (await client.get(OPENING)).text.startswith("0{")

        assert_refused(await client.get(OPENING), 429, "rate_limited")
        assert (await other.get(OPENING)).text.startswith("0{")


async def test_all_together_may_have_so_many_connections_and_no_more():
    async with (
        live_server(max_connections=2) as live,
        intruder(live.url, "127.0.0.1"),
        intruder(live.url, "127.0.0.1"),
        intruder(live.url, "127.0.0.1") as third,
    ):
        assert (await third.answer()).status == 503
        assert b'"not_available"' in await third.cut()


async def test_an_address_that_does_not_stop_knocking_is_cut_before_it_is_heard():
    limits: dict[str, Any] = {"rate_handshakes": "2/minute", "rate_violations": "3/minute"}
    async with live_server(**limits) as live:
        for _ in range(6):
            async with intruder(live.url) as one:
                await one.upgrade("conversation_id=x")
        async with intruder(live.url) as one:
            assert await one.cut() == b""
        assert await served_at(live, "127.0.0.67")


async def served_at(live, address):
    async with intruder(live.url, address) as one:
        return (await one.ask("GET", "/alive")).status == 200
