"""Drafts: events to be appended, encoded but for the id and the time that a batch will give them."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import orjson

from events.actions import MessageAction
from events.event import EventFlag, EventSource
from events.serialization import encode_new, flag_of
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


def draft_of(payload: Mapping[str, Any]) -> Draft:
    """The draft of a payload that has neither id nor timestamp."""
    flag = flag_of(payload)
    telling = payload if "llm_metrics" in payload or flag is EventFlag.STATE else None
    return Draft(orjson.dumps(payload)[1:], flag, telling, is_message(payload))


def draft_of_text(text: str, source: EventSource, client_id: str | None) -> Draft:
    """The draft of a message that is nothing but a text, as `draft_of` gives it, in less time."""
    head, middle, tail, flag, says = _around_text(source)
    quoted = orjson.dumps(text)
    key = b"" if client_id is None else b',"client_id":%b' % orjson.dumps(client_id)
    return Draft(b"%b%b%b%b%b%b" % (head, quoted, key, middle, quoted, tail), flag, None, says)


@cache
def _around_text(source: EventSource) -> tuple[bytes, bytes, bytes, EventFlag, bool]:
    """What stands before, between and behind the two places of a message's text, flag and `says`.

    The client's id has its place right behind the first one.
    """
    text = "<text>"
    rest, flag, _, says = draft_of(encode_new(MessageAction(content=text), source, None))
    head, between, tail = rest.split(orjson.dumps(text))
    return head, between, tail, flag, says
