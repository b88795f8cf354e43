"""Which websocket requests are accepted as they come in; all others are given to uvicorn."""

import pytest

from server.sockets.direct.upgrade import LONGEST_REQUEST_BYTES, parse_upgrade

QUERY = "EIO=4&transport=websocket&conversation_id=x"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455, section 1.3."""
FIELDS = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def request(
    *more: str, target: str = f"/socket.io/?{QUERY}", version: str = "1.1", **change: str
) -> bytes:
    fields = FIELDS | {name.replace("_", "-"): text for name, text in change.items()}
    lines = [f"{name}: {text}" for name, text in fields.items()]
    start = f"GET {target} HTTP/{version}"
    return ("\r\n".join([start, *lines, *more]) + "\r\n\r\n").encode("latin-1")


def test_the_common_form_is_answered_as_the_rfc_says():
    plain = parse_upgrade(request())

    assert plain is not None
    assert plain.accept == ACCEPT
    assert plain.query == QUERY
    assert dict(plain.fields)[b"host"] == b"localhost"


@pytest.mark.parametrize(
    "data",
    [
        request("Cookie: a=b; c=d", "Origin: http://localhost:3000"),
        request("X-Name:\tM\xfcller \t"),
        request("Sec-WebSocket-Extensions: permessage-deflate"),
        request(Upgrade="WebSocket"),
        request(Connection="keep-alive, Upgrade"),
        request(target=f"/socket.io?{QUERY}"),
        request(target="/socket.io/?conversation_id=x&transport=websocket&t=abc&EIO=4"),
    ],
)
def test_what_browsers_and_proxies_add_changes_nothing(data):
    plain = parse_upgrade(data)

    assert plain is not None
    assert plain.accept == ACCEPT
    assert all(value == value.strip() for _, value in plain.fields)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        request()[:-1],
        request()[:40],
        request() + b"\x81",
        request().replace(b"\r\n", b"\n"),
        request().replace(b"GET", b"POST"),
        request(version="1.0"),
        request(Sec_WebSocket_Version="8"),
        request(Sec_WebSocket_Key=""),
        request(Sec_WebSocket_Key="too short"),
        request(Sec_WebSocket_Key=KEY[:-4]),
        request(Sec_WebSocket_Key=f"{KEY} {KEY}"),
        request(Upgrade="h2c"),
        request(Connection="close"),
        request("Sec-WebSocket-Protocol: chat"),
        request("Content-Length: 5"),
        request("Transfer-Encoding: chunked"),
        request("Host: elsewhere"),
        request("no field"),
        request("bad name: x"),
        request("name : x"),
        request("folded: x", " y"),
        request("nul: \x00"),
        request("bare: x\ry"),
        request("long: " + "x" * LONGEST_REQUEST_BYTES),
        request(target=f"/socket.io/x?{QUERY}"),
        request(target=f"http://localhost/socket.io/?{QUERY}"),
        request(target="/socket.io/"),
        request(target="/socket.io/?EIO=3&transport=websocket"),
        request(target="/socket.io/?EIO=4&transport=polling"),
        request(target="/socket.io/?EIO=4"),
        request(target=f"/socket.io/?{QUERY}&sid=abc"),
        request(target=f"/socket.io/?sid=abc&{QUERY}"),
        request(target=f"/socket.io/?{QUERY}&n=\xe4"),
        request(target=f"/socket.io/?{QUERY}#x"),
        request(target=f"/socket.io/?{QUERY} x"),
    ],
)
def test_any_other_form_is_left_to_uvicorn(data):
    assert parse_upgrade(data) is None


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_comes_twice_is_left_to_uvicorn(name):
    assert parse_upgrade(request(f"{name.lower()}: {FIELDS[name]}")) is None
