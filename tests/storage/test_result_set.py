import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given, strategies as st

from storage.errors import BadCursor
from storage.result_set import (
    CURSOR_VERSION,
    MAX_CURSOR_LENGTH,
    NUMBERS,
    decode_cursor,
    encode_cursor,
)

TYPES = (int, str)


def raw(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return urlsafe_b64encode(text).decode().rstrip("=")


@given(st.integers(NUMBERS.start, NUMBERS.stop - 1), st.text(max_size=20))
def test_a_key_comes_back_from_its_cursor(number, text):
    cursor = encode_cursor("things", (number, text))

    assert cursor.replace("-", "a").replace("_", "a").isalnum()
    assert decode_cursor(cursor, "things", TYPES) == [number, text]


@given(st.text())
def test_any_text_is_decoded_or_refused(text):
    with pytest.raises(BadCursor):
        decode_cursor(text, "things", TYPES)


@given(st.binary(max_size=60))
def test_any_bytes_in_a_cursor_are_decoded_or_refused(content):
    with pytest.raises(BadCursor):
        decode_cursor(raw(content), "things", TYPES)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "NQ==",
        "!" * 12,
        "a" * (MAX_CURSOR_LENGTH + 1),
        raw(b"[" * 300),
        raw(b"\xff\xfe"),
        raw(None),
        raw({}),
        raw([]),
        raw([CURSOR_VERSION]),
        raw([CURSOR_VERSION + 1, "things", 1, "a"]),
        raw([True, "things", 1, "a"]),
        raw([CURSOR_VERSION, "others", 1, "a"]),
        raw([CURSOR_VERSION, "things", 1]),
        raw([CURSOR_VERSION, "things", 1, "a", 2]),
        raw([CURSOR_VERSION, "things", True, "a"]),
        raw([CURSOR_VERSION, "things", 1.0, "a"]),
        raw([CURSOR_VERSION, "things", "1", "a"]),
        raw([CURSOR_VERSION, "things", 2**63, "a"]),
        raw([CURSOR_VERSION, "things", -(2**63) - 1, "a"]),
        raw([CURSOR_VERSION, "things", 10**300, "a"]),
        raw(b'[1, "things", 1, "a"]'),
        encode_cursor("things", (1, "a")) + "=",
        encode_cursor("things", (1, "a")) + "\n",
        " " + encode_cursor("things", (1, "a")),
    ],
)
def test_what_was_never_encoded_is_refused(cursor):
    with pytest.raises(BadCursor):
        decode_cursor(cursor, "things", TYPES)
