"""JSON values that can be stored and sent again: refusals for clients, repairs for our own side."""

from collections.abc import Mapping, Set as AbstractSet
from enum import Enum
from math import isfinite

from pydantic import BaseModel

MAX_DEPTH = 64
MAX_VALUES = 10_000
"""Validating many small values would block the event loop."""
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**64 - 1
SHOWN_CHARACTERS = 60


def refusal_of(value: object) -> str | None:
    """Return in one sentence why a value is refused; None if it is accepted.

    Refused are integers beyond 64 bits, NaN and infinities, strings that are not valid Unicode
    (lone surrogates), nesting deeper than 64, more than 10,000 values in all, keys that are not
    strings, and values that are not JSON.
    """
    values = 1
    pending: list[tuple[str, object, int]] = [("", value, 1)]
    while pending:
        path, current, depth = pending.pop()
        why = _fault(current, depth)
        if why is not None:
            return f"{shown(path) if path else 'The payload'} {why}."
        if isinstance(current, (dict, list)):
            values += len(current)
            if values > MAX_VALUES:
                return f"{shown(path) if path else 'The payload'} brings more than 10,000 values."
        if isinstance(current, dict):
            for key, item in current.items():
                if not isinstance(key, str) or not _is_unicode(key):
                    return f"A key in {shown(path) if path else 'the payload'} is not valid text."
                pending.append((_beneath(path, key), item, depth + 1))
        elif isinstance(current, list):
            pending.extend((path, item, depth + 1) for item in current)
    return None


def storable(value: object) -> object:
    """Return a copy of a value made by an agent or a runtime in which everything can be stored.

    Lone surrogates become U+FFFD, integers beyond 64 bits and keys that are no strings their text,
    NaN and infinities null, bytes and unknown objects text, models objects, other collections
    lists. What is nested deeper than 64 levels (or within itself) becomes "...".
    """
    return _storable(value, 1)


def whole_text(text: str) -> str:
    """Return the text with each lone surrogate replaced by U+FFFD."""
    if _is_unicode(text):
        return text
    # Two surrogates that belong together are one character.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _storable(value: object, depth: int) -> object:
    if isinstance(value, BaseModel):
        value = value.__dict__
    if not isinstance(value, (Mapping, list, tuple, AbstractSet)):
        return _storable_scalar(value)
    if depth > MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {_key_of(key): _storable(item, depth + 1) for key, item in value.items()}
    return [_storable(item, depth + 1) for item in value]


def _storable_scalar(value: object) -> object:
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if MIN_INTEGER <= value <= MAX_INTEGER else _text_of_integer(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    return whole_text(_text_of(value))


def _key_of(key: object) -> str:
    return str(_storable_scalar(key))


def _text_of_integer(value: int) -> str:
    try:
        return str(int(value))
    except ValueError:  # Python refuses to spell very long ones in decimal
        return hex(value)


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - an agent's object may do anything
        return f"<{type(value).__name__}>"


def shown(name: str) -> str:
    """Quote a name from outside for a message, shortened and with control characters escaped."""
    clipped = name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}..."
    escaped = clipped.encode("unicode_escape", "backslashreplace").decode("ascii")
    return f"`{clipped if clipped.isprintable() else escaped}`"


def _beneath(path: str, key: str) -> str:
    # Clipped, because a long key would else be copied for each of its children.
    if len(path) > SHOWN_CHARACTERS:
        return path
    return f"{path}.{key[:SHOWN_CHARACTERS]}" if path else key[: SHOWN_CHARACTERS + 1]


def _fault(value: object, depth: int) -> str | None:
    if isinstance(value, str):
        return None if _is_unicode(value) else "is not valid Unicode"
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if MIN_INTEGER <= value <= MAX_INTEGER else "is an integer beyond 64 bits"
    if isinstance(value, float):
        return None if isfinite(value) else "is not a finite number"
    if not isinstance(value, (dict, list)):
        return "is not a JSON value"
    return f"is nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else None


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
