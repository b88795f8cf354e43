"""Usage in memory: the reference back-end; nothing outlives the process."""

from collections.abc import Callable, Iterable

from storage.conversations.metadata import ConversationMetadata
from storage.usage import counts
from storage.usage.base import PAGE, UsageStore
from storage.usage.counts import UpdatedRecord
from storage.usage.model import EVER, ConversationUsage, Span, UncountedLog, UsageTotal


class MemoryUsage(UsageStore):
    """Counts of conversations whose records are in memory too. No method awaits."""

    def __init__(self, records: Callable[[], Iterable[ConversationMetadata]]) -> None:
        self._records = records
        self._counts: dict[str, ConversationUsage] = {}

    async def behind(self, after: str = "", limit: int = PAGE) -> list[UncountedLog]:
        """See UsageStore."""
        moments = (
            UpdatedRecord(record.conversation_id, record.user_id, record.last_updated_at)
            for record in self._records()
            if record.last_updated_at is not None
        )
        return counts.behind(moments, self._counts, after, limit)

    async def counted(self, after: str = "", limit: int = PAGE) -> list[str]:
        """See UsageStore."""
        return sorted(one for one in self._counts if one > after)[:limit]

    async def load(self, conversation_id: str) -> ConversationUsage | None:
        """See UsageStore."""
        return self._counts.get(conversation_id)

    async def save(self, usage: ConversationUsage, expected_position: int) -> None:
        """See UsageStore."""
        counts.check_position(self._counts.get(usage.conversation_id), expected_position)
        self._counts[usage.conversation_id] = usage

    async def forget(self, conversation_id: str) -> None:
        """See UsageStore."""
        self._counts.pop(conversation_id, None)

    async def totals(self, span: Span = EVER, limit: int = 10_000) -> list[UsageTotal]:
        """See UsageStore."""
        return counts.totals(self._counts.values(), span, limit)
