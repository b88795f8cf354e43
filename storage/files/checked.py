"""Small records as files people can read: a line with kind, version and checksum, then the body."""

import zlib

from storage.errors import Damaged

VERSION = 1


def with_checksum(kind: str, body: bytes) -> bytes:
    """Return the content of a file that holds `body`; `kind` is one word."""
    return f"parley-{kind} {VERSION} {zlib.crc32(body):08x}\n".encode() + body


def checked_body(kind: str, content: bytes, key: str) -> bytes:
    """Return the body inside `with_checksum`'s result. Raises Damaged naming the key."""
    _, line_end, body = content.partition(b"\n")
    if not line_end or with_checksum(kind, body) != content:
        raise Damaged(f"{key} fails its checksum or has an unknown format version")
    return body
