"""The conversation manager of a program that is not a server, started on first use."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Self

from events.actions import Action
from events.batch import Settled
from server.agent.states import LoopSettings
from server.conversations.conversation import ServerConversation
from server.conversations.manager import Accepted, AgentLoopInfo, ConversationManager, Joined

Life = Callable[[], AsyncGenerator[ConversationManager]]
"""Starts a manager with its dependencies, yields it once, and ends them when it is closed."""


class EmbeddedConversationManager(ConversationManager):
    """Forwards every call to a manager that is started in the event loop of the first call.

    It ends with `shutdown`, with the block of an `async with`, or with the event loop: `asyncio.run`
    closes what it has begun. A later call, also in another event loop, begins anew.
    """

    def __init__(self, life: Life) -> None:  # it gets its parts when it begins
        self._begin = life
        self._life: AsyncGenerator[ConversationManager] | None = None
        self._loop: AbstractEventLoop | None = None
        self._manager: ConversationManager | None = None
        self._serial = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """See ConversationManager."""
        await self._begun()
        return self

    async def __aexit__(self, *error: object) -> None:
        """See ConversationManager."""
        await self.shutdown()

    async def shutdown(self) -> None:
        """Stop every loop, make accepted events durable, release the storage."""
        life, self._life, self._manager = self._life, None, None
        if life is not None:
            await life.aclose()

    @asynccontextmanager
    async def attach(self, sid: str, user_id: str | None) -> AsyncIterator[ServerConversation]:
        """See ConversationManager."""
        manager = await self._begun()
        async with manager.attach(sid, user_id) as conversation:
            yield conversation

    def opened(self, sid: str, user_id: str | None) -> ServerConversation | None:
        """See ConversationManager."""
        return None if self._manager is None else self._manager.opened(sid, user_id)

    async def join_conversation(
        self, sid: str, connection_id: str, settings: LoopSettings | None, user_id: str | None
    ) -> Joined:
        """See ConversationManager."""
        manager = await self._begun()
        return await manager.join_conversation(sid, connection_id, settings, user_id)

    async def disconnect_from_session(self, connection_id: str) -> None:
        """See ConversationManager."""
        if self._manager is not None:
            await self._manager.disconnect_from_session(connection_id)

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
        manager = await self._begun()
        return await manager.maybe_start_agent_loop(
            sid,
            settings,
            user_id,
            initial_user_msg,
            image_urls=image_urls,
            file_urls=file_urls,
            client_id=client_id,
            replay=replay,
            record_checked=record_checked,
        )

    def take(
        self,
        conversation: ServerConversation,
        data: object,
        settled: Settled,
        must_wait: Callable[[], None],
    ) -> None:
        """See ConversationManager."""
        if self._manager is None:
            raise RuntimeError("a conversation outlived its manager")
        self._manager.take(conversation, data, settled, must_wait)

    async def send_to_event_stream(self, connection_id: str, data: object) -> Accepted:
        """See ConversationManager."""
        manager = await self._begun()
        return await manager.send_to_event_stream(connection_id, data)

    async def send_event_to_conversation(self, sid: str, data: object) -> Accepted:
        """See ConversationManager."""
        manager = await self._begun()
        return await manager.send_event_to_conversation(sid, data)

    async def close_session(self, sid: str) -> bool:
        """See ConversationManager."""
        return self._manager is not None and await self._manager.close_session(sid)

    async def delete_conversation(self, sid: str, user_id: str | None) -> bool:
        """See ConversationManager."""
        manager = await self._begun()
        return await manager.delete_conversation(sid, user_id)

    async def is_agent_loop_running(self, sid: str) -> bool:
        """See ConversationManager."""
        return self._manager is not None and await self._manager.is_agent_loop_running(sid)

    async def get_running_agent_loops(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> set[str]:
        """See ConversationManager."""
        if self._manager is None:
            return set()
        return await self._manager.get_running_agent_loops(user_id, filter_to_sids)

    async def get_connections(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> Mapping[str, str]:
        """See ConversationManager."""
        if self._manager is None:
            return {}
        return await self._manager.get_connections(user_id, filter_to_sids)

    async def get_agent_loop_info(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> list[AgentLoopInfo]:
        """See ConversationManager."""
        if self._manager is None:
            return []
        return await self._manager.get_agent_loop_info(user_id, filter_to_sids)

    async def _begun(self) -> ConversationManager:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # An event loop that ended has closed what it began.
            self._loop, self._serial = loop, asyncio.Lock()
            self._life = self._manager = None
        async with self._serial:
            if self._manager is None:
                life = self._begin()
                self._manager = await anext(life)
                self._life = life
            return self._manager
