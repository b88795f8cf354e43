"""The format of small records as files people can read, and of a folder of files as a whole.

A record is a line with kind, version and checksum, then its body.
"""

import zlib

from storage.errors import Damaged, NewerFormat

VERSION = 1
"""The version of a record's file."""
FORMAT = 1
"""The format of a folder; incremented when earlier versions must not use its files."""
FORMAT_KEY = "format"


def with_checksum(kind: str, body: bytes, version: int = VERSION) -> bytes:
    """Return the content of a file that holds `body`; `kind` is one word."""
    return f"parley-{kind} {version} {zlib.crc32(body):08x}\n".encode() + body


def checked_body(kind: str, content: bytes, key: str) -> bytes:
    """Return the body inside `with_checksum`'s result. Raises Damaged, NewerFormat naming the key."""
    _, body = versioned_body(kind, content, key, VERSION)
    return body


def versioned_body(kind: str, content: bytes, key: str, newest: int) -> tuple[int, bytes]:
    """Return the version and the body, for a kind of which there are versions up to `newest`.

    Raises Damaged, NewerFormat naming the key.
    """
    line, _, body = content.partition(b"\n")
    written = [*line.split(b" "), b"", b""][1]
    version = int(written) if written.isdigit() else 0
    if version == 0 or with_checksum(kind, body, version) != content:
        raise Damaged(f"{key} fails its checksum or has an unknown format version")
    if version > newest:
        raise NewerFormat(key, version, newest)
    return version, body


def format_in(content: bytes) -> int:
    """Return the format that a note names. Raises Damaged."""
    try:
        return int(checked_body(FORMAT_KEY, content, FORMAT_KEY))
    except ValueError as error:
        raise Damaged(f"{FORMAT_KEY} holds no number") from error
