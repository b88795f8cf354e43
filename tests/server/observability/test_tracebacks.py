"""Exceptions in the log: where and what, and nothing they may quote."""

import sqlite3

import pytest

from events.errors import AppendFailed
from runtime_stub.errors import FileMissing
from runtime_stub.scripted import ScriptedFailure
from server.observability.logs import without_quotes, written


class AgentTrouble(Exception):
    """Somebody else's."""


class OddFault(OSError):
    """Somebody else's kind of a fault of the system."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (AppendFailed("the disk is full"), "AppendFailed: the disk is full"),
        (FileNotFoundError(2, "No such file"), "FileNotFoundError: [Errno 2] No such file"),
        (sqlite3.OperationalError("locked"), "sqlite3.OperationalError: locked"),
        (TypeError("no len()"), "TypeError: no len()"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("private"), "ValueError: (text left out)"),
        (KeyError("private"), "KeyError: (text left out)"),
        (ScriptedFailure("private"), "ScriptedFailure: (text left out)"),
        (FileMissing("/workspace/private"), "FileMissing: (text left out)"),
        (AgentTrouble("private"), f"{__name__}.AgentTrouble: (text left out)"),
        (OddFault("private"), f"{__name__}.OddFault: (text left out)"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_only_texts_that_quote_nothing_are_shown(error, line):
    assert without_quotes(error) == line


def test_causes_come_first_with_where_they_were_raised():
    try:
        try:
            int("private")
        except ValueError as cause:
            raise AppendFailed("not stored") from cause
    except AppendFailed as error:
        text = written((type(error), error, error.__traceback__))

    assert text.count("Traceback (most recent call last):") == 2
    assert text.index("ValueError: (text left out)") < text.index("AppendFailed: not stored")
    assert "in test_causes_come_first" in text
    assert "'private'" not in text


def test_what_a_group_holds_is_written_out():
    group = BaseExceptionGroup("private", [ValueError("private"), TypeError("plain")])

    text = written((type(group), group, None))

    assert "ValueError: (text left out)" in text
    assert "TypeError: plain" in text
    assert "private" not in text


def test_an_exception_whose_cause_is_itself_ends():
    error = AppendFailed("round")
    error.__cause__ = error

    assert written((type(error), error, None)).count("AppendFailed") == 1


def test_a_long_chain_is_cut():
    error = AppendFailed("0")
    for number in range(1, 40):
        error, cause = AppendFailed(str(number)), error
        error.__cause__ = cause

    assert written((type(error), error, None)).count("Traceback") <= 10
