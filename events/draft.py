"""Drafts: events to be appended, encoded but for the id and the time that a batch will give them."""

from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel

from events.actions import MessageAction
from events.errors import BadEvent, EventTooLarge
from events.event import Event, EventFlag, EventSource
from events.redaction import Redactor
from events.serialization import both_ends, decode, encode_new, flag_of, is_long_output
from events.strictness import storable
from events.summary import is_message


class Draft(NamedTuple):
    """What is known of an event before it has a place in a log.

    `rest` is its JSON object from behind the opening brace. `telling` is the payload if it changes
    the metadata by more than its id and time, else None. `says` is True for a message.
    """

    rest: bytes
    flag: EventFlag
    telling: Mapping[str, Any] | None = None
    says: bool = False


class Prepared(NamedTuple):
    """A draft, and where its secrets were masked the same JSON without masks, else None.

    The latter never leaves the process: it is for the agent of the conversation.
    """

    draft: Draft
    unmasked: bytes | None = None


def prepare(
    event: Event,
    source: EventSource,
    client_id: str | None,
    redactor: Redactor,
    max_bytes: int,
) -> Prepared:
    """Encode an event: what JSON cannot hold is replaced, secrets are masked, long output is cut.

    Raises EventTooLarge, and BadEvent when its class cannot be encoded at all.
    """
    try:
        payload = encode_new(event, source, client_id)
        body = orjson.dumps(payload)
    except Exception:  # noqa: BLE001 - agents and runtimes may put anything into an event
        payload, body = _encode_anyhow(event, source, client_id)
    long_output = is_long_output(payload)
    if not long_output and len(body) > max_bytes:
        raise EventTooLarge(len(body), max_bytes)
    if not redactor.may_change(body):
        if long_output:
            payload = both_ends(payload)
            body = _dump(payload, max_bytes)
        return Prepared(Draft(body[1:], *_facts_of(payload)))
    # Of what was dumped, because only that is all plain JSON.
    plain: dict[str, Any] = orjson.loads(body)
    masked = redactor.redact(plain)
    if masked is not plain:
        # Derived from masked fields: a text that is shortened may have cut a secret in half.
        masked["message"] = redactor.redact_text(decode(masked).message)
    if long_output:
        # Masked before they are cut, for the same reason.
        body = _dump(both_ends(plain), max_bytes)
        masked = both_ends(masked)
    elif masked is plain:
        return Prepared(Draft(body[1:], *_facts_of(plain)))
    draft = Draft(_dump(masked, max_bytes)[1:], *_facts_of(masked))
    return Prepared(draft, body if body[1:] != draft.rest else None)


def prepare_text(
    text: str,
    source: EventSource,
    client_id: str | None,
    redactor: Redactor,
    max_bytes: int,
) -> Prepared:
    """Prepare a message that is nothing but a text, of which no event need be made first."""
    masked = redactor.redact_text(text)
    draft = draft_of_text(masked, source, client_id)
    if len(draft.rest) > max_bytes:
        raise EventTooLarge(len(draft.rest), max_bytes)
    if masked is text:
        return Prepared(draft)
    return Prepared(draft, b"{%b" % draft_of_text(text, source, client_id).rest)


def draft_of(payload: Mapping[str, Any]) -> Draft:
    """The draft of a payload that has neither id nor timestamp."""
    return Draft(orjson.dumps(payload)[1:], *_facts_of(payload))


def draft_of_text(text: str, source: EventSource, client_id: str | None) -> Draft:
    """The draft of a message that is nothing but a text, as `draft_of` gives it, in less time."""
    head, middle, tail, flag, says = _around_text(source)
    quoted = orjson.dumps(text)
    key = b"" if client_id is None else b',"client_id":%b' % orjson.dumps(client_id)
    return Draft(b"%b%b%b%b%b%b" % (head, quoted, key, middle, quoted, tail), flag, None, says)


def _facts_of(payload: Mapping[str, Any]) -> tuple[EventFlag, Mapping[str, Any] | None, bool]:
    flag = flag_of(payload)
    telling = payload if "llm_metrics" in payload or flag is EventFlag.STATE else None
    return flag, telling, is_message(payload)


def _dump(payload: Mapping[str, Any], max_bytes: int) -> bytes:
    body = orjson.dumps(payload)
    if len(body) > max_bytes:
        raise EventTooLarge(len(body), max_bytes)
    return body


def _encode_anyhow(
    event: Event, source: EventSource, client_id: str | None
) -> tuple[dict[str, Any], bytes]:
    """Encode an event whose fields hold what JSON cannot, each such value replaced."""
    try:
        payload = encode_new(_repaired(event), source, client_id)
        repaired = {name: storable(value) for name, value in payload.items()}
        return repaired, orjson.dumps(repaired)
    except Exception as error:
        kind = type(event).__name__
        raise BadEvent(
            f"The {kind} cannot be encoded as an event: {type(error).__name__}", code="bad_value"
        ) from error


def _repaired(event: Event) -> Event:
    """Copy an event so that its derived text can be made; enums stay, as its class expects."""
    changed: dict[str, object] = {}
    for name, value in event.__dict__.items():
        if isinstance(value, BaseModel):
            fields = value.__dict__ | (value.__pydantic_extra__ or {})
            changed[name] = value.model_copy(
                update={key: storable(item) for key, item in fields.items()}
            )
        elif not isinstance(value, Enum):
            changed[name] = storable(value)
    return event.model_copy(update=changed)


@cache
def _around_text(source: EventSource) -> tuple[bytes, bytes, bytes, EventFlag, bool]:
    """What stands before, between and behind the two places of a message's text, flag and `says`.

    The client's id has its place right behind the first one.
    """
    text = "<text>"
    rest, flag, _, says = draft_of(encode_new(MessageAction(content=text), source, None))
    head, between, tail = rest.split(orjson.dumps(text))
    return head, between, tail, flag, says
