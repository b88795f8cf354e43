"""What an append writes: the batch, its keys, and the head of the log with it."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from events.event import EventFlag, StoredEvent
from events.stores.frames import (
    FrameKind,
    LogHead,
    encode_events,
    encode_frame,
    encode_head,
    seed_of,
)
from events.stores.key_table import build_table
from events.summary import SummaryChange


def folded_values(summary: SummaryChange) -> dict[str, Any]:
    """The fields of a record that a summary changes, with their new values."""
    values = {
        "last_updated_at": summary.last_updated_at,
        "accumulated_cost": summary.accumulated_cost,
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        "total_tokens": summary.total_tokens,
        "last_message_at": summary.last_message_at,
    }
    return {name: value for name, value in values.items() if value is not None}


def advanced_head(
    head: LogHead,
    events: Sequence[StoredEvent],
    fold: Mapping[str, Any],
    fence: int,
    page_events: int,
) -> LogHead:
    """The head after a batch; a log gets its epoch and page size with the first one."""
    states = [event.id for event in events if event.flag == EventFlag.STATE]
    return head._replace(
        next_id=head.next_id + len(events),
        last_state_id=states[-1] if states else head.last_state_id,
        epoch=head.epoch or secrets.token_hex(8),
        fence=fence,
        summary={**head.summary, **fold},
        page_events=head.page_events or page_events,
    )


def encode_segment(
    conversation_id: str, head: LogHead, keys: Mapping[bytes, int], events: Sequence[StoredEvent]
) -> bytes:
    """A batch as the file that is created for it: head, keys, events."""
    seed = seed_of(conversation_id)
    table = encode_frame(seed, FrameKind.KEYS, events[0].id, build_table(keys))
    return b"".join((encode_head(seed, head), table, encode_events(seed, events)))
