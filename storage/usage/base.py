"""The UsageStore contract: the usage of conversations, including deleted ones."""

from abc import ABC, abstractmethod

from storage.usage.model import EVER, ConversationUsage, Span, UncountedLog, UsageTotal

PAGE = 1_000


class UsageStore(ABC):
    """Stores one count per conversation, which outlives the conversation.

    Every call may raise Unavailable, `save` and `forget` OutcomeUnknown as well.
    """

    @abstractmethod
    async def behind(self, after: str = "", limit: int = PAGE) -> list[UncountedLog]:
        """Return conversations with a record whose log may have grown since they were counted.

        At most `limit`, by id, the ids greater than `after`. Some may turn out to be complete; none
        that is behind is left out.
        """

    @abstractmethod
    async def counted(self, after: str = "", limit: int = PAGE) -> list[str]:
        """Return conversations that have a count, deleted ones too.

        At most `limit`, by id, the ids greater than `after`.
        """

    @abstractmethod
    async def load(self, conversation_id: str) -> ConversationUsage | None:
        """Return the count of a conversation; None when it was never counted. Raises Damaged."""

    @abstractmethod
    async def save(self, usage: ConversationUsage, expected_position: int) -> None:
        """Replace a conversation's count whole, atomically.

        Raises Conflict, and writes nothing, unless the stored count is at `expected_position` (0 if
        there is none).
        """

    @abstractmethod
    async def forget(self, conversation_id: str) -> None:
        """Drop a conversation's count, so that it is counted from its beginning; none is fine."""

    @abstractmethod
    async def totals(self, span: Span = EVER, limit: int = 10_000) -> list[UsageTotal]:
        """Return the usage by owner, model and day, the newest day first.

        Within a day by owner (None first) and model. At most `limit` lines.
        """
