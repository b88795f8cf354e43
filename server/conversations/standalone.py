"""The conversation manager of a single process."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Self

from events.actions import Action
from events.batch import Settled
from server.agent.states import LoopSettings
from server.conversations.conversation import ServerConversation
from server.conversations.deletion import Deletions
from server.conversations.local import LocalConversations, open_stream
from server.conversations.manager import (
    Accepted,
    AgentLoopInfo,
    ConversationManager,
    ConversationStatus,
    InUse,
    Joined,
    ManagerDependencies,
)


class StandaloneConversationManager(ConversationManager):
    """Everything in this process; what outlives it is in the stores."""

    def __init__(self, parts: ManagerDependencies) -> None:
        super().__init__(parts)
        self._local = LocalConversations(parts, partial(open_stream, parts))
        self._deletions = Deletions(parts, self._local)

    async def __aenter__(self) -> Self:
        """See ConversationManager."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """See ConversationManager."""
        await self.shutdown()

    async def shutdown(self) -> None:
        """See ConversationManager."""
        await self._local.close()

    def attach(
        self, sid: str, user_id: str | None
    ) -> AbstractAsyncContextManager[ServerConversation]:
        """See ConversationManager."""
        return self._local.attached(sid, user_id)

    def opened(self, sid: str, user_id: str | None) -> ServerConversation | None:
        """See ConversationManager."""
        return self._local.opened(sid, user_id)

    async def join_conversation(
        self, sid: str, connection_id: str, settings: LoopSettings | None, user_id: str | None
    ) -> Joined:
        """See ConversationManager."""
        return await self._local.join(sid, connection_id, settings, user_id)

    async def disconnect_from_session(self, connection_id: str) -> None:
        """See ConversationManager."""
        self._local.disconnect(connection_id)

    async def maybe_start_agent_loop(
        self,
        sid: str,
        settings: LoopSettings | None,
        user_id: str | None,
        initial_user_msg: str | None = None,
        *,
        image_urls: Sequence[str] | None = None,
        file_urls: Sequence[str] | None = None,
        client_id: str | None = None,
        replay: Sequence[Action] = (),
        record_checked: bool = False,
    ) -> AgentLoopInfo:
        """See ConversationManager."""
        async with self._local.attached(sid, user_id, authorised=record_checked) as conversation:
            return await self._local.begin(
                conversation,
                settings,
                initial_user_msg,
                image_urls=image_urls,
                file_urls=file_urls,
                client_id=client_id,
                replay=replay,
            )

    def take(
        self,
        conversation: ServerConversation,
        data: object,
        settled: Settled,
        must_wait: Callable[[], None],
    ) -> None:
        """See ConversationManager."""
        self._local.take(conversation, data, settled, must_wait)

    async def send_to_event_stream(self, connection_id: str, data: object) -> Accepted:
        """See ConversationManager."""
        return await self.accept(self._local.of_connection(connection_id), data)

    async def send_event_to_conversation(self, sid: str, data: object) -> Accepted:
        """See ConversationManager."""
        return await self.accept(self._local.of_id(sid), data)

    async def close_session(self, sid: str) -> bool:
        """See ConversationManager."""
        return await self._local.stop(sid)

    async def delete_conversation(self, sid: str, user_id: str | None) -> bool:
        """See ConversationManager."""
        return await self._deletions.delete(sid, user_id)

    async def use_of(self, sid: str, user_id: str | None) -> InUse | None:
        """See ConversationManager."""
        return await self._deletions.use_of(sid, user_id)

    async def delete_unused(
        self, sid: str, user_id: str | None, confirm: Callable[[], Coroutine[Any, Any, bool]]
    ) -> bool:
        """See ConversationManager."""
        return await self._deletions.delete_unused(sid, user_id, confirm)

    async def is_agent_loop_running(self, sid: str) -> bool:
        """See ConversationManager."""
        conversation = self._local.registry.get(sid)
        return conversation is not None and self._local.loops.holds(conversation)

    async def get_running_agent_loops(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> set[str]:
        """See ConversationManager."""
        return {
            conversation.conversation_id
            for conversation in self._local.owned(user_id, filter_to_sids)
            if self._local.loops.holds(conversation)
        }

    async def get_connections(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> Mapping[str, str]:
        """See ConversationManager."""
        return self._local.connections(user_id, filter_to_sids)

    async def get_agent_loop_info(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> list[AgentLoopInfo]:
        """See ConversationManager."""
        return self._infos(self._local.owned(user_id, filter_to_sids))

    async def every_agent_loop(self) -> list[AgentLoopInfo]:
        """See ConversationManager."""
        return self._infos([*self._local.registry])

    def _infos(self, conversations: Sequence[ServerConversation]) -> list[AgentLoopInfo]:
        infos = [self._local.info(conversation) for conversation in conversations]
        return [info for info in infos if info.status is not ConversationStatus.STOPPED]

    async def drain(self, seconds: float) -> None:
        """See ConversationManager."""
        await self._local.loops.drain(seconds)

    def resume(self) -> None:
        """See ConversationManager."""
        self._local.loops.resume()
