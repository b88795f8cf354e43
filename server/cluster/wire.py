"""Messages between the processes of a cluster: one format, whatever carries them.

A message is "PR1", a kind in one byte, flags in one, the sender's incarnation and the number of its
message in eight each, all little-endian. A notice follows as JSON; of the other kinds all numbers
follow, in eight bytes each, and then as many values, in four each.
"""

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import orjson

LOOK = 2**32 - 1
"""The position of a log of which only its head tells what happened: deleted, or with a new holder."""
ANSWERS = 1
"""The flag of a process whose storage answers."""
HEAD_BYTES = 21
PAIR_BYTES = 12
"""Bytes of a number with its value."""
MOST_BYTES = 64 * 1024
"""Longer messages are refused."""
_MAGIC = b"PR1"
_HEAD = struct.Struct("<3sBBQQ")


class Kind(IntEnum):
    """The kinds of messages; a process passes over those it does not know."""

    RINGS = 1
    """Numbers of logs, and how far they have come."""
    OWNERS = 2
    """Numbers of owners, and the version of their masks."""
    LOOPS = 3
    """Numbers of logs whose loop somebody wants something of, or of owners with a free slot."""
    NOTICE = 4
    """A payload for the connections of a conversation, which is lost if it is lost."""


KINDS = frozenset(map(int, Kind))


class BadMessage(ValueError):
    """Bytes that are no message."""


class Message(NamedTuple):
    """A message as it was received."""

    kind: int
    flags: int
    incarnation: int
    sequence: int
    numbers: Sequence[int] = ()
    values: Sequence[int] = ()
    notice: Mapping[str, Any] | None = None


def encode(
    kind: Kind, flags: int, incarnation: int, sequence: int, pairs: Mapping[int, int]
) -> bytes:
    """Return a message of numbers with their values."""
    count = len(pairs)
    return struct.pack(
        f"<3sBBQQ{count}Q{count}I",
        *(_MAGIC, kind, flags, incarnation, sequence, *pairs, *pairs.values()),
    )


def encode_notice(
    flags: int, incarnation: int, sequence: int, conversation_id: str, payload: Mapping[str, Any]
) -> bytes:
    """Return a message with a payload for the connections of a conversation. Raises TypeError."""
    head = _HEAD.pack(_MAGIC, Kind.NOTICE, flags, incarnation, sequence)
    return head + orjson.dumps({"conversation_id": conversation_id, "payload": payload})


def decode(data: bytes) -> Message:
    """Return the message in these bytes; one of an unknown kind has no content. Raises BadMessage."""
    if not HEAD_BYTES <= len(data) <= MOST_BYTES:
        raise BadMessage(f"a message of {len(data)} bytes")
    magic, kind, flags, incarnation, sequence = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise BadMessage(f"a message that begins with {magic!r}")
    message = Message(kind, flags, incarnation, sequence)
    if kind == Kind.NOTICE:
        return message._replace(notice=_notice_in(data[HEAD_BYTES:]))
    if kind not in KINDS:
        return message
    count, rest = divmod(len(data) - HEAD_BYTES, PAIR_BYTES)
    if rest:
        raise BadMessage(f"a torn message: {rest} bytes too many")
    found = struct.unpack_from(f"<{count}Q{count}I", data, HEAD_BYTES)
    return message._replace(numbers=found[:count], values=found[count:])


def _notice_in(body: bytes) -> Mapping[str, Any]:
    try:
        notice = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadMessage("a notice that is no JSON") from error
    if (
        not isinstance(notice, dict)
        or not isinstance(notice.get("conversation_id"), str)
        or not isinstance(notice.get("payload"), dict)
    ):
        raise BadMessage("a notice without a conversation or a payload")
    return notice
