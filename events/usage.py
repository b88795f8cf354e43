"""The fold of events into what their conversation has used."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import orjson

from events.damage import with_markers
from events.errors import EventsError
from events.event import StoredEvent
from events.stores.base import EventStore
from events.summary import fold
from storage.errors import StorageError
from storage.usage.base import PAGE, UsageStore
from storage.usage.model import ConversationUsage, UncountedLog, UsageLine

logger = logging.getLogger(__name__)

NO_DAY = date.min
MODEL_CHARACTERS = 200
"""A longer name of a model is cut: it is part of a key."""


class _Sums(NamedTuple):
    cost: float
    prompt: int
    completion: int


def counted(usage: ConversationUsage, events: Sequence[StoredEvent]) -> ConversationUsage:
    """Add the next events; the first one's id is `usage.position`.

    Metrics contain sums for the whole conversation, so that the difference to the previous ones is
    the usage on the event's UTC day, of the model in the metrics. All lines together equal the sums
    in the conversation's record. An event without metrics counts for the model "". One that cannot
    be read counts for the day 0001-01-01.
    """
    lines = {(line.day, line.model): line for line in usage.lines}
    sums = _Sums(usage.cost, usage.prompt_tokens, usage.completion_tokens)
    for event in events:
        payload = _payload_of(event)
        day, model = _day_of(payload), _model_of(payload)
        told = _sums_after(sums, event.id, payload)
        known = lines.get((day, model), UsageLine(day=day, model=model))
        lines[day, model] = UsageLine(
            day=day,
            model=model,
            events=known.events + 1,
            prompt_tokens=known.prompt_tokens + told.prompt - sums.prompt,
            completion_tokens=known.completion_tokens + told.completion - sums.completion,
            cost=known.cost + told.cost - sums.cost,
        )
        sums = told
    return usage.model_copy(
        update={
            "position": usage.position + len(events),
            "cost": sums.cost,
            "prompt_tokens": sums.prompt,
            "completion_tokens": sums.completion,
            "lines": tuple(lines[key] for key in sorted(lines)),
        }
    )


def _payload_of(event: StoredEvent) -> Mapping[str, Any]:
    try:
        payload = orjson.loads(event.body)
    except orjson.JSONDecodeError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _sums_after(sums: _Sums, event_id: int, payload: Mapping[str, Any]) -> _Sums:
    change = fold(None, event_id, payload)
    return _Sums(
        sums.cost if change.accumulated_cost is None else change.accumulated_cost,
        sums.prompt if change.prompt_tokens is None else change.prompt_tokens,
        sums.completion if change.completion_tokens is None else change.completion_tokens,
    )


def _day_of(payload: Mapping[str, Any]) -> date:
    try:
        # Timestamps are in UTC: their first ten characters are the day.
        return date.fromisoformat(payload["timestamp"][:10])
    except (KeyError, TypeError, ValueError):
        return NO_DAY


def _model_of(payload: Mapping[str, Any]) -> str:
    try:
        model = payload["llm_metrics"]["accumulated_token_usage"]["model"]
    except (KeyError, TypeError):
        return ""
    return model[:MODEL_CHARACTERS] if isinstance(model, str) else ""


SLICE = 200
"""Events read and counted per iteration of the event loop."""
SAVE_EVERY = 5_000
"""Events of one conversation that are counted between two writes."""
DELETION_SECONDS = 5.0


class CaughtUp(NamedTuple):
    """Whether every log was counted to its end, and which conversations could not be."""

    complete: bool
    failed: int


class UsageLedger:
    """Counts the events appended to logs since the last count; appending is unaffected.

    Counts can be dropped and computed again, except those of deleted conversations, which are
    counted to their end just before the deletion.
    """

    def __init__(self, events: EventStore, usage: UsageStore) -> None:
        self._events = events
        self._usage = usage
        self._serial = asyncio.Lock()

    async def catch_up(self, seconds: float) -> CaughtUp:
        """Count all events in the logs, for at most that many seconds; a later call continues.

        Raises StorageError if the counts cannot be read.
        """
        failed = 0
        try:
            async with asyncio.timeout(seconds):
                after = ""
                while page := await self._usage.behind(after):
                    for one in page:
                        failed += not await self._counted(one)
                    after = page[-1].conversation_id
                    if len(page) < PAGE:
                        break
        except TimeoutError:
            return CaughtUp(complete=False, failed=failed)
        return CaughtUp(complete=not failed, failed=failed)

    async def before_deletion(self, conversation_id: str, user_id: str | None) -> None:
        """Count a conversation to its end; what cannot be counted in time is logged and lost."""
        try:
            async with asyncio.timeout(DELETION_SECONDS), self._serial:
                await self._count(UncountedLog(conversation_id, user_id))
        except (EventsError, StorageError, TimeoutError):
            ids = {"conversation_id": conversation_id}
            logger.exception(
                "cannot count all usage of %s before its deletion", conversation_id, extra=ids
            )

    async def recount(self, conversation_id: str) -> None:
        """Drop the count of an existing conversation; the next `catch_up` computes it again."""
        async with self._serial:
            await self._usage.forget(conversation_id)

    async def _counted(self, one: UncountedLog) -> bool:
        try:
            async with self._serial:
                await self._count(one)
        except (EventsError, StorageError):
            ids = {"conversation_id": one.conversation_id}
            logger.exception("cannot count the usage of %s now", one.conversation_id, extra=ids)
            return False
        return True

    async def _count(self, one: UncountedLog) -> None:
        kept = await self._usage.load(one.conversation_id)
        usage = kept or ConversationUsage(conversation_id=one.conversation_id)
        usage = usage.of_owner(one.user_id)
        saved = usage.position
        while True:
            end = usage.position + SLICE
            # Markers stand for damaged events, and count no usage.
            read = self._events.read(one.conversation_id, usage.position, end)
            events, _ = await with_markers(read, usage.position, end)
            usage = counted(usage, events)
            await asyncio.sleep(0)
            if len(events) < SLICE:
                break
            if usage.position - saved >= SAVE_EVERY:
                await self._usage.save(usage, saved)
                saved = usage.position
        await self._usage.save(usage.model_copy(update={"mark": one.mark}), saved)
