"""The turns that asked for what a later turn carries out, and the messages that they work on."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from events.actions import RUNNABLE, RecallAction
from events.event import EventSource
from events.observations import TurnEndedObservation
from events.stream import EventStream


class _Parts(NamedTuple):
    """The messages that a turn has taken up, and the earlier turns whose questions it has settled."""

    messages: Sequence[int]
    askers: Sequence[int]


async def asked_for(stream: EventStream, turn_id: int) -> Mapping[int, Sequence[int]]:
    """Return the turns whose questions a turn has settled, each with the messages it works on.

    All are named by their ids. Raises what the storage raises.
    """
    askers = (await _parts_of(stream, turn_id)).askers
    return {asker: await messages_of(stream, asker) for asker in askers}


async def messages_of(stream: EventStream, turn_id: int) -> Sequence[int]:
    """Return the ids of the messages of the user that a turn works on, ascending.

    These are the ones that it has taken up, and those of the turns whose questions it has settled.
    Raises what the storage raises.
    """
    found: set[int] = set()
    known = {turn_id}
    waiting = [turn_id]
    while waiting:
        parts = await _parts_of(stream, waiting.pop())
        found.update(parts.messages)
        waiting += [asker for asker in parts.askers if asker not in known]
        known.update(parts.askers)
    return sorted(found)


async def _parts_of(stream: EventStream, turn_id: int) -> _Parts:
    """Read the parts of a turn; of one that a decision began, with those it was begun before."""
    decision = await _decision_of(stream, turn_id)
    turns = {turn_id}
    messages: list[int] = []
    questions: list[int] = []
    async for stored in stream.search_events(turn_id if decision is None else decision):
        payload = orjson.loads(stored.body)
        kind, cause = payload.get("action"), payload.get("cause")
        if kind == RecallAction.kind and decision is not None and cause == decision:
            turns.add(stored.id)
        turn = payload.get("turn", stored.id)
        if turn not in turns:
            continue
        if turn == turn_id and payload.get("observation") == TurnEndedObservation.kind:
            break
        if kind == RecallAction.kind and payload.get("source") == EventSource.USER:
            messages.append(cause)
        elif kind in RUNNABLE and isinstance(cause, int):
            questions.append(cause)
    asking = [await _event(stream, question) for question in questions]
    askers = [one.get("turn") for one in asking]
    earlier = (one for one in askers if isinstance(one, int) and one not in turns)
    return _Parts(messages, list(dict.fromkeys(earlier)))


async def _decision_of(stream: EventStream, turn_id: int) -> int | None:
    recall = await _event(stream, turn_id)
    if recall.get("source") == EventSource.USER:
        return None
    cause = recall.get("cause")
    return cause if isinstance(cause, int) else None


async def _event(stream: EventStream, event_id: int) -> Mapping[str, Any]:
    async for stored in stream.search_events(event_id, event_id):
        payload: Mapping[str, Any] = orjson.loads(stored.body)
        return payload
    return {}
