"""Functions on counts in memory: which are behind, and their totals."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from heapq import nsmallest
from typing import NamedTuple

from storage.errors import Conflict
from storage.usage.model import ConversationUsage, Span, UncountedLog, UsageLine, UsageTotal

SETTLED = timedelta(seconds=1)
"""The age from which a log's last time is its mark: later events have later times."""


class UpdatedRecord(NamedTuple):
    """A conversation's record, and when it was updated last."""

    conversation_id: str
    user_id: str | None
    updated: datetime


def behind(
    moments: Iterable[UpdatedRecord],
    counts: Mapping[str, ConversationUsage],
    after: str,
    limit: int,
) -> list[UncountedLog]:
    """See UsageStore."""
    settled = datetime.now(UTC) - SETTLED
    found = (
        UncountedLog(moment.conversation_id, moment.user_id, _mark(moment.updated, settled))
        for moment in moments
        if moment.conversation_id > after and not _is_level(moment, counts)
    )
    return nsmallest(limit, found, key=lambda one: one.conversation_id)


def check_position(known: ConversationUsage | None, expected_position: int) -> None:
    """Raise Conflict unless the count is at that position."""
    position = 0 if known is None else known.position
    if position != expected_position:
        raise Conflict(f"counted to {position}, expected {expected_position}")


def totals(counts: Iterable[ConversationUsage], span: Span, limit: int) -> list[UsageTotal]:
    """See UsageStore."""
    sums: dict[tuple[date, str | None, str], UsageTotal] = {}
    for count in counts:
        for line in count.lines:
            if span.holds(line.day):
                key = (line.day, count.user_id, line.model)
                sums[key] = _added(sums.get(key), count.user_id, line)
    return [sums[key] for key in sorted(sums, key=_rank)[:limit]]


def _rank(key: tuple[date, str | None, str]) -> tuple[int, bool, str, str]:
    day, user_id, model = key
    return -day.toordinal(), user_id is not None, user_id or "", model


def _added(known: UsageTotal | None, user_id: str | None, line: UsageLine) -> UsageTotal:
    if known is None:
        return UsageTotal(user_id=user_id, **line.model_dump())
    return UsageTotal(
        user_id=user_id,
        day=line.day,
        model=line.model,
        events=known.events + line.events,
        prompt_tokens=known.prompt_tokens + line.prompt_tokens,
        completion_tokens=known.completion_tokens + line.completion_tokens,
        cost=known.cost + line.cost,
    )


def _is_level(moment: UpdatedRecord, counts: Mapping[str, ConversationUsage]) -> bool:
    known = counts.get(moment.conversation_id)
    return known is not None and known.mark == moment.updated.isoformat()


def _mark(updated: datetime, settled: datetime) -> str:
    return updated.isoformat() if updated < settled else ""
