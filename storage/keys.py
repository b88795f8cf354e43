"""Rules for ids that may become keys of a medium, and the construction of keys."""

import hashlib
import re

from storage.errors import BadKey

MAX_ID_LENGTH = 100
"""Characters in the longest acceptable conversation id."""

MAX_KEY_LENGTH = 512
"""Characters in the longest acceptable key."""
MAX_PART_LENGTH = 128
"""Characters between two slashes of a key."""

DATABASE_NAME = "parley.sqlite3"
"""The database's file in a data directory."""
FILES_NAME = "files"
"""The folder of a data directory in which records are plain files."""

RESERVE_NAME = "reserve"
"""The file in a data directory whose space is reserved for deletions."""

KEY_MARK = "sealing/key-id"
"""The key of the file that names the key of all sealed values."""

PROOF = "proof"
"""The key of a file that is written to see whether files can be."""

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


def check_key(text: str) -> str:
    """Return `text` when it may be the key of a file on every medium.

    Accepted are up to 512 characters: parts of 1 to 128 of `A-Z a-z 0-9 _ . -` joined by slashes,
    none beginning with a dot, none with `..` in it. Raises BadKey.
    """
    if len(text) > MAX_KEY_LENGTH or not all(is_part(part) for part in text.split("/")):
        raise BadKey("invalid key")
    return text


def check_prefix(text: str) -> str:
    """Return `text` when keys may begin with it; "" and a slash at the end are fine too.

    Raises BadKey.
    """
    if text:
        check_key(text.removesuffix("/"))
    return text


def owner_part(user_id: str | None) -> str:
    """Return the part of a key that identifies an owner.

    It is a digest, since user ids may contain anything. None has a distinct part.
    """
    if user_id is None:
        return "nobody"
    return f"u-{hashlib.sha256(user_id.encode('utf-8', 'surrogatepass')).hexdigest()}"


def log_part(conversation_id: str, *parts: str) -> str:
    """Return the key of a part of a conversation's log."""
    return "/".join(("logs", conversation_id, *parts))


def segment_key(conversation_id: str, first_id: int) -> str:
    """Return the key of the segment whose first event has that id; keys sort as ids do."""
    return log_part(conversation_id, "tail", f"{first_id:010}")


USERS = "users/"
"""The prefix of the keys of users' records."""
RECORDS = "records/"
LISTS = "lists/"
UNSETTLED = "open/"
"""Prefixes of the keys of records, of their lists and of the marks on conversations in use."""

WORKSPACE = "workspace"
"""The part of a log's folder that holds what is kept of the conversation's workspace."""


def is_part(text: str) -> bool:
    """Return whether `text` may be a part of a key between slashes."""
    return (
        len(text) <= MAX_PART_LENGTH and ".." not in text and _ACCEPTED.fullmatch(text) is not None
    )


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
