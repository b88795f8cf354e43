"""Which websocket requests are accepted at once; all others go through the application."""

import pytest

from server.sockets.upgrade import accept_of, is_plain

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455, section 1.3."""
FIELDS = {
    b"host": b"localhost",
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": KEY,
}
QUERY = b"EIO=4&transport=websocket&conversation_id=x"


def test_the_common_form_is_answered_as_the_rfc_says():
    assert accept_of(list(FIELDS.items())) == ACCEPT


def test_extensions_that_are_offered_are_not_taken_up():
    fields = FIELDS | {b"sec-websocket-extensions": b"permessage-deflate"}

    assert accept_of(list(fields.items())) == ACCEPT


@pytest.mark.parametrize(
    "change",
    [
        {b"sec-websocket-version": b"8"},
        {b"sec-websocket-key": b""},
        {b"sec-websocket-key": b"too short"},
        {b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ=="[:-4]},
        {b"sec-websocket-key": KEY + b" "},
        {b"sec-websocket-protocol": b"chat"},
        {b"content-length": b"5"},
        {b"transfer-encoding": b"chunked"},
    ],
)
def test_any_other_form_is_left_to_the_library(change):
    assert accept_of(list((FIELDS | change).items())) is None


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_comes_twice_is_left_to_the_library(name):
    assert accept_of([*FIELDS.items(), (name, FIELDS[name])]) is None


def test_a_new_websocket_is_plain():
    assert is_plain(QUERY)
    assert is_plain(b"conversation_id=x&transport=websocket&t=abc&EIO=4")


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"EIO=3&transport=websocket",
        b"EIO=4&transport=polling",
        b"EIO=4",
        QUERY + b"&sid=abc",
        b"sid=abc&" + QUERY,
        QUERY + "&n=ä".encode(),
    ],
)
def test_any_other_query_is_not_plain(query):
    assert not is_plain(query)
