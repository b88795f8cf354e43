import pytest
from hypothesis import given, strategies as st

from storage.errors import BadKey
from storage.keys import (
    MAX_ID_LENGTH,
    check_conversation_id,
    check_key,
    check_prefix,
    owner_part,
)


@pytest.mark.parametrize(
    "text",
    ["a", "0", "_", "-", "a.b-c_D", "x" * MAX_ID_LENGTH, "0" * 32, "task", "my-task-1", "a."],
)
def test_an_id_of_plain_characters_is_returned_as_it_is(text):
    assert check_conversation_id(text) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("x" * 101, "is too long"),
        ("a\x00b", "contains invalid characters"),
        ("../evil", "contains invalid path characters"),
        ("a..b", "contains invalid path characters"),
        ("a/b", "contains invalid path characters"),
        ("a\\b", "contains invalid path characters"),
        ("a\x1fb", "contains control characters"),
        ("a\nb", "contains control characters"),
        ("a\x7f", "contains control characters"),
        ("a\x85", "contains control characters"),
        ("a b", "contains whitespace"),
        ("a\u2003", "contains whitespace"),
        ("task-1", "must not start with task-"),
        (".", "must not start with a dot"),
        (".hidden", "must not start with a dot"),
        ("a:b", "contains invalid characters"),
        ("é", "contains invalid characters"),
        ("٣", "contains invalid characters"),
        ("\ud800", "contains invalid characters"),
    ],
)
def test_a_refused_id_gets_a_text_for_people_that_does_not_repeat_it(text, problem):
    with pytest.raises(BadKey) as refusal:
        check_conversation_id(text)

    assert str(refusal.value) == f"Conversation ID {problem}"


@given(st.text(max_size=120))
def test_what_is_accepted_is_one_plain_path_segment(text):
    try:
        check_conversation_id(text)
    except BadKey:
        return

    assert 1 <= len(text) <= MAX_ID_LENGTH
    assert text.isascii()
    assert text.replace("_", "a").replace("-", "a").replace(".", "a").isalnum()
    assert not text.startswith(".")
    assert ".." not in text


@pytest.mark.parametrize("text", ["a", "a/b", "logs/c-1_.x/00", "x" * 128, "/".join("abcdefgh")])
def test_a_key_of_plain_parts_is_returned_as_it_is(text):
    assert check_key(text) == text
    assert check_prefix(text) == text
    assert check_prefix(f"{text}/") == f"{text}/"
    assert check_prefix("") == ""


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "/a", "a//b", "..", "a/../b", "a/..", ".a", "a/.b", "a..b", "a b", "a\\b"),
        *("a\x00", "é", "a\n", "~", "x" * 129, "/".join(["x" * 100] * 6)),
    ],
)
def test_anything_else_is_no_key(text):
    with pytest.raises(BadKey):
        check_key(text)
    if text:
        with pytest.raises(BadKey):
            check_prefix(f"{text}/")


def test_owners_have_parts_of_their_own_whatever_their_ids_hold():
    names = [
        None,
        "",
        "nobody",
        "u-nobody",
        "ann",
        "Ann",
        "../x",
        "a/b",
        "\x00",
        "\ud800",
        "x" * 999,
    ]

    parts = [check_key(owner_part(name)) for name in names]

    assert len(set(parts)) == len(names)
