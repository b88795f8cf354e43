"""Lines, edits and differences of a text: pure functions from the old text to the new one."""

from difflib import unified_diff
from io import StringIO
from itertools import takewhile

from events.actions import FileEditAction
from runtime_stub.errors import WorkspaceError

COMMANDS = ("view", "create", "str_replace", "insert")
MAX_COMPARED_LINES = 1000
"""Texts with more lines are not compared line by line, which could take quadratic time."""


def lines_of(text: str) -> list[str]:
    """Return the lines with their ends; only a newline ends one."""
    return StringIO(text, newline="\n").readlines()


def selected(text: str, start: int, end: int, view_range: list[int] | None = None) -> str:
    """Take a part of `text`. `view_range` counts lines from 1, both included, -1 being the last.

    Without one, the lines `start` (from 0) up to before `end` (-1 for all). Raises WorkspaceError.
    """
    lines = lines_of(text)
    if view_range is None:
        return "".join(lines[max(start, 0) : None if end < 0 else end])
    if len(view_range) != len(("first", "last")):
        raise WorkspaceError("view_range takes two line numbers, the first and the last.")
    first, last = view_range
    last = len(lines) if last == -1 else last
    if not 1 <= first <= max(len(lines), 1) or last < first - 1:
        raise WorkspaceError(f"view_range {view_range} does not fit the file's {len(lines)} lines.")
    return "".join(lines[first - 1 : last])


def rewritten(old: str, content: str, start: int, end: int) -> str:
    """Return `old` with the lines from `start` (0-based) to before `end` (-1 for all) replaced."""
    lines = lines_of(old)
    before, after = lines[: max(start, 0)], lines[end:] if end >= 0 else []
    if after and content and not content.endswith("\n"):
        content += "\n"
    return "".join([*before, content, *after])


def edited(action: FileEditAction, old: str | None) -> str:
    """Return the file's new text; `old` is None for a file that does not exist.

    Without a command `content` replaces the lines `start` to `end`, from 1, both included, -1
    being the last. Raises WorkspaceError with a text that helps to do better.
    """
    match action.command:
        case "create":
            if old is not None:
                raise WorkspaceError(f"{action.path} exists: use str_replace or insert.")
            if action.file_text is None:
                raise WorkspaceError("create needs file_text.")
            return action.file_text
        case "str_replace":
            return _replaced(action, _existing(action, old))
        case "insert":
            return _inserted(action, _existing(action, old))
        case "":
            whole = old is None or (action.start, action.end) == (1, -1)
            return action.content if whole else _drafted(action, _existing(action, old))
        case command:
            raise WorkspaceError(f"Unknown edit command {command!r}: use {', '.join(COMMANDS)}.")


def _existing(action: FileEditAction, old: str | None) -> str:
    if old is None:
        raise WorkspaceError(f"{action.path} does not exist: use create.")
    return old


def _replaced(action: FileEditAction, old: str) -> str:
    if not action.old_str:
        raise WorkspaceError("str_replace needs old_str, the text to replace.")
    count = old.count(action.old_str)
    if count != 1:
        raise WorkspaceError(
            f"old_str was found {count} times in {action.path}, nothing was replaced: "
            "give a text that is found once."
        )
    return old.replace(action.old_str, action.new_str or "")


def _inserted(action: FileEditAction, old: str) -> str:
    lines = lines_of(old)
    if action.new_str is None or action.insert_line is None:
        raise WorkspaceError("insert needs new_str and insert_line.")
    if not 0 <= action.insert_line <= len(lines):
        raise WorkspaceError(f"insert_line must be from 0 to {len(lines)}.")
    before = "".join(lines[: action.insert_line])
    if before and not before.endswith("\n"):
        before += "\n"
    return rewritten(old, before + action.new_str, 0, action.insert_line)


def _drafted(action: FileEditAction, old: str) -> str:
    count = len(lines_of(old))
    end = count if action.end == -1 else action.end
    if not 1 <= action.start <= end + 1 <= count + 1:
        raise WorkspaceError(
            f"Lines {action.start} to {action.end} do not fit the file's {count} lines."
        )
    return rewritten(old, action.content, action.start - 1, end)


def difference(path: str, old: str, new: str) -> str:
    """Return the unified diff; for long texts one hunk, first to last changed line."""
    before, after = old.removesuffix("\n").split("\n"), new.removesuffix("\n").split("\n")
    before, after = before if old else [], after if new else []
    if max(len(before), len(after)) <= MAX_COMPARED_LINES:
        return "\n".join(unified_diff(before, after, path, path, lineterm=""))

    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    removed, added = before[head : len(before) - tail], after[head : len(after) - tail]
    if not removed and not added:
        return ""
    return "\n".join(
        [
            f"--- {path}",
            f"+++ {path}",
            f"@@ -{_span(head, removed)} +{_span(head, added)} @@",
            *(f"-{line}" for line in removed),
            *(f"+{line}" for line in added),
        ]
    )


def _common(first: list[str], second: list[str]) -> int:
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _span(skipped: int, lines: list[str]) -> str:
    return f"{skipped + 1 if lines else skipped},{len(lines)}"
