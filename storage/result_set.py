"""One page of a list, and the codec of the opaque cursor that leads to the next one."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from storage.errors import BadCursor

T = TypeVar("T")

CURSOR_VERSION = 1
MAX_CURSOR_LENGTH = 512
"""Characters; a longer text is refused unread."""
NUMBERS = range(-(2**63), 2**63)
"""The numbers that a sort key may have, which are those that every database can compare."""


class ResultSet(BaseModel, Generic[T]):
    """One page: `results` in list order; `next_page_id` is None on the last page."""

    results: list[T] = Field(default_factory=list)
    next_page_id: str | None = None


def encode_cursor(kind: str, key: Sequence[str | int]) -> str:
    """Return the cursor after the record with that sort key, in lists of that kind.

    The form is unpadded base64url of compact JSON `[version, kind, *key]`; callers treat it as
    opaque.
    """
    text = json.dumps([CURSOR_VERSION, kind, *key], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(text: str, kind: str, types: Sequence[type]) -> list[Any]:
    """Return the sort key inside a cursor made by `encode_cursor`, its parts of exactly `types`.

    Raises BadCursor for everything that `encode_cursor` would not have written for that kind.
    """
    version, found_kind, *key = _read(text)
    if (version, found_kind) != (CURSOR_VERSION, kind) or [type(part) for part in key] != [*types]:
        raise BadCursor("Not a page id of this list")
    if any(isinstance(part, int) and part not in NUMBERS for part in key):
        raise BadCursor("Not a page id of this list")
    if encode_cursor(kind, key) != text:
        raise BadCursor("Not a page id")
    return key


def _read(text: str) -> list[Any]:
    if len(text) > MAX_CURSOR_LENGTH:
        raise BadCursor("Not a page id")
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        value = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise BadCursor("Not a page id") from error
    if not isinstance(value, list) or len(value) < 2:  # noqa: PLR2004 - version and kind
        raise BadCursor("Not a page id")
    return value
