"""Deletes conversations: their clients are told the end, then log, workspace and record go."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from time import time
from typing import Any

import orjson

from events.errors import DamagedHead, EventsError
from events.event import AgentState, EventSource, StoredEvent
from events.observations import AgentStateChangedObservation
from events.serialization import encode, flag_of
from events.stream import EventStream
from server.conversations.conversation import ServerConversation
from server.conversations.local import LocalConversations, open_stream
from server.conversations.manager import InUse, ManagerDependencies
from server.turns.approvals import Approvals
from server.turns.expiry import timestamp_of
from server.user_code import UserCode
from storage.errors import ConversationNotFound, Damaged
from storage.keyed_locks import KeyedLocks

logger = logging.getLogger(__name__)

FAREWELL_SECONDS = 2.0
"""Seconds a deletion spends on storing the last state."""


class Deletions:
    """Deletes conversations of this process one after the other, whoever asks."""

    def __init__(self, parts: ManagerDependencies, local: LocalConversations) -> None:
        self._parts = parts
        self._local = local
        self._serial: KeyedLocks[str] = KeyedLocks()

    async def delete(self, sid: str, user_id: str | None) -> bool:
        """See ConversationManager.delete_conversation."""
        async with self._serial.of(sid):
            try:
                conversation = await self._local.registry.acquire(sid, user_id)
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
                self._local.loops.unbar(conversation)
                self._local.registry.release(conversation)
            return True

    async def use_of(self, sid: str, user_id: str | None) -> InUse | None:
        """See ConversationManager."""
        if sid in self._local.registry:
            return InUse.OPEN
        stream = await open_stream(self._parts, sid)
        return InUse.APPROVAL if await _waits_for_approval(stream, user_id) else None

    async def delete_unused(
        self, sid: str, user_id: str | None, confirm: Callable[[], Coroutine[Any, Any, bool]]
    ) -> bool:
        """See ConversationManager."""

        async def delete() -> bool:
            stream = await open_stream(self._parts, sid)
            if await _waits_for_approval(stream, user_id) or not await confirm():
                return False
            # Not opened, so that nothing is appended: a deletion that a crash cut short would
            # leave a conversation that was just used.
            await self._delete_stored(sid, user_id)
            self._parts.page_reader.forget(sid, stream.next_id)
            return True

        async with self._serial.of(sid):
            return await self._local.registry.while_closed(sid, delete)

    async def end(self, conversation: ServerConversation) -> None:
        """End a conversation that another process has deleted: clients here are told `stopped`."""
        self._local.registry.retain(conversation)
        try:
            await self._local.loops.bar(conversation)
            _publish_stopped(conversation.stream)
            await conversation.stream.flush()
            await self._drop_clients(conversation)
        finally:
            self._local.loops.unbar(conversation)
            self._local.registry.release(conversation)

    async def _drop_clients(self, conversation: ServerConversation) -> None:
        """End a conversation whose log is deleted: its clients go, and it is closed."""
        await conversation.stream.mark_deleted()
        sid = conversation.conversation_id
        connections = self._parts.connections.of(sid)
        await asyncio.gather(*(connection.drop() for connection in connections))
        await self._local.registry.close(sid)

    async def _delete(self, conversation: ServerConversation) -> None:
        had_loop = await self._local.loops.bar(conversation)
        if not had_loop and conversation.stream.next_id > 0:
            await self._say_stopped(conversation)
        await conversation.stream.flush()
        await self._delete_stored(conversation.conversation_id, conversation.user_id)
        await self._drop_clients(conversation)

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
        self._changed(sid, user_id)

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
        self._changed(sid, user_id)
        return True

    async def _forget_runtime(self, sid: str) -> None:
        """Have the builder of runtimes remove what it holds; the conversation goes in any case."""
        parts = self._parts.loop_dependencies
        forget = partial(parts.runtime_builder.forget, sid)
        try:
            await UserCode(sid).wait(forget, parts.deadlines.other, "the runtime builder's forget")
        except Exception:
            logger.exception("what a runtime of %s has left could not be removed", sid)

    def _changed(self, sid: str, user_id: str | None) -> None:
        changed = self._parts.loop_dependencies.changed
        if changed is not None:
            changed(sid, user_id, 0)


def _publish_stopped(stream: EventStream) -> None:
    """Publish here the last state of a log that is gone, and cannot be read any more."""
    fact = AgentStateChangedObservation(
        id=stream.next_id,
        timestamp=timestamp_of(time()),
        source=EventSource.ENVIRONMENT,
        agent_state=AgentState.STOPPED,
    )
    payload = encode(fact)
    stream.reached([StoredEvent(stream.next_id, flag_of(payload), orjson.dumps(payload))])


async def _waits_for_approval(stream: EventStream, user_id: str | None) -> bool:
    approvals = Approvals(user_id)
    await approvals.read(stream)
    return bool(approvals.open_ids)
