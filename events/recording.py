"""Recordings of conversations, as input for an agent that repeats their actions."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import orjson

from events.actions import ACTIONS, RUNNABLE, Action, MessageAction
from events.errors import BadRecording
from events.event import ConfirmationState, EventSource
from events.layout import UnknownAction, layout_of
from events.legacy import modern_args
from events.serialization import decode, mismatches_of
from events.strictness import MAX_INTEGER, MIN_INTEGER, shown, storable

REPLAYED = RUNNABLE | {"message", "think", "finish", "reject"}
"""Kinds of an agent's actions that are done again; the others steer an agent or its memory."""
NOT_NEEDED = frozenset(
    (
        *("id", "timestamp", "source", "cause", "client_id", "llm_metrics", "tool_call_metadata"),
        *("partial", "interrupted", "turn", "edited_by"),
    )
)
"""Fields of a recorded action that are another conversation's; their values are not even read."""
LIST_KEY = "trajectory"
ENTRY_BYTES = 48
"""Bytes of memory that an action takes in addition to its JSON."""

_BLANK = re.compile(r"[ \t\r\n]*")


class RecordedActions(Sequence[Action]):
    """Actions as JSON, each decoded on access: a recording may hold very many."""

    __slots__ = ("__weakref__", "_encoded", "size_bytes")

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self._encoded = encoded
        self.size_bytes = sum(map(len, encoded)) + ENTRY_BYTES * len(encoded)
        """Approximate bytes held in memory."""

    def __len__(self) -> int:
        return len(self._encoded)

    @overload
    def __getitem__(self, place: int) -> Action: ...

    @overload
    def __getitem__(self, place: slice) -> "RecordedActions": ...

    def __getitem__(self, place: int | slice) -> "Action | RecordedActions":
        if isinstance(place, slice):
            return RecordedActions(self._encoded[place])
        action, _ = _read_action(place, *_kind_and_payload(self._encoded[place]))
        return action


class Recording(NamedTuple):
    """The user's first message and the agent's actions, in order and without ids and times."""

    first_message: MessageAction
    actions: Sequence[Action]


def read_recording(text: str) -> Recording:
    """Read a trajectory: a JSON list of events, or an object that holds one as `trajectory`.

    Observations are left out, since acting again gives new ones; so are later user messages,
    actions that were not confirmed, and events that are neither the agent's nor the user's. What
    JSON's own grammar does not know but recorders write is read: a byte order mark, NaN, lone
    surrogates (as U+FFFD), integers of any length. Raises BadRecording, which names event and
    field, when it is no trajectory, or one without a user message.
    """
    actions: list[bytes] = []
    first_message: MessageAction | None = None
    last: dict[str, Any] | None = None
    for number, payload in enumerate(_events_of(text)):
        kind, source = payload.get("action"), payload.get("source")
        if not isinstance(kind, str) or kind not in REPLAYED:
            continue
        if source == EventSource.USER and kind == MessageAction.kind and first_message is None:
            said, _ = _read_action(number, kind, payload)
            first_message = said if isinstance(said, MessageAction) else None
        elif source == EventSource.AGENT:
            action, fitting = _read_action(number, kind, payload)
            if _was_done(action):
                if last is not None:
                    actions.append(_packed(_without_waiting(last)))
                last = fitting
    if last is not None:
        actions.append(_packed(last))
    if first_message is None:
        raise BadRecording("replay_json holds no user message")
    return Recording(first_message, RecordedActions(actions))


def _events_of(text: str) -> Iterator[Mapping[str, Any]]:
    """Read one event after the other, so that at most one is held as objects."""
    try:
        yield from _Reader(text.removeprefix("\ufeff")).events()
    except json.JSONDecodeError as error:
        raise BadRecording(f"replay_json is not JSON: {error}") from error
    except RecursionError as error:
        raise BadRecording("replay_json is nested too deeply") from error


class _Reader:
    """Walks over the JSON of a trajectory; the standard library's decoder is the lenient one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._decoder = json.JSONDecoder(parse_int=_whole_number, parse_constant=_no_number)

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Yield the events. Raises JSONDecodeError, RecursionError, BadRecording."""
        found = False
        if self._next_is("{"):
            while not self._next_is("}"):
                key = self._value()
                if not isinstance(key, str) or not self._next_is(":"):
                    raise json.JSONDecodeError("Expecting a key", self._text, self._at)
                if key == LIST_KEY and not found:
                    found = True
                    yield from self._list()
                else:
                    self._value()
                self._separator("}")
        else:
            found = True
            yield from self._list()
        if not found:
            raise BadRecording(f"replay_json must be a list of events, or hold one as {LIST_KEY}")
        self._blank()
        if self._at < len(self._text):
            raise json.JSONDecodeError("Extra data", self._text, self._at)

    def _list(self) -> Iterator[Mapping[str, Any]]:
        if not self._next_is("["):
            self._value()
            raise BadRecording("replay_json must be a list of events")
        number = 0
        while not self._next_is("]"):
            event = self._value()
            if not isinstance(event, dict):
                raise BadRecording(
                    f"replay_json must be a list of events: event {number} is not an object"
                )
            yield event
            number += 1
            self._separator("]")

    def _value(self) -> object:
        self._blank()
        value, self._at = self._decoder.raw_decode(self._text, self._at)
        return value

    def _separator(self, end: str) -> None:
        """Step over a comma; before `end` there may be none."""
        if self._next_is(","):
            self._blank()
            if self._text[self._at : self._at + 1] == end:
                raise json.JSONDecodeError("Expecting a value", self._text, self._at)
        elif self._text[self._at : self._at + 1] != end:
            raise json.JSONDecodeError("Expecting ',' delimiter", self._text, self._at)

    def _next_is(self, sign: str) -> bool:
        self._blank()
        if not self._text.startswith(sign, self._at):
            return False
        self._at += 1
        return True

    def _blank(self) -> None:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at


def _whole_number(digits: str) -> int | str:
    # What is longer than any 64-bit integer is text; Python refuses to read very long ones.
    longest = len(str(MIN_INTEGER))
    if len(digits) > longest or not MIN_INTEGER <= int(digits) <= MAX_INTEGER:
        return digits
    return int(digits)


def _no_number(_name: str) -> None:
    """Read NaN and infinities as null."""


def _read_action(
    number: int, kind: str, payload: Mapping[str, Any]
) -> tuple[Action, dict[str, Any]]:
    """Return an action and the payload to store; invalid optional arguments are left out."""
    rest = {key: storable(value) for key, value in payload.items() if key not in NOT_NEEDED}
    arguments = {} if rest.get("args") is None else rest["args"]
    if not isinstance(arguments, dict):
        raise BadRecording(f"Event {number} of replay_json: `args` must be an object")
    declared = layout_of(ACTIONS[kind])
    rest["args"] = arguments = modern_args(arguments, declared.wire_names)
    action = decode(rest)
    if isinstance(action, UnknownAction):
        for misfit in mismatches_of(rest):
            if misfit.name in declared.required:
                raise BadRecording(
                    f"Event {number} of replay_json: the argument {shown(misfit.name)} of the"
                    f" action {kind} {misfit.why}"
                )
            arguments.pop(misfit.name, None)
        action = decode(rest)
    if not isinstance(action, Action) or isinstance(action, UnknownAction):
        raise BadRecording(f"Event {number} of replay_json cannot be read")
    return action, rest


def _packed(payload: Mapping[str, Any]) -> bytes:
    # A copy, because what orjson gives takes the room of a longer text.
    return b"%b" % orjson.dumps(payload)


def _kind_and_payload(encoded: bytes) -> tuple[str, Mapping[str, Any]]:
    payload = orjson.loads(encoded)
    return payload["action"], payload


def _was_done(action: Action) -> bool:
    state = getattr(action, "confirmation_state", ConfirmationState.CONFIRMED)
    return state == ConfirmationState.CONFIRMED


def _without_waiting(payload: dict[str, Any]) -> dict[str, Any]:
    """Clear `wait_for_response` of a message: nobody answers a recorded question again."""
    if payload["action"] != MessageAction.kind:
        return payload
    return {**payload, "args": {**payload["args"], "wait_for_response": False}}
