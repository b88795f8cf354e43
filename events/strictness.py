"""What every JSON value from outside must keep to, so that it can be stored and sent again."""

from math import isfinite

MAX_DEPTH = 64
MAX_VALUES = 10_000
"""Reading through many small values would hold everybody up."""
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**64 - 1
SHOWN_CHARACTERS = 60


def refusal_of(value: object) -> str | None:
    """Say in one sentence why a value cannot be taken; None when it can.

    Refused are integers beyond 64 bits, NaN and infinities, strings that are not valid Unicode
    (lone surrogates), nesting deeper than 64, more than 10,000 values in all, keys that are not
    strings, and what is not JSON.
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
