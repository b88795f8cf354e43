"""Messages between processes: round trips, and refusals of what is none."""

import pytest
from hypothesis import given, strategies as st

from server.cluster.wire import (
    HEAD_BYTES,
    MOST_BYTES,
    PAIR_BYTES,
    BadMessage,
    Kind,
    Message,
    decode,
    encode,
    encode_notice,
)

LONG = st.integers(0, 2**64 - 1)
SHORT = st.integers(0, 2**32 - 1)
FLAGS = st.integers(0, 255)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PAIRED = st.sampled_from([Kind.RINGS, Kind.OWNERS, Kind.LOOPS])


@given(PAIRED, FLAGS, LONG, LONG, st.dictionaries(LONG, SHORT))
def test_numbers_and_values_come_back_in_their_order(kind, flags, incarnation, sequence, pairs):
    found = decode(encode(kind, flags, incarnation, sequence, pairs))

    assert found[:4] == (kind, flags, incarnation, sequence)
    assert dict(zip(found.numbers, found.values, strict=True)) == pairs
    assert [*found.numbers] == [*pairs]


@given(FLAGS, LONG, LONG, TEXTS, st.dictionaries(TEXTS, st.none() | st.booleans() | TEXTS))
def test_notices_come_back(flags, incarnation, sequence, name, payload):
    found = decode(encode_notice(flags, incarnation, sequence, name, payload))

    assert found.notice == {"conversation_id": name, "payload": payload}
    assert found[:4] == (Kind.NOTICE, flags, incarnation, sequence)


def test_a_ring_takes_twelve_bytes():
    assert len(encode(Kind.RINGS, 0, 1, 1, {})) == HEAD_BYTES
    assert len(encode(Kind.RINGS, 0, 1, 1, {7: 1, 8: 2})) == HEAD_BYTES + 2 * PAIR_BYTES == 45


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_and_nothing_else_happens(data):
    with pytest.raises(BadMessage):
        decode(b"X" + data)


@given(st.dictionaries(LONG, SHORT, min_size=1, max_size=5), st.data())
def test_a_torn_message_is_refused_or_has_whole_pairs(pairs, data):
    whole = encode(Kind.RINGS, 0, 1, 1, pairs)
    torn = whole[: data.draw(st.integers(0, len(whole) - 1))]

    count, rest = divmod(len(torn) - HEAD_BYTES, PAIR_BYTES)
    if count < 0 or rest:
        with pytest.raises(BadMessage):
            decode(torn)
    else:
        assert len(decode(torn).numbers) == len(decode(torn).values) == count


def test_a_kind_of_a_later_version_has_a_place_in_the_order_and_no_content():
    data = bytearray(encode(Kind.RINGS, 0, 5, 9, {1: 2}))
    data[3] = 200

    assert decode(bytes(data)) == Message(200, 0, 5, 9)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"conversation_id": 1, "payload": {}}', b'{"conversation_id": "c"}'],
)
def test_a_notice_without_its_parts_is_refused(body):
    whole = encode_notice(0, 1, 1, "c", {})

    with pytest.raises(BadMessage):
        decode(whole[:HEAD_BYTES] + body)


def test_a_message_that_is_too_long_is_refused():
    with pytest.raises(BadMessage, match=str(MOST_BYTES + 1)):
        decode(encode(Kind.RINGS, 0, 1, 1, {}).ljust(MOST_BYTES + 1, b"0"))
