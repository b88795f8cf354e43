"""The RuntimeBuilder contract: makes the runtime of a conversation."""

from abc import ABC, abstractmethod

from runtime_stub.base import Runtime


class RuntimeBuilder(ABC):
    """Builds runtimes. One builder serves all conversations of a process."""

    @abstractmethod
    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        """Return a runtime for the conversation, not yet connected. Raise RuntimeUnavailable.

        `user_id` is the id of the conversation's owner, an opaque text; None where it has no owner.
        """
