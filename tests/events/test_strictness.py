from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from events.strictness import MAX_DEPTH, refusal_of, shown


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**64, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        (float("-inf"), "finite"),
        ("\ud800", "Unicode"),
        (nested(MAX_DEPTH + 1), "64 levels"),
        (nested(100_000), "64 levels"),
        ({1: 2}, "not valid text"),
        ({"\udfff": 2}, "not valid text"),
        ([""] * 10_001, "10,000 values"),
        (b"bytes", "not a JSON value"),
        ({1, 2}, "not a JSON value"),
        ((1, 2), "not a JSON value"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused(value, words):
    assert words in str(refusal_of(value))
    assert words in str(refusal_of({"args": [{"a": value}]}))


@pytest.mark.parametrize(
    "value", [2**64 - 1, -(2**63), 1.5, "\U0001f600é", nested(MAX_DEPTH), None]
)
def test_values_at_the_limits_are_taken(value):
    assert refusal_of(value) is None
    assert orjson.loads(orjson.dumps(value)) == value


def test_the_refusal_names_the_offending_key():
    assert refusal_of({"args": {"cost": 2**70}}) == "`args.cost` is an integer beyond 64 bits."


def test_a_long_key_neither_floods_the_text_nor_is_copied_for_each_child():
    refusal = refusal_of({"k" * 1_000_000: {str(number): 2**70 for number in range(10_000)}})

    assert refusal is not None
    assert len(refusal) < 200


def test_a_shown_name_is_short_and_without_control_characters():
    assert shown("a\nb\ud800") == "`a\\nb\\ud800`"
    assert shown("x" * 500) == f"`{'x' * 60}...`"


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(), max_size=5), inner),
    max_leaves=8,
)


@given(json_like)
def test_whatever_is_taken_can_be_written(value):
    if refusal_of(value) is None:
        assert orjson.loads(orjson.dumps(value)) == value
