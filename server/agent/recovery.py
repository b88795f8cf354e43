"""Work that an earlier loop left open, found by reading the log's tail backwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from events.actions import Action, MessageAction, RecallAction
from events.damage import is_marker
from events.event import EventFlag, EventSource, StoredEvent
from events.filter import EventFilter
from events.observations import AgentStateChangedObservation, ErrorObservation
from events.stream import EventStream
from server.agent.states import RESTING, RUNNABLE

USER_MARK = b'"source":"user"'
FRONT_BYTES = 120
ALWAYS_READ = frozenset((AgentStateChangedObservation.kind, ErrorObservation.kind))
TAKEN_UP_KINDS = frozenset((MessageAction.kind, RecallAction.kind))
OPENING_EVENTS = 200
"""Events from the start of a log searched for its `system` message."""


@dataclass(slots=True)
class OpenWork:
    """User messages that no loop has taken up, and actions without an observation; both ascending."""

    messages: list[MessageAction] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    damaged: list[ErrorObservation] = field(default_factory=list)
    """Markers of damaged events among those read, ascending."""
    taken_up_before: bool = False


async def find_open_work(stream: EventStream, last_id: int) -> OpenWork:
    """Read back from `last_id` to where nothing can be open.

    A loop takes up messages in order and records it by a `recall` action whose cause is the
    message: no message before the newest such one is open, and no action before a state of rest.
    """
    found = OpenWork()
    answered: set[int | None] = set()
    taken_up = -1
    rested = False
    async for stored in stream.search_events(0, max(last_id, 0), reverse=True):
        if stored.id > last_id or (rested and not _matters_at_rest(stored)):
            continue
        payload = orjson.loads(stored.body)
        answered.add(payload.get("cause"))
        if not _may_matter(payload):
            continue
        event = stream.unmasked(stored)
        match event:
            case AgentStateChangedObservation():
                rested = rested or event.agent_state in RESTING
            case RecallAction(source=EventSource.USER, cause=int(cause)):
                taken_up = max(taken_up, cause)
            case ErrorObservation() if is_marker(event):
                found.damaged.append(event)
            case MessageAction(source=EventSource.USER) if stored.id > taken_up:
                found.messages.append(event)
            case Action() if event.kind in RUNNABLE and stored.id not in answered and not rested:
                found.actions.append(event)
            case _:
                pass
        if rested and stored.id <= taken_up:
            break
    found.taken_up_before = taken_up >= 0
    found.damaged.reverse()
    found.messages.reverse()
    found.actions.reverse()
    return found


def _may_matter(payload: Mapping[str, Any]) -> bool:
    # Decoding a page of events takes the loop for milliseconds, at a moment when a client waits.
    kind = payload.get("action") or payload.get("observation")
    by_user = payload.get("source") == EventSource.USER
    return kind in ALWAYS_READ or kind in RUNNABLE or (by_user and kind in TAKEN_UP_KINDS)


def _matters_at_rest(stored: StoredEvent) -> bool:
    # The source stands near the front of every record: a long turn is passed over unparsed.
    return USER_MARK in stored.body[:FRONT_BYTES] or stored.flag == EventFlag.SPECIAL


async def has_system_message(stream: EventStream) -> bool:
    """Return whether an earlier loop opened the conversation, by a `system` event near its start."""
    opening = EventFilter(include_kinds=("system",))
    return bool([one async for one in stream.search_events(0, OPENING_EVENTS, filter=opening)])
