"""The RuntimeBuilder contract: makes the runtime of a conversation."""

from abc import ABC, abstractmethod

from runtime_stub.base import Runtime


class RuntimeBuilder(ABC):
    """Builds runtimes. One builder serves all conversations of a process."""

    @abstractmethod
    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        """A runtime for the conversation, not yet connected. Raises RuntimeUnavailable."""
