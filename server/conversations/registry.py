"""The conversations open in this process: one object per id, opened and closed single-flight."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from events.errors import StreamClosed
from server.conversations.conversation import ServerConversation
from server.observability.logs import context_of
from storage.errors import ConversationNotFound

logger = logging.getLogger(__name__)

Open = Callable[[str, str | None], Awaitable[ServerConversation]]
"""Opens a conversation for its owner. Raises ConversationNotFound."""
Authorise = Callable[[str, str | None], Awaitable[None]]
"""Raises ConversationNotFound unless the id is visible to the owner."""


class RegistryEntry:
    """One conversation's entry: how it is opened, how many use it, whether it is being closed."""

    __slots__ = ("closing", "conversation", "opening", "uses")

    def __init__(self) -> None:
        self.conversation: ServerConversation | None = None
        self.opening: Task[None] | None = None
        """While it is being opened, and when that failed."""
        self.closing: Task[None] | None = None
        self.uses = 0

    async def open(self, work: Awaitable[ServerConversation]) -> None:
        """Open it. Raises what that raises."""
        self.conversation = await work
        # A task that is done holds more memory than the conversation.
        self.opening = None

    async def opened(self) -> ServerConversation:
        """Return the conversation once it is open. Raises what opening raised."""
        if self.opening is not None:
            await asyncio.shield(self.opening)
        if self.conversation is None:
            raise StreamClosed("the conversation is not open")
        return self.conversation


class OpenConversations:
    """Counts the users of every open conversation and closes it after the last one.

    Whoever asks while one is being closed waits and gets a new one.
    """

    def __init__(self, authorise: Authorise, open_one: Open) -> None:
        self._authorise = authorise
        self._open = open_one
        self._entries: dict[str, RegistryEntry] = {}
        self._closed = False

    def __iter__(self) -> Iterator[ServerConversation]:
        for conversation_id in list(self._entries):
            conversation = self.get(conversation_id)
            if conversation is not None:
                yield conversation

    def get(self, conversation_id: str) -> ServerConversation | None:
        """Return the conversation if it is open now."""
        entry = self._entries.get(conversation_id)
        return None if entry is None or entry.closing is not None else entry.conversation

    async def acquire(
        self, conversation_id: str, user_id: str | None, *, authorised: bool = False
    ) -> ServerConversation:
        """Return the conversation, open until `release`.

        Raises ConversationNotFound, LogShortened and what opening does. With `authorised` the caller has just
        made sure that the user has a record of it.
        """
        entry = await self._entry(conversation_id, user_id, authorised=authorised)
        entry.uses += 1
        try:
            conversation = await entry.opened()
        except BaseException:
            self._leave(conversation_id, entry)
            raise
        if conversation.user_id != user_id:
            self._leave(conversation_id, entry)
            raise ConversationNotFound(conversation_id)
        lost = conversation.stream.shortened
        if lost is not None:  # it is about to be closed
            self._leave(conversation_id, entry)
            raise lost
        return conversation

    def retain(self, conversation: ServerConversation) -> None:
        """Count one more user of a conversation that is open."""
        self._entries[conversation.conversation_id].uses += 1

    def release(self, conversation: ServerConversation) -> None:
        """Count one user less; the last one closes.

        One that was closed while it was used may have been opened anew, which is not let go of.
        """
        entry = self._entries.get(conversation.conversation_id)
        if entry is not None and entry.conversation is conversation:
            self._leave(conversation.conversation_id, entry)

    def __contains__(self, conversation_id: object) -> bool:
        """Return whether a conversation is open, being opened or being closed."""
        return conversation_id in self._entries

    async def while_closed(
        self, conversation_id: str, work: Callable[[], Coroutine[Any, Any, bool]]
    ) -> bool:
        """Run `work` while nobody can open the conversation; False, and nothing is run, if it is open.

        Whoever asks for the conversation meanwhile waits, and is authorised after that. The work
        goes on if the caller is cancelled. Raises StreamClosed, and what `work` raises.
        """
        if self._closed:
            raise StreamClosed("the server is stopping")
        if conversation_id in self._entries:
            return False
        entry = self._entries[conversation_id] = RegistryEntry()
        context = context_of(conversation_id=conversation_id)
        working = asyncio.get_running_loop().create_task(work(), context=context)
        entry.closing = asyncio.create_task(self._freed_after(working, conversation_id))
        try:
            await asyncio.shield(entry.closing)
        except asyncio.CancelledError:
            working.add_done_callback(partial(_log_failure, conversation_id))
            raise
        return working.result()

    async def close(self, conversation_id: str) -> None:
        """Close it whoever uses it; done when it is closed."""
        entry = self._entries.get(conversation_id)
        if entry is not None:
            await asyncio.shield(self._closing(conversation_id, entry))

    async def close_all(self) -> None:
        """Close every conversation; from now on none is opened (StreamClosed)."""
        self._closed = True
        closings = [self._closing(cid, entry) for cid, entry in list(self._entries.items())]
        if closings:
            await asyncio.wait(closings)

    async def _entry(
        self, conversation_id: str, user_id: str | None, *, authorised: bool
    ) -> RegistryEntry:
        while True:
            if self._closed:
                raise StreamClosed("the server is stopping")
            entry = self._entries.get(conversation_id)
            if entry is not None and entry.closing is not None:
                await asyncio.shield(entry.closing)
            elif entry is not None:
                return entry
            elif not authorised:
                # Before opening: a stranger's failure must not be shared by the owner.
                await self._authorise(conversation_id, user_id)
                authorised = True
            else:
                entry = self._entries[conversation_id] = RegistryEntry()
                work = entry.open(self._open(conversation_id, user_id))
                context = context_of(conversation_id=conversation_id)
                entry.opening = asyncio.get_running_loop().create_task(work, context=context)

    def _leave(self, conversation_id: str, entry: RegistryEntry) -> None:
        entry.uses -= 1
        if entry.uses == 0 and entry.closing is None:
            entry.closing = self._closing(conversation_id, entry)

    def _closing(self, conversation_id: str, entry: RegistryEntry) -> Task[None]:
        if entry.closing is None:
            work = self._close(conversation_id, entry)
            context = context_of(conversation_id=conversation_id)
            entry.closing = asyncio.get_running_loop().create_task(work, context=context)
        return entry.closing

    async def _freed_after(self, working: Task[bool], conversation_id: str) -> None:
        await asyncio.wait([working])
        del self._entries[conversation_id]

    async def _close(self, conversation_id: str, entry: RegistryEntry) -> None:
        try:
            conversation = await entry.opened()
        except Exception as error:  # noqa: BLE001 - whoever waited for the opening was told
            logger.debug("cannot open %s: %r", conversation_id, error)
        else:
            try:
                await conversation.close()
            except Exception:
                logger.exception("closing %s failed", conversation_id)
        finally:
            del self._entries[conversation_id]


def _log_failure(conversation_id: str, working: Task[bool]) -> None:
    """Log why work failed whose caller no longer waits for it."""
    if not working.cancelled() and (error := working.exception()) is not None:
        logger.error("work on %s failed", conversation_id, exc_info=error)
