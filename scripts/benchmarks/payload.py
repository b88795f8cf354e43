"""The event every contender sends: 517 bytes of JSON that carry the moment they were made."""

import time

EVENT_BYTES = 517
STAMP_DIGITS = 20
PREFIX = b'42["oh_event",{"id":'
"""The beginning of a live event's packet, at every contender; the id follows."""

_EMPTY = (
    '{"id":1000,"timestamp":"2026-01-01T00:00:00.000000Z","source":"agent","message":"",'
    '"action":"message","args":{"content":"","file_urls":null,"image_urls":null,'
    '"wait_for_response":false,"security_risk":-1}}'
)
TEXT_LENGTH = (EVENT_BYTES - len(_EMPTY)) // 2
"""A message's text stands twice in its event."""
FILLER = ("all work and no play makes a dull day " * 20)[: TEXT_LENGTH - STAMP_DIGITS - 1]


def text() -> str:
    """A message's text; it begins with the monotonic clock in nanoseconds."""
    return f"{time.monotonic_ns():0{STAMP_DIGITS}d} {FILLER}"


def event_json(event_id: int) -> dict[str, object]:
    """The whole event, for contenders that know no events of ours."""
    content = text()
    return {
        "id": event_id,
        "timestamp": "2026-01-01T00:00:00.000000Z",
        "source": "agent",
        "message": content,
        "action": "message",
        "args": {
            "content": content,
            "file_urls": None,
            "image_urls": None,
            "wait_for_response": False,
            "security_risk": -1,
        },
    }
