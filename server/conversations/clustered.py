"""The conversation manager of a process that shares its storage with others of its kind."""

import asyncio
import logging
from asyncio import Event, Task
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Protocol, Self

import orjson

from events.actions import Action
from events.batch import Appended, Settled
from events.errors import EventsError
from events.event import EventSource
from events.stream import EventStream
from server.agent.lease import Lease
from server.agent.states import WORKING, LoopSettings
from server.conversations.claims import Claimed, LoopRow, SharedClaims, Waits
from server.conversations.conversation import ServerConversation
from server.conversations.deletion import Deletions
from server.conversations.local import LocalConversations, open_stream
from server.conversations.loop_entries import LoopState, LoopStatus
from server.conversations.manager import (
    Accepted,
    AgentLoopInfo,
    ConversationManager,
    ConversationStatus,
    InUse,
    Joined,
    ManagerDependencies,
)
from server.conversations.notices import APPROVAL_EXPIRED_ID
from server.errors import NodeSilent
from server.observability.logs import context_of
from server.turns.approval_events import state_in
from storage.errors import ConversationNotFound, StorageError

logger = logging.getLogger(__name__)

ATTEND_SECONDS = 1.0
"""Seconds after which a process looks by itself at what others ask of it."""
ASK_SECONDS = 10.0
"""Seconds in which another process has to stop a loop."""
LOOK_SECONDS = 0.5
"""Seconds after which a process that has asked looks by itself whether that was done."""
TAKEN_AT_ONCE = 20
"""Loops of dead processes that are taken over together."""


class Bell(Protocol):
    """Rings at the other processes, by conversation. Nothing here waits or raises; rings may be lost."""

    def loop_changed(self, conversation_id: str) -> None:
        """Something is asked of the holder of a loop, or a slot is free, or a loop waits for one."""

    def look_at(self, conversation_id: str) -> None:
        """The log's head has changed otherwise than by appending: it may be deleted."""

    def notice(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """A payload is meant for the conversation's connections."""


class Following(Protocol):
    """Keeps streams up with logs to which other processes append."""

    def add(self, stream: EventStream) -> None:
        """Follow the log of a stream."""

    def discard(self, stream: EventStream) -> None:
        """Stop following a stream; unknown ones are ignored."""


class ClusteredConversationManager(ConversationManager):
    """Conversations are open wherever somebody uses them; each loop runs in one process.

    Whoever makes a message durable, or is joined, claims the loop; where another process that lives
    holds it, that one follows the log and takes the message up. What processes ask of each other
    stands in the shared claims, and is looked at on a ring and every second.
    """

    def __init__(
        self, parts: ManagerDependencies, claims: SharedClaims, bell: Bell, following: Following
    ) -> None:
        super().__init__(parts)
        self._claims = claims
        self._bell = bell
        self._following = following
        self._local = LocalConversations(
            parts,
            self._open_stream,
            self._closed,
            claims=_RingingClaims(claims, bell.loop_changed, self._loop_changed),
            audience=_Audience(parts, bell),
        )
        self._deletions = Deletions(parts, self._local)
        self._news = Event()
        self._changed: asyncio.Future[None] | None = None
        """Done at the next ring about loops; shared by all who wait for one."""
        self._attending: Task[None] | None = None
        self._tasks: set[Task[None]] = set()
        self._stopping: set[str] = set()
        """Conversations whose loops are being stopped for another process."""

    async def __aenter__(self) -> Self:
        """Begin to attend to what other processes ask."""
        self._attending = asyncio.get_running_loop().create_task(self._attend())
        return self

    async def __aexit__(self, *error: object) -> None:
        """See ConversationManager."""
        await self.shutdown()

    async def shutdown(self) -> None:
        """See ConversationManager."""
        attending, self._attending = self._attending, None
        if attending is not None:
            attending.cancel()
            await asyncio.wait([attending])
        await self._local.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # What the doorbell and the membership tell.

    def loops_changed(self) -> None:
        """Be told that another process has asked something, freed a slot or waits for one."""
        self._news.set()
        self._wake()

    def head_changed(self, conversation_id: str) -> None:
        """Be told that the head of an open conversation was changed, as by its deletion."""
        if self._local.registry.get(conversation_id) is not None:
            self._spawn(conversation_id, self._look_at(conversation_id))

    def noticed(self, conversation_id: str, payload: Mapping[str, Any]) -> None:
        """Be handed a payload for the connections of a conversation."""
        self._parts.connections.notify(conversation_id, payload)

    def node_died(self) -> None:
        """Be told that a process was declared dead: its loops are to be taken over."""
        self._news.set()

    async def declared_dead(self) -> None:
        """Be told that this process was declared dead: close its loops without a word in their logs."""
        await self._local.loops.abandon_all()

    # Conversations.

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
        joined = await self._local.join(sid, connection_id, settings, user_id)
        if joined.info.status is not ConversationStatus.STOPPED:
            return joined
        return joined._replace(info=await self._info_elsewhere(joined.conversation, joined.info))

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
            info = await self._local.begin(
                conversation,
                settings,
                initial_user_msg,
                image_urls=image_urls,
                file_urls=file_urls,
                client_id=client_id,
                replay=replay,
            )
            if info.status is not ConversationStatus.STOPPED:
                return info
            return await self._info_elsewhere(conversation, info)

    def take(
        self,
        conversation: ServerConversation,
        data: object,
        settled: Settled,
        must_wait: Callable[[], None],
    ) -> None:
        """See ConversationManager. The loop is claimed once the event is durable.

        Claimed sooner, another process could give the loop back in between, having seen nothing of
        the event. `must_wait` is called after `settled`.
        """

        def told(outcome: Appended | Exception) -> None:
            try:
                settled(outcome)
            finally:
                if isinstance(outcome, Appended) and not outcome.duplicate:
                    self._ensure(conversation, must_wait)
                self._local.registry.release(conversation)

        self._local.registry.retain(conversation)
        try:
            conversation.accept(data, told)
        except BaseException:
            self._local.registry.release(conversation)
            raise

    async def accept(self, conversation: ServerConversation, data: object) -> Accepted:
        """See ConversationManager."""
        accepted = await super().accept(conversation, data)
        queued = await self._local.loops.must_wait(conversation)
        return accepted._replace(queued=queued)

    async def send_to_event_stream(self, connection_id: str, data: object) -> Accepted:
        """See ConversationManager."""
        return await self.accept(self._local.of_connection(connection_id), data)

    async def send_event_to_conversation(self, sid: str, data: object) -> Accepted:
        """See ConversationManager."""
        return await self.accept(self._local.of_id(sid), data)

    async def close_session(self, sid: str) -> bool:
        """See ConversationManager. Raises NodeSilent where the process that holds the loop is."""
        row = await self._claims.loop_of(sid)
        stopped = await self._local.stop(sid)
        if row is None or row.here:
            return stopped
        await self._stop_elsewhere(row)
        return not row.waits

    async def delete_conversation(self, sid: str, user_id: str | None) -> bool:
        """See ConversationManager. Clients of other processes are told by these, upon a ring."""
        try:
            await self._parts.conversation_stores.for_user(user_id).get_metadata(sid)
        except ConversationNotFound:
            return False
        except StorageError:
            logger.info("deleting %s, whose record cannot be read", sid)
        row = await self._claims.loop_of(sid)
        if row is not None and not row.here:
            with suppress(NodeSilent):  # what it still does is refused by the tombstone
                await self._stop_elsewhere(row)
        deleted = await self._deletions.delete(sid, user_id)
        if deleted:
            await self._forget(sid)
        return deleted

    async def use_of(self, sid: str, user_id: str | None) -> InUse | None:
        """See ConversationManager. What is open elsewhere without a loop is not seen."""
        if await self._claims.loop_of(sid) is not None:
            return InUse.OPEN
        return await self._deletions.use_of(sid, user_id)

    async def delete_unused(
        self, sid: str, user_id: str | None, confirm: Callable[[], Coroutine[Any, Any, bool]]
    ) -> bool:
        """See ConversationManager."""
        if await self._claims.loop_of(sid) is not None:
            return False
        deleted = await self._deletions.delete_unused(sid, user_id, confirm)
        if deleted:
            await self._forget(sid)
        return deleted

    async def is_agent_loop_running(self, sid: str) -> bool:
        """See ConversationManager."""
        row = await self._claims.loop_of(sid)
        return row is not None and not row.waits

    async def get_running_agent_loops(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> set[str]:
        """See ConversationManager."""
        rows = await self._claims.loops_of(user_id, filter_to_sids)
        return {row.conversation_id for row in rows if not row.waits}

    async def get_connections(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> Mapping[str, str]:
        """See ConversationManager; those of this process."""
        return self._local.connections(user_id, filter_to_sids)

    async def get_agent_loop_info(
        self, user_id: str | None = None, filter_to_sids: set[str] | None = None
    ) -> list[AgentLoopInfo]:
        """See ConversationManager."""
        return await self._infos(await self._claims.loops_of(user_id, filter_to_sids))

    async def every_agent_loop(self) -> list[AgentLoopInfo]:
        """See ConversationManager."""
        return await self._infos(await self._claims.every_loop())

    async def drain(self, seconds: float) -> None:
        """See ConversationManager; what runs in this process."""
        await self._local.loops.drain(seconds)

    def resume(self) -> None:
        """See ConversationManager."""
        self._local.loops.resume()

    # Streams.

    async def _open_stream(self, sid: str) -> EventStream:
        stream = await open_stream(self._parts, sid)
        self._following.add(stream)
        try:
            await stream.look()  # what was rung before it was followed
        except BaseException:
            self._following.discard(stream)
            raise
        return stream

    def _closed(self, conversation: ServerConversation) -> None:
        self._following.discard(conversation.stream)

    def _ensure(self, conversation: ServerConversation, must_wait: Callable[[], None]) -> None:
        if self._local.loops.ensure(conversation, None, has_work=True):
            must_wait()
        else:
            self._spawn(conversation.conversation_id, self._tell_if(conversation, must_wait))

    async def _tell_if(
        self, conversation: ServerConversation, must_wait: Callable[[], None]
    ) -> None:
        if await self._local.loops.must_wait(conversation):
            must_wait()

    # What processes ask of each other.

    async def _attend(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(ATTEND_SECONDS):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._do_what_is_asked()
            except (EventsError, StorageError) as error:
                logger.warning("cannot look at what other processes ask: %r", error)
            except Exception:
                logger.exception("what other processes ask was not done")

    async def _do_what_is_asked(self) -> None:
        for sid in await self._claims.asked_to_stop():
            if sid not in self._stopping:
                # Once: to stop it again would forget what came meanwhile.
                self._stopping.add(sid)
                self._spawn(sid, self._stop_for_another(sid))
        for row in await self._claims.take_over(TAKEN_AT_ONCE):
            self._spawn(row.conversation_id, self._bring_up(row))
        self._local.loops.retry_all()
        for user_id in await self._claims.waiting_users():
            self._local.loops.make_room(user_id)

    async def _stop_for_another(self, sid: str) -> None:
        try:
            if not await self._local.stop(sid):
                await self._release(sid)  # a row without a loop
        finally:
            self._stopping.discard(sid)

    async def _bring_up(self, row: LoopRow) -> None:
        """Start a loop that was taken over if it was at work; else leave it to the next message."""
        try:
            async with self._local.attached(row.conversation_id, row.user_id) as conversation:
                if await _has_work(conversation.stream):
                    self._local.loops.ensure(conversation, None, has_work=True)
                    return
        except (ConversationNotFound, EventsError) as error:
            logger.warning("cannot take over the loop of %s: %r", row.conversation_id, error)
        await self._release(row.conversation_id)

    async def _stop_elsewhere(self, row: LoopRow) -> None:
        """Have another process stop a loop, and wait for that. Raises NodeSilent."""
        sid = row.conversation_id
        await self._claims.ask_to_stop(sid)
        self._bell.loop_changed(sid)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                while True:
                    changed = self._next_change()
                    found = await self._claims.loop_of(sid)
                    if found is None or found.node != row.node:
                        return
                    await asyncio.wait([changed], timeout=LOOK_SECONDS)
        except TimeoutError as error:
            raise NodeSilent(row.node) from error

    async def _look_at(self, sid: str) -> None:
        """End a conversation here that another process has deleted."""
        head = await self._parts.event_store.head(sid)
        conversation = self._local.registry.get(sid)
        if head.deleted and conversation is not None:
            await self._deletions.end(conversation)

    async def _forget(self, sid: str) -> None:
        self._bell.look_at(sid)
        await self._release(sid)

    async def _release(self, sid: str) -> None:
        await self._claims.release(sid)
        self._loop_changed(sid)

    def _loop_changed(self, sid: str) -> None:
        self._bell.loop_changed(sid)
        self.loops_changed()

    def _next_change(self) -> asyncio.Future[None]:
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None

    def _spawn(self, sid: str, work: Coroutine[Any, Any, None]) -> None:
        context = context_of(conversation_id=sid)
        task = asyncio.get_running_loop().create_task(_logged(sid, work), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What lists show.

    async def _info_elsewhere(
        self, conversation: ServerConversation, info: AgentLoopInfo
    ) -> AgentLoopInfo:
        row = await self._claims.loop_of(conversation.conversation_id)
        if row is None or row.here:
            return info
        return _info(row, conversation.stream.next_id, conversation.stream)

    async def _infos(self, rows: Sequence[LoopRow]) -> list[AgentLoopInfo]:
        found: list[AgentLoopInfo] = []
        others: list[LoopRow] = []
        for row in rows:
            here = self._local.registry.get(row.conversation_id)
            info = None if here is None else self._local.info(here)
            if info is None or info.status is ConversationStatus.STOPPED:
                others.append(row)
            else:
                found.append(info)
        heads = await self._parts.event_store.heads([row.conversation_id for row in others])
        return found + [_info(row, head.next_id) for row, head in zip(others, heads, strict=True)]


class _RingingClaims:
    """Claims that tell when a loop begins to wait for a slot, and when one is given back."""

    def __init__(
        self, claims: SharedClaims, waits: Callable[[str], None], released: Callable[[str], None]
    ) -> None:
        self._claims = claims
        self._waits = waits
        self._released = released
        self._waiting: set[str] = set()

    @property
    def lease(self) -> Lease:
        return self._claims.lease

    async def claim(
        self, conversation_id: str, owner: str | None, *, has_work: bool, in_line: bool = False
    ) -> Claimed:
        claimed = await self._claims.claim(
            conversation_id, owner, has_work=has_work, in_line=in_line
        )
        if not isinstance(claimed, Waits):
            self._waiting.discard(conversation_id)
        elif conversation_id not in self._waiting:
            # Once: those who are rung claim again themselves, and would ring back for ever.
            self._waiting.add(conversation_id)
            self._waits(conversation_id)
        return claimed

    async def release(self, conversation_id: str) -> None:
        await self._claims.release(conversation_id)
        self._waiting.discard(conversation_id)
        self._released(conversation_id)


class _Audience:
    """The connections of a conversation, wherever they are."""

    def __init__(self, parts: ManagerDependencies, bell: Bell) -> None:
        self._connections = parts.connections
        self._bell = bell

    def notify(self, conversation_id: str, payload: dict[str, object]) -> None:
        self._connections.notify(conversation_id, payload)
        if payload.get("id") != APPROVAL_EXPIRED_ID:  # every process sees to that itself
            self._bell.notice(conversation_id, payload)


def _info(row: LoopRow, next_id: int, stream: EventStream | None = None) -> AgentLoopInfo:
    """Return what a loop of another process is at, as far as it is known here."""
    sid = row.conversation_id
    state = LoopState.WAITING if row.waits else LoopState.RUNNING
    return AgentLoopInfo(
        *(sid, f"/api/conversations/{sid}", None, stream, ConversationStatus.RUNNING),
        runtime_status="STATUS$READY",
        queued=row.waits,
        user_id=row.user_id,
        working=row.working,
        loop=LoopStatus(state),
        next_id=next_id,
        node=row.node,
    )


async def _has_work(stream: EventStream) -> bool:
    """Return whether a log ends amid work, or with something that its loop has not taken up.

    Raises what the storage raises.
    """
    last = stream.last_state_id
    if last is None:
        return stream.next_id > 0
    async for stored in stream.search_events(last):
        payload = orjson.loads(stored.body)
        state = state_in(payload)
        if state in WORKING or (state is None and payload.get("source") == EventSource.USER):
            return True
    return False


async def _logged(sid: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        logger.exception("what another process asked of %s was not done", sid)
