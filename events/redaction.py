"""Redactor: masks the secrets of a conversation in what is stored and sent."""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from events.actions import ACTIONS
from events.event import AgentState, ConfirmationState, FileEditSource, FileReadSource, RecallType
from events.layout import ENVELOPE, layout_of
from events.observations import OBSERVATIONS, CmdOutputMetadata

NO_MATCH = r"(?!)"
NOTHING: frozenset[str] = frozenset()
MASK = "<secret_hidden>"
MIN_SECRET_CHARACTERS = 4
MIN_LINE_CHARACTERS = 8
MAX_LINES = 100
"""A secret of more lines is looked for as a whole only: every line costs every text a search."""
MIN_BASE64_BYTES = 8
"""Shorter ones would be found by chance in a large picture."""
MAX_OVERLAP_SEARCHES = 10_000
NEVER_MASKED = frozenset(("id", "timestamp", "source", "cause", "action", "observation"))
CLOSED_WORDS: dict[str, frozenset[str]] = {
    "agent_state": frozenset(AgentState),
    "confirmation_state": frozenset(ConfirmationState),
    "impl_source": frozenset(FileReadSource) | frozenset(FileEditSource),
    "recall_type": frozenset(RecallType),
}
PROTOCOL_NAMES = frozenset(
    (
        *ENVELOPE,
        *("action", "observation", "message", "args", "extras", "content", "timeout", "success"),
        *CmdOutputMetadata.model_fields,
    )
).union(*(layout_of(kind).wire_names for kind in (*ACTIONS.values(), *OBSERVATIONS.values())))


class Redactor:
    """Masks secret values in event payloads. It holds values only and never shows them.

    Values are also masked without the white space around them, line by line (lines of 8 characters
    or more, of values of up to 100 lines), and as Python, JSON and, from 8 bytes on, base64 spell
    them. Those shorter than 4 characters are ignored. A value stays masked after its name has got another one, because
    it may still be valid elsewhere.
    """

    __slots__ = ("_pattern", "_values")

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._values = NOTHING
        self._pattern = re.compile(NO_MATCH)
        self.update(secrets or {})

    def __repr__(self) -> str:
        return f"Redactor({len(self._values)} values)"

    def update(self, secrets: Mapping[str, str]) -> None:
        """Add secrets, name to value, to those already masked."""
        known = len(self._values)
        for value in secrets.values():
            for part in _parts_of(value):
                if len(part) >= MIN_SECRET_CHARACTERS:
                    self._values |= _spellings_of(part)
        if len(self._values) > known:
            longest_first = sorted(self._values, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def redact(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Copy an event's JSON object with every secret masked, keys and derived texts included.

        Left alone are the values of `id`, `timestamp`, `source`, `cause`, `action` and
        `observation` at the top level, keys that are the protocol's own names, and the
        protocol's closed words where they stand (such as an agent state): a secret that is one
        of them tells nothing there, and masking it would break the event. Without secrets the
        payload itself is returned.
        """
        if not self._values:
            return payload
        return {
            self._key(key): value if key in NEVER_MASKED else self._value(value, key)
            for key, value in payload.items()
        }

    def redact_text(self, text: str) -> str:
        """Mask the secrets in one text."""
        # Plain substring searches are several times faster than the pattern's first one.
        if any(value in text for value in self._values):
            return _masked(text, self._pattern)
        return text

    def _value(self, value: Any, key: str) -> Any:
        if isinstance(value, str):
            return value if value in CLOSED_WORDS.get(key, ()) else self.redact_text(value)
        if isinstance(value, dict):
            return {self._key(name): self._value(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, "") for item in value]
        return value

    def _key(self, key: str) -> str:
        return key if key in PROTOCOL_NAMES else self.redact_text(key)


def _parts_of(value: str) -> set[str]:
    """What of a value may stand alone: shells drop its last line break, and programs print lines."""
    parts = {value, value.strip()}
    lines = [line.strip() for line in value.splitlines()]
    if 1 < len(lines) <= MAX_LINES:
        parts.update(line for line in lines if len(line) >= MIN_LINE_CHARACTERS)
    return parts


def _spellings_of(value: str) -> set[str]:
    """Tell how a value may stand in texts that quote it, such as a derived message."""
    return _in_base64(value.encode("utf-8", "surrogatepass")) | {
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
    }


def _in_base64(value: bytes) -> set[str]:
    """What of a value's base64 does not depend on what stands before and after it."""
    if len(value) < MIN_BASE64_BYTES:
        return set()
    found = set()
    for before in range(3):
        # A character holds 6 bits: the first that are the value's alone, and the last.
        start, stop = -(-8 * before // 6), 8 * (before + len(value)) // 6
        for encode in (b64encode, urlsafe_b64encode):
            found.add(encode(b"\0" * before + value).decode()[start:stop])
    return found


def _masked(text: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(text)
    pieces: list[str] = []
    end = 0
    # Where occurrences overlap they are masked as one, or the rest of the second would be shown.
    # Searching from each occurrence's second character is bounded, or a long run of a periodic
    # secret would hold everybody up.
    for _ in range(MAX_OVERLAP_SEARCHES):
        if found is None:
            return "".join(pieces) + text[end:]
        start, stop = found.span()
        if start >= end:
            pieces += (text[end:start], MASK)
        end = max(end, stop)
        found = pattern.search(text, start + 1)
    return "".join(pieces) + pattern.sub(MASK, text[end:])
