"""Clients that mean harm are cut, and cost next to nothing; the others are served meanwhile."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from server.sockets.protocol import JOIN_BYTES, MAX_MESSAGE_BYTES
from server.sockets.transport.uvicorn_http import UNWANTED_BYTES
from tests.support.clients import message
from tests.support.intruder import (
    BINARY,
    CONT,
    PING,
    TEXT,
    frame,
    intruder,
    join,
    still_serves,
)
from tests.support.live import live_server
from tests.support.polling import polling_client
from tests.support.waiting import WAIT_SECONDS

BOTH_WAYS = True
SOON = 2.0
WITHIN = 4.0
"""Sooner than what a place is taken back for, and than what uvicorn waits between requests."""
EVENT = '42["oh_user_action",'
NONSENSE = [
    EVENT + "[" * 100_000,
    EVENT + "[" * 100_000 + "]" * 100_000 + "]",
    EVENT + '{"a":' * 50_000 + "1" + "}" * 50_000 + "]",
    "40" + "[" * 100_000,
    "42" + "9" * 500 + '["x"]',
    "451000-" + '["x",{"_placeholder":true,"num":0}]',
    "4599999999999-" + '["x"]',
    "",
    "49",
    "4",
    "9",
    "42{",
    "42",
    "4\u0664" + '["x"]',
]
NO_BODIES = [b"\x1e".join([b"3"] * 17), b"\x1e" * 100_000, b"nonsense", b"4\xff\xfe", b"", b"d=40"]
HUGE = ["9" * 400, "-" + "9" * 30, "1e999", "1" + "0" * 4000]


@pytest.fixture
async def live():
    async with live_server() as opened:
        yield opened


@pytest.fixture
async def impatient():
    async with live_server(handshake_seconds=SOON) as opened:
        yield opened


def code_of(came):
    """The code of the close frame that ends what came; None when there is none."""
    return int.from_bytes(came[came.rindex(b"\x88") + 2 :][:2]) if b"\x88" in came else None


async def test_an_endless_head_is_refused_in_words(live):
    async with intruder(live.url) as one:
        await one.send(b"GET /alive HTTP/1.1\r\n" + (b"X: " + b"x" * 4000 + b"\r\n") * 20)
        answer = await one.answer()
        assert (answer.status, answer.headers["connection"]) == (431, "close")
        assert b'"head_too_large"' in await one.cut(WITHIN)


@pytest.mark.parametrize("path", ["/api/settings", "/socket.io/?EIO=4&sid={sid}"])
async def test_an_endless_body_is_refused_at_the_limit_and_not_read_for_ever(live, path):
    async with polling_client(live.url) as session, intruder(live.url) as one:
        target = path.format(sid=session._asked["sid"])
        head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        await one.send(f"{head}Content-Type: application/json\r\n\r\n".encode())
        sent = 0
        try:
            while sent < 2 * UNWANTED_BYTES:
                await one.send(b"10000\r\n" + b"4" * 65536 + b"\r\n")
                sent += 65536
        except ConnectionError:
            pass
        assert UNWANTED_BYTES < sent < UNWANTED_BYTES + 4 * MAX_MESSAGE_BYTES
    await still_serves(live)


@pytest.mark.parametrize("path", ["/api/conversations", "/socket.io/?EIO=4&sid={sid}"])
async def test_a_body_that_does_not_come_is_not_waited_for(impatient, path):
    async with polling_client(impatient.url) as session, intruder(impatient.url) as one:
        asked = {"Content-Length": "100", "Content-Type": "application/json"}
        answer = await one.ask("POST", path.format(sid=session._asked["sid"]), asked, b"4")

        assert answer.status == 408
        assert answer.headers["connection"] == "close"


async def test_a_body_nobody_wants_ends_the_connection_soon():
    async with live_server(session_api_key="k") as live, intruder(live.url) as one:
        asked = {"Content-Length": "4000000", "Content-Type": "application/json"}
        assert (await one.ask("POST", "/api/conversations", asked)).status == 401
        await one.send(b"x" * 300_000)
        assert b'"unauthorized"' in await one.cut(WITHIN)


async def test_a_body_of_a_poll_that_is_none_is_refused(live):
    async with polling_client(live.url, conversation_id=await live.new()) as client:
        for body in NO_BODIES:
            answer = await client._http.post("/socket.io/", params=client._asked, content=body)
            assert answer.status_code == 400, body[:20]
        assert (await client.connect()).startswith("40{")
        await client.send("1")


async def test_a_chunked_poll_is_read_as_any_other(live):
    async def parts():
        yield b"4"
        yield b"0"

    async with polling_client(live.url, conversation_id=await live.new()) as client:
        sent = await client._http.post("/socket.io/", params=client._asked, content=parts())

        assert sent.text == "OK"
        assert (await client.packet()).startswith("40{")
        await client.send("1")


async def test_a_frame_that_announces_too_much_is_refused_unread(live):
    for size in (MAX_MESSAGE_BYTES + 1, 2**31, 2**62):
        for opcode in (TEXT, BINARY):
            async with intruder(live.url) as one:
                await join(live, one)
                await one.send(frame(opcode, b"4" * 100, announced=size))
                assert code_of(await one.cut(WITHIN)) == 1009
    await still_serves(live)


async def test_before_joining_nothing_long_is_taken(live):
    async with intruder(live.url) as one:
        await one.upgrade("conversation_id=x")
        await one.message()
        await one.send(frame(TEXT, b"4", announced=JOIN_BYTES + 1))
        assert code_of(await one.cut(WITHIN)) == 1009


async def test_fragments_without_end_are_refused_when_they_are_too_much_together(live):
    async with intruder(live.url) as one:
        await join(live, one)
        await one.send(frame(TEXT, b"4" * 2**20, fin=False))
        await one.send(frame(CONT, b"4" * 2**20, fin=False) * 3)
        await one.send(frame(CONT, b"4", announced=2**20))
        assert code_of(await one.cut(WITHIN)) == 1009


async def test_empty_fragments_take_no_memory_and_the_message_still_comes(live):
    text = f"{EVENT}{orjson.dumps(message('/quiet')).decode()}]".replace("42[", "427[").encode()
    async with intruder(live.url) as one:
        await join(live, one)
        await one.send(frame(TEXT, text[:10], fin=False))
        await one.send(frame(CONT, b"", fin=False) * 300)
        await one.send(frame(CONT, text[10:]))
        while not (await one.message()).startswith("437["):
            continue


async def test_a_flood_of_pings_does_not_keep_others_from_being_served(live):
    async with intruder(live.url) as one:
        await join(live, one)
        for _ in range(20):
            await one.send(frame(PING, b"x" * 100) * 1000)
        await still_serves(live)


async def test_what_makes_no_sense_ends_the_connection_or_is_refused(live, caplog):
    for text in NONSENSE:
        async with intruder(live.url) as one:
            await join(live, one)
            await one.text(text)
            await one.text('4217["oh_user_action",{"action":"none"}]')
            came = await until_answered(one)
            assert came is None or "error" in came, text[:50]
    assert "Traceback" not in caplog.text
    await still_serves(live)


async def until_answered(one):
    try:
        while not (came := await one.message()).startswith("4317["):
            continue
    except (EOFError, ConnectionError, UnicodeDecodeError):
        return None
    return came


async def test_a_huge_number_is_taken_or_refused_but_breaks_nothing(live):
    for number in HUGE:
        async with intruder(live.url) as one:
            await join(live, one)
            body = f'{{"action":"message","args":{{"content":"/quiet","x":{number}}}}}'
            await one.text(f'4217["oh_user_action",{body}]')
            await until_answered(one)
    await still_serves(live)


async def test_of_ten_thousand_events_at_once_those_beyond_the_allowance_are_refused():
    limits: dict[str, Any] = {
        "actions_per_second": 100,
        "action_burst": 50,
        "unlimited_addresses": ["127.0.0.1"],
    }
    async with live_server(**limits) as live, intruder(live.url) as one:
        await join(live, one)
        body = orjson.dumps(["oh_user_action", {"action": "none"}])
        flood = b"".join(frame(TEXT, b"42%d%b" % (n, body)) for n in range(10_000))
        sending = asyncio.create_task(one.send(flood))
        for _ in range(3):
            await still_serves(live)
        codes = set()
        while "rate_limited" not in codes:
            told = await one.message()
            if told.startswith("43"):
                codes.add(orjson.loads(told[told.index("[") :])[0]["code"])
        sending.cancel()


async def test_an_address_that_breaks_the_protocol_again_and_again_is_banned_for_a_while():
    async with live_server(rate_violations="5/minute") as live:
        for _ in range(6):
            async with intruder(live.url) as one:
                await one.send(b"nonsense\r\n\r\n")
                await one.cut(WITHIN)
        async with intruder(live.url) as one:
            assert await one.cut(WITHIN) == b""
        await still_serves(live)
        async with httpx.AsyncClient(base_url=live.url, timeout=WAIT_SECONDS) as client:
            assert (await client.get("/alive")).status_code == 200
