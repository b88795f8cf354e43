"""The one place that says which ids may become keys of a medium."""

import re

from storage.errors import BadKey

MAX_ID_LENGTH = 100
"""Characters in the longest acceptable conversation id."""

_USUAL = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_ID_LENGTH}}}")
"""Ids that need no closer look: almost all."""
_ACCEPTED = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def check_conversation_id(text: str) -> str:
    """Return `text` when it may name a conversation on every medium.

    Accepted are 1 to 100 of `A-Z a-z 0-9 _ . -`, not beginning with a dot, without `..`, and not
    beginning with `task-` (clients take such ids for something else). Raises BadKey with a text
    that may be shown to people and does not repeat the id.
    """
    if _USUAL.fullmatch(text):
        return text
    problem = _problem_of(text)
    if problem is not None:
        raise BadKey(f"Conversation ID {problem}")
    return text


def _problem_of(text: str) -> str | None:
    # The four texts that clients know come first and in their order.
    problems = (
        (not text, "is empty"),
        (len(text) > MAX_ID_LENGTH, "is too long"),
        ("\x00" in text, "contains invalid characters"),
        (".." in text or "/" in text or "\\" in text, "contains invalid path characters"),
        (any(_is_control(character) for character in text), "contains control characters"),
        (any(character.isspace() for character in text), "contains whitespace"),
        (text.startswith("task-"), "must not start with task-"),
        (text.startswith("."), "must not start with a dot"),
        (_ACCEPTED.fullmatch(text) is None, "contains invalid characters"),
    )
    return next((problem for found, problem in problems if found), None)


def _is_control(character: str) -> bool:
    return ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0  # noqa: PLR2004 - C0, DEL, C1
