"""Usage over a Database: a position per conversation, and rows by conversation, day and model."""

import logging
from collections.abc import Iterable
from datetime import date

from pydantic import ValidationError

from storage.database.base import Database, Row, Statement, Steps, rerunnable
from storage.errors import Conflict, Damaged
from storage.usage.base import PAGE, UsageStore
from storage.usage.model import EVER, ConversationUsage, Span, UncountedLog, UsageLine, UsageTotal

_LOG = logging.getLogger(__name__)

_EVER = (date.min.isoformat(), date.max.isoformat())


class DatabaseUsage(UsageStore):
    """Counts beside the heads of the logs, so that only changed logs are examined."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def behind(self, after: str = "", limit: int = PAGE) -> list[UncountedLog]:
        """See UsageStore."""
        rows = await self._database.read(_ask(Statement("usage_behind", (after, limit))))
        return [UncountedLog(conversation_id, user_id) for conversation_id, user_id in rows]

    async def counted(self, after: str = "", limit: int = PAGE) -> list[str]:
        """See UsageStore."""
        rows = await self._database.read(_ask(Statement("counted_conversations", (after, limit))))
        return [conversation_id for (conversation_id,) in rows]

    async def load(self, conversation_id: str) -> ConversationUsage | None:
        """See UsageStore."""
        return await self._database.read(_load(conversation_id))

    async def save(self, usage: ConversationUsage, expected_position: int) -> None:
        """See UsageStore. One transaction."""
        await self._database.write(_save(usage, expected_position))

    async def forget(self, conversation_id: str) -> None:
        """See UsageStore."""
        await self._database.write(_forget(conversation_id))

    async def totals(self, span: Span = EVER, limit: int = 10_000) -> list[UsageTotal]:
        """See UsageStore."""
        first, last = (
            given.isoformat() if given else open_side
            for given, open_side in zip(span, _EVER, strict=True)
        )
        rows = await self._database.read(_ask(Statement("usage_totals", (first, last, limit))))
        return [*_readable(rows)]


def _readable(rows: Iterable[Row]) -> Iterable[UsageTotal]:
    for day, user_id, model, events, prompt, completion, cost in rows:
        try:
            yield UsageTotal(
                user_id=user_id,
                day=day,
                model=model,
                events=events,
                prompt_tokens=prompt,
                completion_tokens=completion,
                cost=cost,
            )
        except ValidationError:
            _LOG.exception("left out of the usage: day %s", day)


@rerunnable
def _ask(statement: Statement) -> Steps[list[Row]]:
    return (yield statement).rows


@rerunnable
def _load(conversation_id: str) -> Steps[ConversationUsage | None]:
    found = (yield Statement("usage_position", (conversation_id,))).rows
    if not found:
        return None
    rows = (yield Statement("usage_lines_of", (conversation_id,))).rows
    # The last column of each row says whether the row matches its checksum.
    if not all(row[-1] for row in (*found, *rows)):
        raise Damaged(f"the usage of conversation {conversation_id} fails its checksum")
    try:
        return _usage_of(conversation_id, found[0], rows)
    except ValidationError as error:
        raise Damaged(f"the usage of conversation {conversation_id} cannot be read") from error


def _usage_of(conversation_id: str, found: Row, rows: Iterable[Row]) -> ConversationUsage:
    user_id, position, cost, prompt, completion, _ = found
    return ConversationUsage(
        conversation_id=conversation_id,
        user_id=user_id,
        position=position,
        cost=cost,
        prompt_tokens=prompt,
        completion_tokens=completion,
        lines=tuple(
            UsageLine(
                day=day,
                model=model,
                events=events,
                prompt_tokens=prompts,
                completion_tokens=completions,
                cost=costs,
            )
            for day, model, events, prompts, completions, costs, _ in rows
        ),
    )


@rerunnable
def _save(usage: ConversationUsage, expected_position: int) -> Steps[None]:
    key = usage.conversation_id
    rows = (yield Statement("usage_position", (key,))).rows
    position = rows[0][1] if rows else 0
    if position != expected_position:
        raise Conflict(f"counted to {position}, expected {expected_position}")
    sums = (usage.cost, usage.prompt_tokens, usage.completion_tokens)
    yield Statement("write_usage_position", (key, usage.user_id, usage.position, *sums))
    yield Statement("drop_usage_lines", (key,))
    lines = [
        (
            key,
            line.day.isoformat(),
            line.model,
            line.events,
            line.prompt_tokens,
            line.completion_tokens,
            line.cost,
        )
        for line in usage.lines
    ]
    yield Statement("write_usage_lines", lines, many=True)


@rerunnable
def _forget(conversation_id: str) -> Steps[None]:
    yield Statement("drop_usage_lines", (conversation_id,))
    yield Statement("drop_usage_position", (conversation_id,))
