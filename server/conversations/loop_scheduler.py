"""Starts, stops and queues the agent loops of this process, within every user's slots."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from server.agent.states import LoopSettings
from server.conversations.conversation import ServerConversation
from server.conversations.registry import OpenConversations
from server.observability.logs import context_of

logger = logging.getLogger(__name__)

Queue = dict[str, ServerConversation]


class LoopSlots:
    """Counts running loops per user; conversations that found no slot wait in order.

    Those with a message to answer come before those that are only watched. Pure bookkeeping: it
    starts and stops nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[str | None, set[str]] = {}
        self._with_work: dict[str | None, Queue] = {}
        self._watching: dict[str | None, Queue] = {}
        self._closed = False
        self.held_back = False
        """Nobody is given a turn for now."""

    def take(self, conversation: ServerConversation) -> bool:
        """Take a slot and leave the queue; False when the user's limit is reached."""
        held = self._held.setdefault(conversation.user_id, set())
        if len(held) >= self._limit:
            return False
        held.add(conversation.conversation_id)
        self.forget(conversation)
        return True

    def give_back(self, conversation: ServerConversation) -> None:
        """End a loop's claim; no claim is no error."""
        held = self._held.get(conversation.user_id, set())
        held.discard(conversation.conversation_id)
        if not held:
            self._held.pop(conversation.user_id, None)

    def holds(self, conversation_id: str, user_id: str | None) -> bool:
        """Whether the conversation's loop starts, runs or stops."""
        return conversation_id in self._held.get(user_id, set())

    def anyone_holds(self) -> bool:
        """Whether any loop starts, runs or stops."""
        return bool(self._held)

    def wait(self, conversation: ServerConversation, *, has_work: bool) -> None:
        """Queue a conversation; once it has work to do it keeps that rank."""
        user_id, conversation_id = conversation.user_id, conversation.conversation_id
        if has_work:
            self._watching.get(user_id, {}).pop(conversation_id, None)
            self._with_work.setdefault(user_id, {}).setdefault(conversation_id, conversation)
        elif conversation_id not in self._with_work.get(user_id, {}):
            self._watching.setdefault(user_id, {}).setdefault(conversation_id, conversation)

    def waits(self, conversation: ServerConversation) -> bool:
        """Whether it is queued."""
        with_work = self._with_work.get(conversation.user_id, {})
        return conversation.conversation_id in with_work or self.only_watches(conversation)

    def only_watches(self, conversation: ServerConversation) -> bool:
        """Whether it is queued without a message to answer."""
        return conversation.conversation_id in self._watching.get(conversation.user_id, {})

    def next_waiting(self, user_id: str | None) -> ServerConversation | None:
        """The one that has waited longest; none after `close` and while turns are held back."""
        if self._closed or self.held_back:
            return None
        queue = self._with_work.get(user_id) or self._watching.get(user_id) or {}
        return next(iter(queue.values()), None)

    def forget(self, conversation: ServerConversation) -> None:
        """Take it out of the queue."""
        for queues in (self._with_work, self._watching):
            queue = queues.get(conversation.user_id)
            if queue is not None:
                queue.pop(conversation.conversation_id, None)
                if not queue:
                    del queues[conversation.user_id]

    def close(self) -> None:
        """Give nobody a turn any more."""
        self._closed = True


Refine = Callable[[str | None, LoopSettings], Awaitable[LoopSettings]]
"""Puts what a user has chosen in the place of defaults. Raises what the storage raises."""


class LoopKeeper:
    """Decides when a conversation's loop runs.

    A conversation is *engaged*, and so kept open, while its loop starts, runs or stops, or while
    it waits for a slot. At a user's limit the loop that is idle and unwatched for longest is
    closed first; one that is watched or at work never is.
    """

    def __init__(
        self,
        conversations: OpenConversations,
        *,
        limit: int,
        close_delay_seconds: float,
        default_settings: LoopSettings,
        refine: Refine,
    ) -> None:
        self._conversations = conversations
        self._slots = LoopSlots(limit)
        self._close_delay_seconds = close_delay_seconds
        self._default_settings = default_settings
        self._refine = refine
        self._settings: dict[str, LoopSettings] = {}
        self._engaged: dict[str, ServerConversation] = {}
        self._stopping: dict[str, bool] = {}
        """Whether a conversation whose loop is being stopped has got work meanwhile."""
        self._stops: dict[str, Task[None]] = {}
        self._tasks: set[Task[Any]] = set()
        self._none_left = asyncio.Event()

    def holds(self, conversation: ServerConversation) -> bool:
        """Whether the loop starts, runs or stops."""
        return self._slots.holds(conversation.conversation_id, conversation.user_id)

    def waits(self, conversation: ServerConversation) -> bool:
        """Whether it waits for a slot."""
        return self._slots.waits(conversation)

    def ensure(
        self, conversation: ServerConversation, settings: LoopSettings | None, *, has_work: bool
    ) -> bool:
        """Start the loop unless it is there; whether it has to wait for somebody else's slot."""
        conversation_id = conversation.conversation_id
        if settings is not None:
            self._settings[conversation_id] = settings
        if conversation_id in self._stopping:
            self._stopping[conversation_id] = self._stopping[conversation_id] or has_work
            return False
        if self.holds(conversation):
            return False
        self._engage(conversation)
        self._slots.wait(conversation, has_work=has_work)
        room_is_made = self._serve(conversation.user_id)
        return self._slots.waits(conversation) and not room_is_made

    async def stop(self, conversation: ServerConversation) -> bool:
        """Stop the loop, or give up waiting for one; whether there was a loop.

        Where the loop is being stopped already, work that came until now starts no other.
        """
        if not self.holds(conversation):
            self._slots.forget(conversation)
            self._disengage(conversation)
            return False
        stopping = self._begin_stop(conversation)
        self._stopping[conversation.conversation_id] = False
        await asyncio.shield(stopping)
        return True

    def watched(self, conversation: ServerConversation) -> None:
        """A connection came: the loop is not idle."""
        if conversation.idle_timer is not None:
            conversation.idle_timer.cancel()
            conversation.idle_timer = None

    def unwatched(self, conversation: ServerConversation) -> None:
        """The last connection went: the loop may be closed when idle, its slot be wanted."""
        if self._slots.only_watches(conversation):
            self._slots.forget(conversation)
            self._disengage(conversation)
        self._watch_idleness(conversation)
        self._serve(conversation.user_id)

    async def drain(self, seconds: float) -> None:
        """Start no loop, stop each when it rests and all after `seconds`; done when none is left."""
        self._slots.held_back = True
        self._none_left.clear()
        for conversation in [*self._engaged.values()]:
            self._end_if_resting(conversation)
        try:
            async with asyncio.timeout(seconds):
                if self._slots.anyone_holds():
                    await self._none_left.wait()
        except TimeoutError:
            left = [one for one in self._engaged.values() if self.holds(one)]
            await asyncio.gather(*(asyncio.shield(self._begin_stop(one)) for one in left))

    def resume(self) -> None:
        """Start loops again, first those that have waited."""
        self._slots.held_back = False
        for user_id in {one.user_id for one in self._engaged.values()}:
            self._serve(user_id)

    async def close(self) -> None:
        """End every start and stop under way and start nothing more."""
        self._slots.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _serve(self, user_id: str | None) -> bool:
        """Start whoever waits while there are slots; whether an idle loop makes room now."""
        while (waiting := self._slots.next_waiting(user_id)) is not None:
            if self._slots.take(waiting):
                self._begin(waiting)
                continue
            victim = self._victim(user_id)
            if victim is not None:
                self._stop_soon(victim)
                return True
            return any(self._is_of(user_id, sid) for sid in self._stopping)
        return False

    def _is_of(self, user_id: str | None, conversation_id: str) -> bool:
        conversation = self._engaged.get(conversation_id)
        return conversation is not None and conversation.user_id == user_id

    def _victim(self, user_id: str | None) -> ServerConversation | None:
        idle = [
            conversation
            for conversation in self._engaged.values()
            if conversation.user_id == user_id
            and conversation.idle
            and conversation.conversation_id not in self._stopping
        ]
        return min(idle, key=lambda one: one.last_activity, default=None)

    def _begin(self, conversation: ServerConversation) -> None:
        conversation.starting = self._spawn(conversation, self._start(conversation))

    async def _start(self, conversation: ServerConversation) -> None:
        given = self._settings.get(conversation.conversation_id, self._default_settings)
        try:
            settings = partial(self._refine, conversation.user_id, given)
            await conversation.start_loop(settings, partial(self._rested, conversation))
        except Exception:
            logger.exception("the agent loop of %s failed to start", conversation.conversation_id)
            self._ended(conversation)
        else:
            self._watch_idleness(conversation)
            self._rest_soon(conversation)
        finally:
            conversation.starting = None

    async def _stop(self, conversation: ServerConversation) -> None:
        conversation_id = conversation.conversation_id
        try:
            if conversation.starting is not None:
                conversation.starting.cancel()
                await asyncio.wait([conversation.starting])
            await conversation.stop_loop()
        except Exception:
            logger.exception("the agent loop of %s failed to stop", conversation_id)
        finally:
            del self._stops[conversation_id]
            if self._stopping.pop(conversation_id):
                self._slots.give_back(conversation)
                self._slots.wait(conversation, has_work=True)
                self._serve(conversation.user_id)
                self._tell_if_none_left()
            else:
                self._ended(conversation)

    def _ended(self, conversation: ServerConversation) -> None:
        self._slots.give_back(conversation)
        self._disengage(conversation)
        self._serve(conversation.user_id)
        self._tell_if_none_left()

    def _tell_if_none_left(self) -> None:
        if not self._slots.anyone_holds():
            self._none_left.set()

    def _rested(self, conversation: ServerConversation) -> None:
        conversation.touch()
        self._rest_soon(conversation)

    def _end_if_resting(self, conversation: ServerConversation) -> None:
        loop = conversation.loop
        resting = loop is not None and conversation.starting is None and not loop.working
        if resting and conversation.conversation_id not in self._stopping:
            self._stop_soon(conversation)

    def _rest_soon(self, conversation: ServerConversation) -> None:
        if self._slots.held_back:
            asyncio.get_running_loop().call_soon(self._end_if_resting, conversation)
        elif not conversation.watchers:
            # The loop is in the middle of its transition: look at it after that.
            asyncio.get_running_loop().call_soon(self._serve, conversation.user_id)

    def _watch_idleness(self, conversation: ServerConversation) -> None:
        self.watched(conversation)
        if self._close_delay_seconds > 0 and not conversation.watchers:
            loop = asyncio.get_running_loop()
            due = conversation.last_activity + self._close_delay_seconds
            conversation.idle_timer = loop.call_at(due, self._idle, conversation)

    def _idle(self, conversation: ServerConversation) -> None:
        conversation.idle_timer = None
        if not self.holds(conversation) or conversation.watchers:
            return
        loop = asyncio.get_running_loop()
        if (
            conversation.idle
            and loop.time() >= conversation.last_activity + self._close_delay_seconds
        ):
            self._stop_soon(conversation)
        else:
            conversation.last_activity = max(
                conversation.last_activity, loop.time() - self._close_delay_seconds / 2
            )
            self._watch_idleness(conversation)

    def _engage(self, conversation: ServerConversation) -> None:
        if conversation.conversation_id not in self._engaged:
            self._engaged[conversation.conversation_id] = conversation
            self._conversations.retain(conversation)

    def _disengage(self, conversation: ServerConversation) -> None:
        if self._engaged.pop(conversation.conversation_id, None) is not None:
            self._settings.pop(conversation.conversation_id, None)
            self._conversations.release(conversation)

    def _stop_soon(self, conversation: ServerConversation) -> None:
        self._tasks.add(self._begin_stop(conversation))

    def _begin_stop(self, conversation: ServerConversation) -> Task[None]:
        """Stop the loop in a task of its own; return the one that does so already, if there is one.

        Two would each give the slot back, the second one that of a loop started in between.
        """
        conversation_id = conversation.conversation_id
        if conversation_id not in self._stops:
            self._stopping[conversation_id] = False
            stop = self._spawn(conversation, self._stop(conversation))
            self._stops[conversation_id] = stop
        return self._stops[conversation_id]

    def _spawn(
        self, conversation: ServerConversation, work: Coroutine[Any, Any, None]
    ) -> Task[None]:
        context = context_of(conversation_id=conversation.conversation_id)
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
