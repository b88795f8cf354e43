"""The conversation manager of a single process."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Self

from events.actions import Action
from events.batch import Settled
from events.errors import DamagedHead, EventsError
from events.event import AgentState
from events.stream import EventStream
from server.agent.states import LoopSettings
from server.conversations.conversation import ServerConversation
from server.conversations.loop_entries import HOLDING, LoopState
from server.conversations.loop_scheduler import LoopScheduler
from server.conversations.manager import (
    Accepted,
    AgentLoopInfo,
    ConversationManager,
    ConversationStatus,
    InUse,
    Joined,
    ManagerDependencies,
)
from server.conversations.record_updates import MetadataFollower
from server.conversations.registry import OpenConversations
from server.turns.approvals import Approvals
from server.user_code import UserCode
from storage.errors import ConversationNotFound, Damaged
from storage.keyed_locks import KeyedLocks

logger = logging.getLogger(__name__)

FAREWELL_SECONDS = 2.0
"""Seconds a deletion spends on storing the last state."""


class StandaloneConversationManager(ConversationManager):
    """Everything in this process; what outlives it is in the stores."""

    def __init__(self, parts: ManagerDependencies) -> None:
        super().__init__(parts)
        self._conversations = OpenConversations(self._authorise, self._open)
        self._loops = LoopScheduler(
            self._conversations,
            limit=parts.max_concurrent_conversations,
            close_delay_seconds=parts.close_delay_seconds,
            default_settings=parts.default_settings,
            refine=parts.users.loop_settings,
        )
        self._deletions: KeyedLocks[str] = KeyedLocks()
        # One method object for all conversations: each would hold another otherwise.
        self._on_closed = self._closed

    async def __aenter__(self) -> Self:
        """See ConversationManager."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """See ConversationManager."""
        await self.shutdown()

    async def shutdown(self) -> None:
        """See ConversationManager."""
        await self._loops.close()
        await self._conversations.close_all()

    def attach(
        self, sid: str, user_id: str | None
    ) -> AbstractAsyncContextManager[ServerConversation]:
        """See ConversationManager."""
        return self._attached(sid, user_id, authorised=False)

    @asynccontextmanager
    async def _attached(
        self, sid: str, user_id: str | None, *, authorised: bool
    ) -> AsyncIterator[ServerConversation]:
        conversation = await self._conversations.acquire(sid, user_id, authorised=authorised)
        conversation.touch()
        try:
            yield conversation
        finally:
            self._conversations.release(conversation)

    def opened(self, sid: str, user_id: str | None) -> ServerConversation | None:
        """See ConversationManager."""
        found = self._conversations.get(sid)
        return found if found is not None and found.user_id == user_id else None

    async def join_conversation(
        self, sid: str, connection_id: str, settings: LoopSettings | None, user_id: str | None
    ) -> Joined:
        """See ConversationManager."""
        conversation = await self._conversations.acquire(sid, user_id)
        conversation.touch()
        try:
            self._parts.connections.attach(connection_id, conversation)
        except ValueError:
            self._conversations.release(conversation)
            raise
        conversation.watchers += 1
        self._loops.watched(conversation)
        queued = self._loops.ensure(conversation, settings, has_work=False)
        if queued and conversation.stream.last_state_id is None:
            # Without any state a page would wait for one before it lets its user write.
            await conversation.say_state(AgentState.AWAITING_USER_INPUT)
        return Joined(conversation, self._info(conversation))

    async def disconnect_from_session(self, connection_id: str) -> None:
        """See ConversationManager."""
        conversation = self._parts.connections.detach(connection_id)
        if conversation is None:
            return
        conversation.watchers -= 1
        conversation.touch()
        if not conversation.watchers:
            self._loops.unwatched(conversation)
        self._conversations.release(conversation)

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
        async with self._attached(sid, user_id, authorised=record_checked) as conversation:
            if replay and conversation.stream.next_id == 0:
                conversation.replay = replay
            if initial_user_msg is not None or image_urls or file_urls:
                said = conversation.say(
                    initial_user_msg or "", image_urls, client_id, file_urls=file_urls
                )
                await asyncio.shield(said)
            has_work = bool(initial_user_msg or image_urls or file_urls)
            self._loops.ensure(conversation, settings, has_work=has_work)
            return self._info(conversation)

    def take(
        self,
        conversation: ServerConversation,
        data: object,
        settled: Settled,
        must_wait: Callable[[], None],
    ) -> None:
        """See ConversationManager."""
        conversation.accept(data, settled)
        if self._loops.ensure(conversation, None, has_work=True):
            must_wait()

    async def send_to_event_stream(self, connection_id: str, data: object) -> Accepted:
        """See ConversationManager."""
        entry = self._parts.connections.entries.get(connection_id)
        if entry is None or entry.conversation is None:
            raise ConversationNotFound(connection_id)
        return await self.accept(entry.conversation, data)

    async def send_event_to_conversation(self, sid: str, data: object) -> Accepted:
        """See ConversationManager."""
        conversation = self._conversations.get(sid)
        if conversation is None:
            raise ConversationNotFound(sid)
        return await self.accept(conversation, data)

    async def close_session(self, sid: str) -> bool:
        """See ConversationManager."""
        conversation = self._conversations.get(sid)
        if conversation is None:
            return False
        conversation.stop_was_asked_for()
        return await self._loops.stop(conversation)

    async def delete_conversation(self, sid: str, user_id: str | None) -> bool:
        """See ConversationManager."""
        async with self._deletions.of(sid):
            try:
                conversation = await self._conversations.acquire(sid, user_id)
            except ConversationNotFound:
                return False
            except DamagedHead:
                # It cannot be opened, so that nobody is connected to it and no loop runs.
                await self._delete_stored(sid, user_id)
                return True
            except Damaged:
                return await self._delete_damaged(sid, user_id)
            try:
                await self._delete(conversation)
            finally:
                self._loops.unbar(conversation)
                self._conversations.release(conversation)
            return True

    async def use_of(self, sid: str, user_id: str | None) -> InUse | None:
        """See ConversationManager."""
        if sid in self._conversations:
            return InUse.OPEN
        stream = await self._read_only(sid)
        return InUse.APPROVAL if await self._waits_for_approval(stream, user_id) else None

    async def delete_unused(
        self, sid: str, user_id: str | None, confirm: Callable[[], Coroutine[Any, Any, bool]]
    ) -> bool:
        """See ConversationManager."""

        async def delete() -> bool:
            stream = await self._read_only(sid)
            if await self._waits_for_approval(stream, user_id) or not await confirm():
                return False
            # Not opened, so that nothing is appended: a deletion that a crash cut short would
            # leave a conversation that was just used.
            await self._delete_stored(sid, user_id)
            self._parts.page_reader.forget(sid, stream.next_id)
            return True

        async with self._deletions.of(sid):
            return await self._conversations.while_closed(sid, delete)

    async def _read_only(self, sid: str) -> EventStream:
        """Return the stream of a conversation that is not open, to read from."""
        parts = self._parts
        return await EventStream.open(
            sid, parts.event_store, parts.page_reader, parts.stream_limits
        )

    async def _waits_for_approval(self, stream: EventStream, user_id: str | None) -> bool:
        approvals = Approvals(user_id)
        await approvals.read(stream)
        return bool(approvals.open_ids)

    async def _delete(self, conversation: ServerConversation) -> None:
        sid = conversation.conversation_id
        had_loop = await self._loops.bar(conversation)
        if not had_loop and conversation.stream.next_id > 0:
            await self._say_stopped(conversation)
        await conversation.stream.flush()
        await self._delete_stored(sid, conversation.user_id)
        await conversation.stream.mark_deleted()
        connections = self._parts.connections.of(sid)
        await asyncio.gather(*(connection.drop() for connection in connections))
        await self._conversations.close(sid)

    async def _say_stopped(self, conversation: ServerConversation) -> None:
        """Tell who is connected that this is the end; where nothing can be stored, do without."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await conversation.say_state(AgentState.STOPPED)
        except (EventsError, TimeoutError) as error:
            sid = conversation.conversation_id
            ids = {"conversation_id": sid}
            logger.warning("deleting %s without storing its final state: %r", sid, error, extra=ids)

    async def _delete_stored(self, sid: str, user_id: str | None) -> None:
        if self._parts.before_deletion is not None:
            await self._parts.before_deletion(sid, user_id)
        # First: once its records are gone, nobody knows what a kill has left of its runtimes.
        await self._forget_runtime(sid)
        await self._parts.event_store.delete(sid)
        await self._parts.loop_dependencies.workspaces.delete(sid)
        await self._parts.conversation_stores.for_user(user_id).delete_metadata(sid)
        self._deleted(sid, user_id)

    def _deleted(self, sid: str, user_id: str | None) -> None:
        changed = self._parts.loop_dependencies.changed
        if changed is not None:
            changed(sid, user_id, 0)

    async def _forget_runtime(self, sid: str) -> None:
        """Have the builder of runtimes remove what it holds; the conversation goes in any case."""
        parts = self._parts.loop_dependencies
        forget = partial(parts.runtime_builder.forget, sid)
        try:
            await UserCode(sid).wait(forget, parts.deadlines.other, "the runtime builder's forget")
        except Exception:
            logger.exception("what a runtime of %s has left could not be removed", sid)

    async def _delete_damaged(self, sid: str, user_id: str | None) -> bool:
        """Delete a conversation whose record cannot be read, where its owner is known all the same.

        It cannot be opened either. The record goes first: the log cannot be deleted beside it.
        """
        records = self._parts.conversation_stores.for_user(user_id)
        if not await records.exists(sid):
            return False
        await self._forget_runtime(sid)
        await records.delete_metadata(sid)
        await self._parts.event_store.delete(sid)
        await self._parts.loop_dependencies.workspaces.delete(sid)
        self._deleted(sid, user_id)
        return True

    async def is_agent_loop_running(self, sid: str) -> bool:
        """See ConversationManager."""
        conversation = self._conversations.get(sid)
        return conversation is not None and self._loops.holds(conversation)

    async def get_running_agent_loops(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> set[str]:
        """See ConversationManager."""
        return {
            conversation.conversation_id
            for conversation in self._owned(user_id, filter_to_sids)
            if self._loops.holds(conversation)
        }

    async def get_connections(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> Mapping[str, str]:
        """See ConversationManager."""
        return {
            entry.connection_id: conversation.conversation_id
            for entry in self._parts.connections.entries.values()
            if (conversation := entry.conversation) is not None
            and conversation.user_id == user_id
            and (filter_to_sids is None or conversation.conversation_id in filter_to_sids)
        }

    async def get_agent_loop_info(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> list[AgentLoopInfo]:
        """See ConversationManager."""
        return [
            info
            for conversation in self._owned(user_id, filter_to_sids)
            if (info := self._info(conversation)).status is not ConversationStatus.STOPPED
        ]

    async def every_agent_loop(self) -> list[AgentLoopInfo]:
        """See ConversationManager."""
        infos = [self._info(conversation) for conversation in self._conversations]
        return [info for info in infos if info.status is not ConversationStatus.STOPPED]

    async def drain(self, seconds: float) -> None:
        """See ConversationManager."""
        await self._loops.drain(seconds)

    def resume(self) -> None:
        """See ConversationManager."""
        self._loops.resume()

    async def _authorise(self, sid: str, user_id: str | None) -> None:
        await self._parts.conversation_stores.for_user(user_id).get_metadata(sid)

    async def _open(self, sid: str, user_id: str | None) -> ServerConversation:
        parts = self._parts
        stream = await EventStream.open(
            sid, parts.event_store, parts.page_reader, parts.stream_limits
        )
        if parts.secrets:
            stream.update_secrets(parts.secrets)
        records = parts.conversation_stores.for_user(user_id)
        follower = None if parts.metadata_in_commit else MetadataFollower(stream, records)
        conversation = ServerConversation(
            *(sid, user_id, stream, parts.loop_dependencies, records, parts.connections, follower),
            on_closed=self._on_closed,
        )
        try:
            await conversation.read_approvals()
            await parts.users.enter(conversation)
            # Masked by what is known now, and in the log before anybody reads it.
            await parts.checkpoints.recover(stream)
        except BaseException:
            await conversation.close()
            raise
        return conversation

    def _closed(self, conversation: ServerConversation) -> None:
        self._parts.users.leave(conversation)
        self._parts.checkpoints.forget(conversation.conversation_id)

    def _owned(self, user_id: str | None, only: set[str] | None) -> list[ServerConversation]:
        return [
            conversation
            for conversation in self._conversations
            if conversation.user_id == user_id
            and (only is None or conversation.conversation_id in only)
        ]

    def _info(self, conversation: ServerConversation) -> AgentLoopInfo:
        sid = conversation.conversation_id
        loop = self._loops.status(conversation)
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
        )
