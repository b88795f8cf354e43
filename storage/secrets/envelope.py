"""The stored form of a user's record: a line with kind and checksum, then JSON; sans-IO."""

import json
import zlib
from typing import Any

from storage.errors import Damaged

FORMAT = "parley-record/1"


def wrap(kind: str, body: dict[str, Any]) -> bytes:
    """The bytes to store."""
    text = json.dumps(body, separators=(",", ":")).encode()
    return f"{FORMAT} {kind} {zlib.crc32(text):08x}\n".encode() + text


def unwrap(kind: str, raw: bytes) -> dict[str, Any]:
    """What `wrap` was given. Raises Damaged."""
    head, _, text = raw.partition(b"\n")
    if head.decode("ascii", "replace") != f"{FORMAT} {kind} {zlib.crc32(text):08x}":
        raise Damaged(f"a user's {kind} cannot be read: checksum or format")
    body = json.loads(text)
    if not isinstance(body, dict):
        raise Damaged(f"a user's {kind} cannot be read: not an object")
    return body
