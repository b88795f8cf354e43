"""Small records as files people can read: a line with kind, version and checksum, then the body."""

import zlib

from storage.errors import Damaged, NewerFormat

VERSION = 1


def with_checksum(kind: str, body: bytes, version: int = VERSION) -> bytes:
    """Return the content of a file that holds `body`; `kind` is one word."""
    return f"parley-{kind} {version} {zlib.crc32(body):08x}\n".encode() + body


def checked_body(kind: str, content: bytes, key: str) -> bytes:
    """Return the body inside `with_checksum`'s result. Raises Damaged, NewerFormat naming the key."""
    line, line_end, body = content.partition(b"\n")
    if not line_end or with_checksum(kind, body) != content:
        version = [*line.split(b" "), b"", b""][1]
        is_newer = version.isdigit() and int(version) > VERSION
        if is_newer and with_checksum(kind, body, int(version)) == content:
            raise NewerFormat(key, int(version), VERSION)
        raise Damaged(f"{key} fails its checksum or has an unknown format version")
    return body
