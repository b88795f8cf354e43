"""The open conversations of this process, with their loops and connections: a part of every manager."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from sys import maxsize

from events.actions import Action
from events.batch import Settled
from events.event import AgentState
from events.stream import EventStream
from server.agent.states import LoopSettings
from server.conversations.claims import Claims
from server.conversations.conversation import Audience, ServerConversation
from server.conversations.loop_entries import HOLDING, LoopState
from server.conversations.loop_scheduler import LoopScheduler
from server.conversations.lost_events import LostEvents
from server.conversations.manager import (
    AgentLoopInfo,
    ConversationStatus,
    Joined,
    ManagerDependencies,
)
from server.conversations.record_updates import MetadataFollower
from server.conversations.registry import OpenConversations
from storage.errors import ConversationNotFound

OpenStream = Callable[[str], Awaitable[EventStream]]
"""Opens the stream of a conversation. Raises what `EventStream.open` does."""


class LocalConversations:
    """Opens conversations, joins connections to them and starts their loops, all in this process.

    `open_stream` opens a conversation's stream, and `closed` is told of each that was closed. With
    `claims` other processes may run the same loops, and the limit of a user's loops is theirs;
    `audience` are then connections of theirs, too.
    """

    def __init__(
        self,
        parts: ManagerDependencies,
        open_stream: OpenStream,
        closed: Callable[[ServerConversation], None] | None = None,
        claims: Claims | None = None,
        audience: Audience | None = None,
    ) -> None:
        self._parts = parts
        self._audience = audience or parts.connections
        self._open_stream = open_stream
        self._shares_loops = claims is not None
        self._told_closed = closed
        self.registry = OpenConversations(self._authorise, self._open)
        self.loops = LoopScheduler(
            self.registry,
            limit=parts.max_concurrent_conversations if claims is None else maxsize,
            close_delay_seconds=parts.close_delay_seconds,
            default_settings=parts.default_settings,
            refine=parts.users.loop_settings,
            claims=claims,
        )
        self._lost_events = LostEvents(
            parts.event_store, lambda: (one.stream for one in self.registry), self._reopen
        )
        # One method object for all conversations: each would hold another otherwise.
        self._on_closed = self._closed

    async def close(self) -> None:
        """Stop every loop, make accepted events durable and publish them; final."""
        await self.loops.close()
        await self.registry.close_all()
        await self._lost_events.close()

    @asynccontextmanager
    async def attached(
        self, sid: str, user_id: str | None, *, authorised: bool = False
    ) -> AsyncIterator[ServerConversation]:
        """Yield the conversation, kept open inside the block. Raises as `OpenConversations.acquire`."""
        conversation = await self.registry.acquire(sid, user_id, authorised=authorised)
        conversation.touch()
        try:
            yield conversation
        finally:
            self.registry.release(conversation)

    def opened(self, sid: str, user_id: str | None) -> ServerConversation | None:
        """Return the user's conversation if it is open."""
        found = self.registry.get(sid)
        return found if found is not None and found.user_id == user_id else None

    async def join(
        self, sid: str, connection_id: str, settings: LoopSettings | None, user_id: str | None
    ) -> Joined:
        """See ConversationManager.join_conversation."""
        conversation = await self.registry.acquire(sid, user_id)
        conversation.touch()
        try:
            self._parts.connections.attach(connection_id, conversation)
        except ValueError:
            self.registry.release(conversation)
            raise
        conversation.watchers += 1
        self.loops.watched(conversation)
        self.loops.ensure(conversation, settings, has_work=False)
        if await self.loops.must_wait(conversation) and conversation.stream.last_state_id is None:
            # Without any state a page would wait for one before it lets its user write.
            await conversation.say_state(AgentState.AWAITING_USER_INPUT)
        return Joined(conversation, self.info(conversation))

    def disconnect(self, connection_id: str) -> None:
        """Detach a connection; unknown ones are ignored."""
        conversation = self._parts.connections.detach(connection_id)
        if conversation is None:
            return
        conversation.watchers -= 1
        conversation.touch()
        if not conversation.watchers:
            self.loops.unwatched(conversation)
        self.registry.release(conversation)

    async def begin(
        self,
        conversation: ServerConversation,
        settings: LoopSettings | None,
        initial_user_msg: str | None = None,
        *,
        image_urls: Sequence[str] | None = None,
        file_urls: Sequence[str] | None = None,
        client_id: str | None = None,
        replay: Sequence[Action] = (),
    ) -> AgentLoopInfo:
        """Do what ConversationManager.maybe_start_agent_loop does in an open conversation."""
        if replay and conversation.stream.next_id == 0:
            conversation.replay = replay
        has_work = bool(initial_user_msg or image_urls or file_urls)
        if has_work or initial_user_msg is not None:
            said = conversation.say(
                initial_user_msg or "", image_urls, client_id, file_urls=file_urls
            )
            await asyncio.shield(said)
        self.loops.ensure(conversation, settings, has_work=has_work)
        await self.loops.must_wait(conversation)
        return self.info(conversation)

    def take(
        self,
        conversation: ServerConversation,
        data: object,
        settled: Settled,
        must_wait: Callable[[], None],
    ) -> None:
        """See ConversationManager."""
        conversation.accept(data, settled)
        if self.loops.ensure(conversation, None, has_work=True):
            must_wait()

    def of_connection(self, connection_id: str) -> ServerConversation:
        """Return the conversation a connection is attached to, or raise ConversationNotFound."""
        entry = self._parts.connections.entries.get(connection_id)
        if entry is None or entry.conversation is None:
            raise ConversationNotFound(connection_id)
        return entry.conversation

    def of_id(self, sid: str) -> ServerConversation:
        """Return an open conversation, or raise ConversationNotFound."""
        conversation = self.registry.get(sid)
        if conversation is None:
            raise ConversationNotFound(sid)
        return conversation

    async def stop(self, sid: str) -> bool:
        """Stop the loop of an open conversation for its user; return whether there was one."""
        conversation = self.registry.get(sid)
        if conversation is None:
            return False
        conversation.stop_was_asked_for()
        return await self.loops.stop(conversation)

    def connections(self, user_id: str | None, only: set[str] | None) -> Mapping[str, str]:
        """See ConversationManager.get_connections."""
        return {
            entry.connection_id: conversation.conversation_id
            for entry in self._parts.connections.entries.values()
            if (conversation := entry.conversation) is not None
            and conversation.user_id == user_id
            and (only is None or conversation.conversation_id in only)
        }

    def owned(self, user_id: str | None, only: set[str] | None) -> list[ServerConversation]:
        """Return a user's open conversations; those of `only` unless it is None."""
        return [
            conversation
            for conversation in self.registry
            if conversation.user_id == user_id
            and (only is None or conversation.conversation_id in only)
        ]

    def info(self, conversation: ServerConversation) -> AgentLoopInfo:
        """Return what a conversation's loop is at in this process."""
        sid = conversation.conversation_id
        loop = self.loops.status(conversation)
        queued = loop.state is LoopState.WAITING
        runtime_status = conversation.runtime_status
        if conversation.ready:
            status = ConversationStatus.RUNNING
        elif queued:
            # Readable and taking messages: that is what this status tells the page.
            status, runtime_status = ConversationStatus.RUNNING, "STATUS$READY"
        elif loop.state in HOLDING:
            status = ConversationStatus.STARTING
        else:
            status = ConversationStatus.STOPPED
        url = None if status is ConversationStatus.STOPPED else f"/api/conversations/{sid}"
        return AgentLoopInfo(
            *(sid, url, None, conversation.stream, status, runtime_status, queued),
            user_id=conversation.user_id,
            working=conversation.loop is not None and conversation.loop.working,
            loop=loop,
            next_id=conversation.stream.next_id,
        )

    async def _authorise(self, sid: str, user_id: str | None) -> None:
        await self._parts.conversation_stores.for_user(user_id).get_metadata(sid)

    async def _open(self, sid: str, user_id: str | None) -> ServerConversation:
        parts = self._parts
        stream = await self._open_stream(sid)
        self._lost_events.opened(stream)
        if parts.secrets:
            stream.update_secrets(parts.secrets)
        records = parts.conversation_stores.for_user(user_id)
        follower = None if parts.metadata_in_commit else MetadataFollower(stream, records)
        conversation = ServerConversation(
            *(sid, user_id, stream, parts.loop_dependencies, records, self._audience, follower),
            on_closed=self._on_closed,
        )
        try:
            await conversation.read_approvals()
            if self._shares_loops:
                conversation.follow_approvals()
            await parts.users.enter(conversation)
            if not self._shares_loops:
                # Masked by what is known now, and in the log before anybody reads it. Another
                # process may be writing a text of a loop that it shares: see `start_loop`.
                await parts.checkpoints.recover(stream)
        except BaseException:
            await conversation.close()
            raise
        return conversation

    async def _reopen(self, sid: str) -> None:
        """Drop the clients of a conversation and close it; whoever comes back opens it anew.

        Nobody gets it meanwhile: see OpenConversations.acquire.
        """
        conversation = self.registry.get(sid)
        if conversation is None or conversation.stream.shortened is None:
            return
        leaving = [connection.drop() for connection in self._parts.connections.of(sid)]
        try:
            await asyncio.gather(*leaving, self.loops.stop(conversation))
        finally:
            await self.registry.close(sid)

    def _closed(self, conversation: ServerConversation) -> None:
        self._parts.users.leave(conversation)
        self._parts.checkpoints.forget(conversation.conversation_id)
        if self._told_closed is not None:
            self._told_closed(conversation)


def open_stream(parts: ManagerDependencies, sid: str) -> Awaitable[EventStream]:
    """Open a conversation's stream over a manager's dependencies. Raises as `EventStream.open`."""
    return EventStream.open(sid, parts.event_store, parts.page_reader, parts.stream_limits)
