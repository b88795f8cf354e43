"""Whatever stands in a request's head, or is missing there: it is served, or refused in words, in time."""

import orjson
import pytest

from server.sockets.transport.uvicorn_http import LONGEST_HEAD_BYTES, MOST_PIPELINED
from tests.support.clients import message
from tests.support.intruder import TEXT, WEBSOCKET, frame, intruder, join, until_figure
from tests.support.live import live_server
from tests.support.polling import polling_client
from tests.support.waiting import WAIT_SECONDS

BOTH_WAYS = True
SOON = 2.0
WITHIN = 4.0
"""Sooner than what uvicorn waits between requests."""
LONG = {
    "a long cookie": {"Cookie": "a=" + "x" * 9_000},
    "a very long cookie": {"Cookie": "a=" + "x" * 60_000},
    "many lines": {f"X-Line-{number}": "v" for number in range(200)},
}


@pytest.fixture
async def live():
    async with live_server() as opened:
        yield opened


@pytest.fixture
async def impatient():
    async with live_server(handshake_seconds=SOON) as opened:
        yield opened


def head_of(target, fields):
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def upgrade_of(conversation_id, fields, filler=""):
    target = f"/socket.io/?EIO=4&transport=websocket&conversation_id={conversation_id}{filler}"
    return head_of(target, {"Host": "localhost"} | WEBSOCKET | fields)


async def joins(one):
    assert (await one.answer()).status == 101
    await one.message()
    await one.text("40")
    assert (await one.message()).startswith("40{")


async def refused(one, status, code):
    answer = await one.answer()
    told = orjson.loads(await one.body(answer))
    assert (answer.status, told["code"]) == (status, code)
    assert told["message"]
    assert await one.cut(WITHIN) == b""


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("fields", LONG.values(), ids=list(LONG))
async def test_a_websocket_with_a_head_within_the_bound_is_accepted(live, fields, parts, reused):
    head = upgrade_of(await live.new(), fields)
    async with intruder(live.url) as one:
        if reused:
            answer = await one.ask("GET", "/alive")
            await one.body(answer)
        size = len(head) // parts + 1
        for start in range(0, len(head), size):
            await one.send(head[start : start + size])
        await joins(one)


async def test_a_websocket_with_a_long_query_is_accepted(live):
    async with intruder(live.url) as one:
        await one.send(upgrade_of(await live.new(), {}, "&filler=" + "x" * 17_000))
        await joins(one)


@pytest.mark.parametrize("fields", [{}, WEBSOCKET], ids=["http", "websocket"])
@pytest.mark.parametrize("target", ["/alive", "/socket.io/?EIO=4&transport=websocket", "/nowhere"])
@pytest.mark.parametrize("size", [LONGEST_HEAD_BYTES + 1, 4 * LONGEST_HEAD_BYTES])
@pytest.mark.parametrize("place", ["line", "field"])
async def test_a_longer_head_is_refused_in_words(live, target, fields, size, place):
    filler = "x" * size
    target += ("&" if "?" in target else "?") + filler if place == "line" else ""
    fields = fields | ({"X": filler} if place == "field" else {})
    async with intruder(live.url) as one:
        await one.send(head_of(target, {"Host": "localhost"} | fields))
        await refused(one, 431, "head_too_large")
    await until_figure(live.url, 'parley_connections_refused_total{reason="head_too_large"}', 1)


@pytest.mark.parametrize(
    "said",
    [
        WEBSOCKET | {"Sec-WebSocket-Key": "short"},
        {name: WEBSOCKET[name] for name in ("Upgrade", "Connection")},
    ],
)
async def test_a_websocket_s_request_that_is_none_is_answered_and_ended(live, said):
    async with intruder(live.url) as one:
        answer = await one.ask("GET", "/socket.io/?EIO=4&transport=websocket", said)
        assert answer.status == 400
        assert b"WebSocket" in await one.cut(WITHIN)
    await until_figure(live.url, 'parley_connections_refused_total{reason="not_accepted"}', 1)


async def test_another_version_of_the_protocol_is_refused_with_the_one_that_is_spoken(live):
    async with intruder(live.url) as one:
        answer = await one.upgrade("conversation_id=x", {"Sec-WebSocket-Version": "12"})
        assert (answer.status, answer.headers["sec-websocket-version"]) == (426, "13")
        assert b'"upgrade_required"' in await one.cut(WITHIN)


@pytest.mark.parametrize("body", [{"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}])
async def test_a_websocket_s_request_with_a_body_is_refused(live, body):
    async with intruder(live.url) as one:
        await one.send(upgrade_of("x", body))
        await refused(one, 400, "bad_request")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_only_get_asks_for_a_websocket(live, method):
    async with intruder(live.url) as one:
        asked = await one.ask(method, "/socket.io/?EIO=4&transport=websocket", WEBSOCKET)
        assert asked.status == 405
        await one.cut(WITHIN)


async def test_a_websocket_where_there_is_none_is_refused_in_words(live):
    async with intruder(live.url) as one:
        answer = await one.ask("GET", "/alive", WEBSOCKET)
        assert answer.status == 404
        assert orjson.loads(await one.body(answer))["code"] == "not_found"


async def test_a_websocket_that_polled_and_does_not_change_over_in_time_is_cut(impatient):
    conversation_id = await impatient.new()
    async with polling_client(impatient.url, conversation_id=conversation_id) as client:
        await client.connect()
        for said in ([], ["2probe"]):
            async with intruder(impatient.url) as one:
                assert (await one.upgrade(f"sid={client._asked['sid']}")).status == 101
                for text in said:
                    await one.text(text)
                assert (b"3probe" in await one.cut(WITHIN)) is bool(said)
        await client.send('420["oh_user_action",{"action":"none"}]')
        while not (await client.packet()).startswith("430["):
            continue
        await client.send("1")


async def test_only_one_upgrade_of_a_session_is_under_way(live):
    async with (
        polling_client(live.url, conversation_id=await live.new()) as client,
        intruder(live.url) as first,
        intruder(live.url) as second,
    ):
        await client.connect()
        asked = f"sid={client._asked['sid']}"
        assert (await first.upgrade(asked)).status == 101
        assert (await second.upgrade(asked)).status == 400
        await first.text("2probe")
        assert await first.message() == "3probe"
        await first.text("5")
        await first.text('420["oh_user_action",{"action":"none"}]')
        while not (await first.message()).startswith("430["):
            continue


async def test_what_stands_right_behind_a_websocket_s_request_is_read(live):
    async with intruder(live.url) as one:
        head = upgrade_of(await live.new(), {})
        await one.send(head + frame(TEXT, b"40"))
        assert (await one.answer()).status == 101
        assert (await one.message()).startswith("0{")
        assert (await one.message()).startswith("40{")


async def test_an_upgrade_that_does_not_wait_for_an_answer_ends_the_connection(live):
    async with intruder(live.url) as one:
        await one.send(head_of("/alive", {"Host": "localhost"}) + upgrade_of("x", {}))
        await one.cut(WITHIN)
    await until_figure(live.url, "parley_clients", 1)


async def test_an_upgrade_to_something_else_is_answered_as_if_it_were_none(live):
    asked = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMA"}
    async with intruder(live.url) as one:
        answer = await one.ask("GET", "/alive", asked)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await one.cut(WITHIN)


@pytest.mark.parametrize("said", [b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00"])
async def test_what_is_no_request_is_answered_in_words(live, said):
    async with intruder(live.url) as one:
        await one.send(said)
        await refused(one, 400, "bad_request")
    await until_figure(live.url, 'parley_connections_refused_total{reason="bad_request"}', 1)


async def test_a_head_that_does_not_match_in_the_end_is_found_out_in_one_pass(live):
    blanks = {f"X-{number}": " " * 300 for number in range(30)}
    async with intruder(live.url) as one:
        await one.send(upgrade_of("x", blanks)[:-2] + b"X: \x00\r\n\r\n")
        await refused(one, 400, "bad_request")


async def test_blank_lines_between_requests_hold_no_place(impatient):
    async with intruder(impatient.url) as one:
        await one.body(await one.ask("GET", "/alive"))
        await one.send(b"\r\n")
        assert await one.cut(WITHIN) == b""


async def test_a_connection_that_is_idle_behind_a_late_body_is_closed(impatient):
    async with intruder(impatient.url) as one:
        headers = {"Content-Length": "5", "Content-Type": "application/json"}
        answer = await one.ask("POST", "/alive", headers)
        await one.body(answer)
        await one.send(b"{   }")
        assert await one.cut(WAIT_SECONDS) == b""


async def test_many_who_say_too_much_shut_nobody_out():
    async with live_server(max_connections=10) as live:
        for _ in range(20):
            async with intruder(live.url, "127.0.0.1") as one:
                await one.send(upgrade_of("x", {"Cookie": "a=" + "x" * 9_000}))
                assert (await one.answer()).status == 101
        async with live.raw(await live.new()) as good:
            await good.connect()
            assert (await good.send(message("/quiet hello")))["status"] == "ok"


async def test_every_connection_is_counted(live):
    async with intruder(live.url) as first, intruder(live.url) as second, intruder(live.url) as one:
        await first.send(b"GET /al")
        await second.send(upgrade_of("x", {"Cookie": "a=" + "x" * 9_000}))
        await join(live, one)
        await until_figure(live.url, "parley_clients", 4)
        await until_figure(live.url, "parley_handshakes", 2)


async def test_an_upgrade_may_be_said_in_several_lines(live):
    lines = b"Connection: keep-alive\r\nConnection: Upgrade\r\nConnection: x\r\n"
    head = upgrade_of(await live.new(), {}).replace(b"Connection: Upgrade\r\n", lines)
    async with intruder(live.url) as one:
        await one.send(head)
        await joins(one)


async def test_a_websocket_s_request_by_some_of_its_lines_only_is_none(live, caplog):
    asked = {name: WEBSOCKET[name] for name in WEBSOCKET if name != "Connection"}
    async with intruder(live.url) as one:
        answer = await one.ask("GET", "/socket.io/?EIO=4&transport=websocket", asked)
        assert answer.status == 400
    assert "Traceback" not in caplog.text


async def test_a_websocket_that_asks_for_polling_is_refused(live):
    async with intruder(live.url) as one:
        answer = await one.ask("GET", "/socket.io/?EIO=4&transport=polling", WEBSOCKET)
        assert answer.status == 400
        assert orjson.loads(await one.body(answer))["code"] == "bad_request"
    assert not live.application.library.connections


@pytest.mark.parametrize("behind", [b"\xff" * 50, frame(TEXT, b"\xff"), b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_stands_behind_a_head_that_is_refused_is_not_read(live, behind, caplog):
    async with intruder(live.url) as one:
        await one.send(upgrade_of("x", {"Origin": "https://evil.example"}) + behind)
        await refused(one, 403, "forbidden")
    assert not [line for line in caplog.records if line.levelname in ("ERROR", "CRITICAL")]


async def test_a_request_before_what_is_none_is_answered(live):
    async with intruder(live.url) as one:
        await one.send(head_of("/alive", {"Host": "localhost"}) + b"nonsense\r\n\r\n")
        answer = await one.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await one.body(answer)
        assert await one.cut(WITHIN) == b""


@pytest.mark.parametrize("expects", [{}, {"Expect": "100-continue"}])
async def test_a_body_that_cannot_be_read_is_refused_in_words(live, expects, caplog):
    asked = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"} | expects
    async with intruder(live.url) as one:
        await one.send(
            head_of("/api/conversations", {"Host": "localhost"} | asked).replace(b"GET", b"POST", 1)
            + b"5\r\nhello"
        )
        await until_figure(live.url, "parley_handshakes", 0)
        if expects:
            assert (await one.answer()).status == 100
        await one.send(b"not a chunk")
        await refused(one, 400, "bad_request")
    assert "Traceback" not in caplog.text


async def test_clients_that_leave_at_once_are_no_faults(live, caplog):
    for target in ("/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=websocket"):
        for fields in ({}, WEBSOCKET, WEBSOCKET | {"X": "y" * 9_000}):
            for _ in range(10):
                async with intruder(live.url) as one:
                    await one.send(head_of(target, {"Host": "localhost"} | fields))
    async with intruder(live.url) as one:
        assert (await one.ask("GET", "/alive")).status == 200
    assert "Traceback" not in caplog.text


async def test_of_requests_that_do_not_wait_for_answers_so_many_are_answered(live):
    head = head_of("/alive", {"Host": "localhost"})
    async with intruder(live.url) as one:
        await one.send(head * 4 * MOST_PIPELINED)
        answered = (await one.cut(WITHIN)).count(b"HTTP/1.1 200")
    assert answered == MOST_PIPELINED + 1
    async with intruder(live.url) as one:
        await one.send(head * MOST_PIPELINED)
        for _ in range(MOST_PIPELINED):
            await one.body(await one.answer())
        assert (await one.ask("GET", "/alive")).status == 200


async def test_whoever_is_cut_or_refused_is_a_line_of_the_log(impatient, caplog, capsys):
    caplog.set_level("INFO")
    async with intruder(impatient.url) as one, intruder(impatient.url) as other:
        await one.send(b"GET /alive HTTP/1.1\r\nX: y")
        await other.send(b"nonsense\r\n\r\n")
        await one.cut(WITHIN)
        await other.cut(WITHIN)
    for foreign in ({}, {"X": "y" * 9_000}):  # read by the direct reader, and by the other
        async with intruder(impatient.url) as one:
            await one.upgrade("conversation_id=x", {"Origin": "https://evil.example"} | foreign)
    said = [record.getMessage() for record in caplog.records if record.name[:6] == "server"]
    said += capsys.readouterr().out.splitlines()
    assert (
        "closed a connection of 127.0.0.66: it sent no complete request or CONNECT in time" in said
    )
    assert "refused a request of 127.0.0.66: The data received is not an HTTP request" in said
    assert sum("websocket" in line and "refused" in line for line in said) == 2
