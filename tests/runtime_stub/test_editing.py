"""Edits of a text: what each command makes of it and what it refuses."""

import pytest

from events.actions import FileEditAction
from runtime_stub.editing import MAX_COMPARED_LINES, difference, edited, rewritten, selected
from runtime_stub.errors import WorkspaceError

TEXT = "1\n2\n3\n"


def edit(old: str | None, command: str = "", **fields) -> str:
    return edited(FileEditAction(path="a", command=command, **fields), old)


@pytest.mark.parametrize(
    ("start", "end", "view_range", "found"),
    [
        (0, -1, None, TEXT),
        (1, -1, None, "2\n3\n"),
        (0, 1, None, "1\n"),
        (5, 9, None, ""),
        (-3, 2, None, "1\n2\n"),
        (0, -1, [1, 1], "1\n"),
        (0, -1, [2, -1], "2\n3\n"),
        (0, -1, [2, 99], "2\n3\n"),
    ],
)
def test_a_part_of_a_text_is_chosen_by_lines(start, end, view_range, found):
    assert selected(TEXT, start, end, view_range) == found


@pytest.mark.parametrize("view_range", [[], [1], [1, 2, 3], [0, 1], [4, 5], [3, 1]])
def test_a_range_that_does_not_fit_is_refused(view_range):
    with pytest.raises(WorkspaceError, match="view_range"):
        selected(TEXT, 0, -1, view_range)


def test_an_empty_text_can_be_viewed():
    assert selected("", 0, -1, [1, -1]) == ""


def test_only_newlines_end_lines():
    assert selected("a\u2028b\x0c\r\nc", 0, 1) == "a\u2028b\x0c\r\n"


def test_lines_are_rewritten_in_place():
    assert rewritten(TEXT, "x", 1, 2) == "1\nx\n3\n"
    assert rewritten(TEXT, "x", 1, -1) == "1\nx"
    assert rewritten(TEXT, "", 0, 2) == "3\n"


@pytest.mark.parametrize(
    ("old", "fields", "new"),
    [
        (None, {"command": "create", "file_text": "x"}, "x"),
        (TEXT, {"command": "str_replace", "old_str": "2\n", "new_str": "x\ny\n"}, "1\nx\ny\n3\n"),
        (TEXT, {"command": "str_replace", "old_str": "2\n"}, "1\n3\n"),
        (TEXT, {"command": "insert", "insert_line": 0, "new_str": "x"}, "x\n1\n2\n3\n"),
        (TEXT, {"command": "insert", "insert_line": 3, "new_str": "x\n"}, "1\n2\n3\nx\n"),
        ("1", {"command": "insert", "insert_line": 1, "new_str": "x"}, "1\nx"),
        (None, {"content": "x"}, "x"),
        (TEXT, {"content": "x"}, "x"),
        (TEXT, {"content": "x", "start": 2, "end": 2}, "1\nx\n3\n"),
        (TEXT, {"content": "x", "start": 2}, "1\nx"),
        (TEXT, {"content": "x", "start": 4}, "1\n2\n3\nx"),
    ],
)
def test_each_command_makes_the_new_text(old, fields, new):
    assert edit(old, **fields) == new


@pytest.mark.parametrize(
    ("old", "fields", "reason"),
    [
        (TEXT, {"command": "create", "file_text": "x"}, "exists"),
        (None, {"command": "create"}, "needs file_text"),
        (None, {"command": "str_replace", "old_str": "x"}, "does not exist"),
        (TEXT, {"command": "str_replace"}, "needs old_str"),
        (TEXT, {"command": "str_replace", "old_str": "x", "new_str": "y"}, "0 times"),
        (TEXT, {"command": "str_replace", "old_str": "\n", "new_str": "y"}, "3 times"),
        (TEXT, {"command": "insert", "insert_line": 1}, "needs new_str"),
        (TEXT, {"command": "insert", "insert_line": 4, "new_str": ""}, "from 0 to 3"),
        (TEXT, {"content": "x", "start": 0}, "do not fit"),
        (TEXT, {"content": "x", "start": 2, "end": 4}, "do not fit"),
        (TEXT, {"command": "undo"}, "Unknown edit command 'undo'"),
    ],
)
def test_an_edit_that_cannot_be_made_says_why(old, fields, reason):
    with pytest.raises(WorkspaceError, match=reason):
        edit(old, **fields)


def test_a_difference_is_a_unified_diff():
    assert difference("a", TEXT, "1\nx\n3\n") == "--- a\n+++ a\n@@ -1,3 +1,3 @@\n 1\n-2\n+x\n 3"
    assert difference("a", "", "x\n") == "--- a\n+++ a\n@@ -0,0 +1 @@\n+x"
    assert difference("a", TEXT, TEXT) == ""


def test_a_long_text_differs_in_one_hunk():
    lines = [f"{number}\n" for number in range(MAX_COMPARED_LINES + 1)]
    old, new = "".join(lines), "".join([*lines[:5], "x\n", *lines[6:]])

    assert difference("a", old, new) == "--- a\n+++ a\n@@ -6,1 +6,1 @@\n-5\n+x"
    assert difference("a", old, "x\n" + old) == "--- a\n+++ a\n@@ -0,0 +1,1 @@\n+x"
    assert difference("a", old, old) == ""
