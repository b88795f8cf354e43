"""Words of texts and queries: one form for every back-end, and places that are the text's own."""

import sqlite3
from contextlib import closing

import pytest
import regex
from hypothesis import given, strategies as st

from storage.search.words import (
    MAX_PHRASES,
    MAX_TOKENS,
    SNIPPET_CHARACTERS,
    Phrase,
    Piece,
    fold,
    phrases_of,
    snippet_of,
    spans_of,
    tokens_of,
)

TEXTS = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("aB1 _-é\u0301\u00ad\u200b\0ßﬁİø京ｶﾞがー한\u1112\u1161\u11ab กำ½™①🎉שּנُ"),
    ),
    max_size=30,
)


@given(TEXTS)
def test_the_full_text_table_sees_the_words_that_we_see(text):
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'ascii')")
        connection.execute("CREATE VIRTUAL TABLE seen USING fts5vocab (words, instance)")
        connection.execute("INSERT INTO words VALUES (?)", (fold(text),))
        seen = connection.execute("SELECT term FROM seen ORDER BY offset").fetchall()

    assert [term for (term,) in seen] == [token.word for token in tokens_of(text)]


@given(TEXTS)
def test_words_stand_in_order_within_the_text(text):
    tokens = list(tokens_of(text))

    assert all(0 <= token.start < token.end <= len(text) for token in tokens)
    assert tokens == sorted(tokens, key=lambda token: (token.start, token.end))


@given(TEXTS, TEXTS, TEXTS)
def test_a_text_is_found_within_a_longer_one(before, text, after):
    phrases = phrases_of(text)
    around = f"{before} {text} {after}"

    assert spans_of(around, phrases) is not None


@given(TEXTS, TEXTS)
def test_a_snippet_is_of_the_text_and_shows_what_was_found(text, asked):
    phrases = phrases_of(asked)
    spans = spans_of(text, phrases)
    shown = snippet_of(text, spans or [])

    line = "".join(piece.text for piece in shown)
    assert line == regex.sub(r"\s+", " ", text)
    assert any(piece.found for piece in shown) == bool(spans)


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ("two words", [("two",), ("words",)]),
        ('"a b" c', [("a", "b"), ("c",)]),
        ('"never closed', [("never", "closed")]),
        ('a"b c"d', [("a",), ("b", "c"), ("d",)]),
        ("foo.bar()", [("foo", "bar")]),
        ("東京 x", [("東", "京"), ("x",)]),
        ("* ! -", []),
    ],
)
def test_a_query_is_words_and_texts_in_quotes(query, phrases):
    assert phrases_of(query) == [Phrase(words) for words in phrases]


@pytest.mark.parametrize(
    ("query", "prefix"),
    [("kube", True), ("kube ", False), ('"kube"', False), ("kube!", True), ("東京", False)],
)
def test_the_last_word_may_go_on_unless_something_ends_it(query, prefix):
    assert [one.prefix for one in phrases_of(query, prefix=True)] == [prefix]


def test_a_long_query_is_cut():
    assert len(phrases_of("a " * 1_000)) == MAX_PHRASES
    assert [len(one.words) for one in phrases_of("b." * 1_000)] == [MAX_TOKENS]


def test_a_snippet_begins_near_what_was_found_and_is_one_line():
    text = "so\n\n" * 1_000 + "the needle here" + " hay" * 1_000

    pieces = snippet_of(text, spans_of(text, phrases_of("needle")) or [])

    line = "".join(piece.text for piece in pieces)
    assert Piece("needle", found=True) in pieces
    assert "\n" not in line
    assert line.startswith("\N{HORIZONTAL ELLIPSIS}so so")
    assert line.rstrip("\N{HORIZONTAL ELLIPSIS}").rstrip().endswith(" hay")
    assert len(line) <= SNIPPET_CHARACTERS + 2
