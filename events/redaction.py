"""Redactor: masks the secrets of a conversation in stored and sent events."""

from collections.abc import Mapping, Sequence
from typing import Any

from events.actions import ACTIONS
from events.event import (
    AgentState,
    ConfirmationState,
    FileEditSource,
    FileReadSource,
    Interruption,
    RecallType,
)
from events.layout import ENVELOPE, layout_of
from events.observations import OBSERVATIONS, CmdOutputMetadata
from events.secret_patterns import (
    MIN_CHARACTERS,
    SecretPatterns,
    Span,
    groups_of,
    merged,
    patterns_of,
)
from events.strictness import whole_text

NOTHING: frozenset[str] = frozenset()
MAX_FORMER = 8
"""Earlier sets of values that are searched one by one; more are compiled into one."""
MASK = "<secret_hidden>"
_MASK = MASK.encode()
NEVER_MASKED = frozenset(
    ("id", "timestamp", "source", "cause", "action", "observation", "client_id")
)
CLOSED_WORDS: dict[str, frozenset[str]] = {
    "agent_state": frozenset(AgentState),
    "confirmation_state": frozenset(ConfirmationState),
    "interrupted": frozenset(Interruption),
    "impl_source": frozenset(FileReadSource) | frozenset(FileEditSource),
    "recall_type": frozenset(RecallType),
}
PROTOCOL_NAMES = frozenset(
    (
        *ENVELOPE,
        *("action", "observation", "message", "args", "extras", "content", "timeout", "success"),
        "edited_by",
        *CmdOutputMetadata.model_fields,
    )
).union(*(layout_of(kind).wire_names for kind in (*ACTIONS.values(), *OBSERVATIONS.values())))


class Redactor:
    """Masks secret values in event payloads, found as SecretPatterns describes.

    Values shorter than 4 characters are ignored. A value stays masked after its name has got a new
    value, because it may still be valid elsewhere.
    """

    __slots__ = ("_shortest", "_told", "_values")

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._values = NOTHING
        self._told: tuple[SecretPatterns, ...] = ()
        """The compiled patterns of the newest values, and of earlier ones that are not among them."""
        self._shortest = 0
        self.update(secrets or {})

    def __repr__(self) -> str:
        return f"Redactor({len(self._values)} values)"

    def update(self, secrets: Mapping[str, str]) -> None:
        """Add secrets, name to value, to those already masked."""
        told = maskable(secrets)
        if told <= self._values:
            return
        # Conversations with the same values share their compiled patterns, also those of earlier
        # values: compiling may take a while.
        former = tuple(one for one in self._told if not one.values <= told)
        if len(former) > MAX_FORMER:
            former = tuple(map(patterns_of, groups_of(self._values - told)))
        self._told = (*map(patterns_of, groups_of(told)), *former)
        self._shortest = min(one.shortest for one in self._told)
        self._values |= told

    @property
    def longest_bytes(self) -> int:
        """The bytes of the longest spelling that is looked for."""
        return max((one.longest for one in self._told), default=0)

    def may_change(self, body: bytes) -> bool:
        """Return whether an event's JSON may hold a secret; False is certain, and found quickly."""
        return any(one.may_be_in(body) for one in self._told) if self._told else False

    def redact(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Copy an event's JSON object with every secret masked, keys and derived texts included.

        Left alone are the values of `id`, `timestamp`, `source`, `cause`, `action`,
        `observation` and `client_id` at the top level, keys that are the protocol's own names, and
        the protocol's closed words where they stand (such as an agent state): a secret that is one
        of them tells nothing there, and masking it would break the event. A payload without a
        secret is returned itself.
        """
        if not self._told:
            return payload
        masked = {
            self._key(key): value if key in NEVER_MASKED else self._value(value, key)
            for key, value in payload.items()
        }
        return payload if masked == payload else masked

    def redact_text(self, text: str) -> str:
        """Mask the secrets in one text."""
        if not self._told or len(text) < self._shortest:
            return text
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            return self.redact_text(whole_text(text))
        spans = self.find(encoded)
        return _masked(encoded, spans).decode() if spans else text

    def find(self, text: bytes) -> list[Span]:
        """Return the spans of secrets in UTF-8, in order; adjacent and overlapping ones are merged."""
        if not self._told:
            return []
        first, *former = self._told
        spans = first.find(text)
        if former:
            spans = merged((*spans, *(span for one in former for span in one.find(text))))
        return spans

    def undecided_from(self, text: bytes, start: int) -> int:
        """Return the first byte that what follows the text may mask; see SecretPatterns."""
        return min((one.undecided_from(text, start) for one in self._told), default=len(text))

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


def maskable(secrets: Mapping[str, str]) -> frozenset[str]:
    """Return the values that are looked for."""
    return frozenset(value for value in secrets.values() if len(value) >= MIN_CHARACTERS)


def _masked(text: bytes, spans: Sequence[Span]) -> bytes:
    pieces: list[bytes] = []
    end = 0
    for start, stop in spans:
        pieces += (text[end:start], _MASK)
        end = stop
    return b"".join((*pieces, text[end:]))
