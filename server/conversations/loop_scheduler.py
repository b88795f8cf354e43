"""Starts, stops and queues the agent loops of this process, within every user's slots.

Where other processes may run the same loops, each is claimed before it starts, and given back when
it has stopped.
"""

import asyncio
import logging
from asyncio import Task
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from events.errors import EventsError
from events.event import EventSource
from events.filter import EventFilter
from server.agent.states import LoopSettings
from server.conversations.claims import HELD, Claims, Held, Waits
from server.conversations.conversation import ServerConversation
from server.conversations.loop_entries import NO_LOOP, LoopEntry, LoopState, LoopStatus, LoopTable
from server.conversations.registry import OpenConversations
from server.observability.logs import context_of
from storage.errors import StorageError

logger = logging.getLogger(__name__)

T = TypeVar("T")

Refine = Callable[[str | None, LoopSettings], Awaitable[LoopSettings]]
"""Replaces defaults by the user's settings. Raises what the storage raises."""

BY_USER = EventFilter(source=EventSource.USER)
LONG_WAIT_SECONDS = 0.1
"""Seconds of waiting after which a line is logged."""


class LoopScheduler:
    """Decides when a conversation's loop runs; only it changes an entry's state.

    A conversation is kept open while it has an entry. At a user's limit the loop that is idle and
    unwatched for longest is closed first; one that is watched or at work never is.
    """

    def __init__(
        self,
        conversations: OpenConversations,
        *,
        limit: int,
        close_delay_seconds: float,
        default_settings: LoopSettings,
        refine: Refine,
        claims: Claims | None = None,
    ) -> None:
        self._claims = claims
        self._releases: set[Task[None]] = set()
        """Places in line that are being given up."""
        self._conversations = conversations
        self._loops = LoopTable(limit, lambda: asyncio.get_running_loop().time())
        self._close_delay_seconds = close_delay_seconds
        self._default_settings = default_settings
        self._refine = refine
        self._none_left = asyncio.Event()

    def status(self, conversation: ServerConversation) -> LoopStatus:
        """Return what a conversation's loop is at, since when, and what it waits for."""
        entry = self._entry(conversation)
        if entry is None:
            return NO_LOOP
        return LoopStatus(entry.state, entry.since, self._loops.waits_for(entry))

    def holds(self, conversation: ServerConversation) -> bool:
        """Return whether the loop starts, runs or stops."""
        entry = self._entry(conversation)
        return entry is not None and entry.holds_slot

    def ensure(
        self, conversation: ServerConversation, settings: LoopSettings | None, *, has_work: bool
    ) -> bool:
        """Start the loop unless there is one; return whether it must wait for a slot.

        A loop that is being stopped, or has failed to start and is being released, starts again
        afterwards if there is work for it.
        """
        entry = self._entry(conversation)
        if entry is None:
            self._conversations.retain(conversation)
            entry = self._loops.enter(conversation, has_work=has_work)
        elif has_work and (
            entry.state in (LoopState.WAITING, LoopState.STOPPING)
            or (entry.state is LoopState.STARTING and conversation.start_failed)
        ):
            self._loops.want(entry)
            entry.in_line = False
        if settings is not None:
            entry.settings = settings
        if entry.waits:
            self._serve(entry.user_id)
        return self._must_wait(entry)

    async def must_wait(self, conversation: ServerConversation) -> bool:
        """Return whether the loop waits for a slot, once a claim under way is decided."""
        entry = self._entry(conversation)
        while entry is not None and entry.claiming is not None:
            await asyncio.shield(entry.claiming)
            entry = self._entry(conversation)
        return entry is not None and self._must_wait(entry)

    def retry(self, user_id: str | None) -> None:
        """Claim again the loops of a user whose claims were refused: a slot may be free."""
        self._loops.retry(user_id)
        self._serve(user_id)

    def retry_all(self) -> None:
        """Claim again every loop whose claim was refused."""
        for user_id in {entry.user_id for entry in self._loops if entry.refused}:
            self.retry(user_id)

    def make_room(self, user_id: str | None) -> None:
        """Close the loop of a user that is idle and unwatched for longest: one waits elsewhere."""
        for entry in self._resting(user_id)[:1]:
            self._stop_soon(entry)

    async def abandon_all(self) -> None:
        """Close every loop without a word in its log: it belongs to others by now."""
        left = [entry for entry in self._loops if entry.holds_slot]
        for entry in left:
            entry.conversation.abandon_loop()
            self._stop_soon(entry)
        await asyncio.gather(*(_stopped(entry) for entry in left))

    async def stop(self, conversation: ServerConversation) -> bool:
        """Stop the loop, or stop waiting for one; return whether there was a loop."""
        entry = self._entry(conversation)
        if entry is None or entry.state is LoopState.BARRED:
            return False
        if entry.waits:
            self._remove(entry)
            return False
        self._stop_soon(entry)
        self._loops.unwant(entry)
        await _stopped(entry)
        return True

    async def bar(self, conversation: ServerConversation) -> bool:
        """Stop the loop and start none until `unbar`; whether there was a loop."""
        entry = self._entry(conversation)
        held = entry is not None and entry.holds_slot
        if entry is not None and held:
            self._stop_soon(entry)
            self._loops.bar(conversation)
            await _stopped(entry)
        else:
            if entry is None:
                self._conversations.retain(conversation)
            else:
                self._leave_line(entry)
            self._loops.bar(conversation)
        return held

    def unbar(self, conversation: ServerConversation) -> None:
        """Let loops be started again; no error where it was not barred."""
        entry = self._entry(conversation)
        if entry is None:
            return
        if entry.state is LoopState.BARRED:
            self._remove(entry)
        elif entry.state is LoopState.STOPPING:
            self._loops.unbar(entry)

    def watched(self, conversation: ServerConversation) -> None:
        """Note that a connection came: the loop is not idle."""
        entry = self._entry(conversation)
        if entry is not None:
            entry.forget_idle_timer()

    def unwatched(self, conversation: ServerConversation) -> None:
        """Note that the last connection went: the loop may be closed when idle, its slot be wanted."""
        entry = self._entry(conversation)
        if entry is None:
            return
        if entry.waits and not entry.has_work:
            self._remove(entry)
        elif entry.state is LoopState.RUNNING:
            self._watch_idleness(entry)
            self._serve(entry.user_id)

    async def drain(self, seconds: float) -> None:
        """Start no loop, stop each when it rests and all after `seconds`; done when none is left."""
        self._loops.held_back = True
        self._none_left.clear()
        for entry in self._loops:
            self._end_if_resting(entry)
        try:
            async with asyncio.timeout(seconds):
                if self._loops.any_holds():
                    await self._none_left.wait()
        except TimeoutError:
            left = [entry for entry in self._loops if entry.holds_slot]
            for entry in left:
                self._stop_soon(entry)
            await asyncio.gather(*(_stopped(entry) for entry in left))

    def resume(self) -> None:
        """Start loops again, first those that have waited."""
        self._loops.held_back = False
        for user_id in {entry.user_id for entry in self._loops}:
            self._serve(user_id)

    async def close(self) -> None:
        """Start no more loops and stop every one; return when no start is in progress.

        Stops go on by themselves: closing a conversation waits for that of its loop.
        """
        self._loops.closed = True
        starts = []
        for entry in self._loops:
            if entry.waits:
                self._remove(entry)
            elif entry.holds_slot:
                starting = entry.state is LoopState.STARTING
                self._stop_soon(entry)
                if starting and entry.task is not None:
                    starts.append(entry.task)
        if starts:
            await asyncio.wait(starts)
        if self._releases:
            await asyncio.wait(self._releases)

    def _entry(self, conversation: ServerConversation) -> LoopEntry | None:
        return self._loops.get(conversation.conversation_id)

    def _serve(self, user_id: str | None) -> None:
        """Start those that wait while there are slots; close idle loops where there are too few."""
        while (entry := self._loops.next_to_start(user_id)) is not None:
            self._begin(entry)
        if self._loops.closed or self._loops.held_back:
            return
        missing = self._loops.waiting(user_id) - self._leaving(user_id)
        if missing > 0:
            for entry in self._resting(user_id)[:missing]:
                self._stop_soon(entry)

    def _resting(self, user_id: str | None) -> list[LoopEntry]:
        """Return the loops of a user that may give way, those idle for longest first."""
        idle = [entry for entry in self._loops.holding(user_id) if self._may_give_way(entry)]
        return sorted(idle, key=lambda entry: entry.conversation.last_activity)

    def _must_wait(self, entry: LoopEntry) -> bool:
        """Return whether an entry waits, and for more slots than are about to be free."""
        if not entry.waits:
            return False
        if entry.refused:
            return True
        ahead = self._loops.waiting(entry.user_id, with_work=entry.has_work)
        return self._leaving(entry.user_id) < ahead

    def _leaving(self, user_id: str | None) -> int:
        """Return how many slots of a user are about to be free."""
        return sum(
            entry.state is LoopState.STOPPING and not entry.has_work
            for entry in self._loops.holding(user_id)
        )

    def _may_give_way(self, entry: LoopEntry) -> bool:
        """Return whether another conversation of the user may have the slot."""
        return self._rests(entry) and not entry.conversation.watchers

    def _rests(self, entry: LoopEntry) -> bool:
        loop = entry.conversation.loop
        return entry.state is LoopState.RUNNING and loop is not None and loop.rests

    def _begin(self, entry: LoopEntry) -> None:
        seconds = asyncio.get_running_loop().time() - entry.since
        had_work = entry.has_work
        self._loops.start(entry)
        if self._claims is not None:
            entry.claiming = asyncio.get_running_loop().create_future()
        if seconds >= LONG_WAIT_SECONDS:
            about = "the agent loop of %s starts after waiting for %.1f s"
            logger.info(about, entry.conversation_id, seconds)
        entry.task = _spawn(entry, self._start(entry, had_work=had_work))

    async def _start(self, entry: LoopEntry, *, had_work: bool) -> None:
        conversation = entry.conversation
        given = entry.settings or self._default_settings
        try:
            held = await self._claim(entry, had_work=had_work)
            if held is None:
                return
            settings = partial(self._refine, conversation.user_id, given)
            rested = partial(self._rested, entry)
            lease = None if self._claims is None else self._claims.lease
            await conversation.start_loop(settings, rested, held.fence, lease)
        except Exception:
            logger.exception("the agent loop of %s failed to start", entry.conversation_id)
            if self._claims is not None:
                await self._claims.release(entry.conversation_id)
        else:
            if entry.state is LoopState.STARTING:
                self._loops.run(entry)
                entry.task = None
                self._watch_idleness(entry)
                self._rest_soon(entry)
        finally:
            if entry.state is LoopState.STARTING:
                entry.task = None
                self._loops.failed(entry)
                self._let_go(entry)

    async def _claim(self, entry: LoopEntry, *, had_work: bool) -> Held | None:
        """Claim the loop that starts; None, and it does not start, where that is not granted."""
        if self._claims is None:
            return HELD
        owner = entry.user_id
        claiming = _spawn(
            entry,
            self._claims.claim(
                entry.conversation_id, owner, has_work=had_work, in_line=entry.in_line
            ),
        )
        entry.in_line = False
        try:
            claimed, failed = await asyncio.shield(claiming), False
        except asyncio.CancelledError:
            # It is given back after that: a claim that came later would be held by nobody.
            await asyncio.wait([claiming])
            raise
        except (EventsError, StorageError) as error:
            about = "the agent loop of %s waits, as it cannot be claimed: %r"
            logger.warning(about, entry.conversation_id, error)
            claimed, failed = Waits(), True
        finally:
            if entry.claiming is not None:
                entry.claiming.set_result(None)
                entry.claiming = None
        if isinstance(claimed, Held):
            return claimed
        if entry.state is LoopState.STARTING:
            entry.task = None
            if isinstance(claimed, Waits):
                entry.in_line = not failed
                self._loops.refuse(entry, has_work=had_work)
            else:
                self._loops.elsewhere(entry)
            self._let_go(entry)
        return None

    async def _give_back(self, entry: LoopEntry) -> None:
        """Release the claim to a loop that has stopped, and want it again for what came meanwhile.

        Others left to this loop what became durable before its release.
        """
        if self._claims is None:
            return
        await self._claims.release(entry.conversation_id)
        stream = entry.conversation.stream
        try:
            await stream.look()
            async for _ in stream.search_events(entry.sealed_at, filter=BY_USER, limit=1):
                self._loops.want(entry)
        except EventsError as error:
            logger.warning("cannot look at the end of %s: %r", entry.conversation_id, error)

    def _leave_line(self, entry: LoopEntry) -> None:
        if self._loops.closed and entry.has_work:
            return  # others take over what stands in line for a process that has ended
        if self._claims is not None and entry.refused:
            releasing = _spawn(entry, self._claims.release(entry.conversation_id))
            self._releases.add(releasing)
            releasing.add_done_callback(self._releases.discard)

    def _stop_soon(self, entry: LoopEntry) -> None:
        """Begin to stop a loop that starts or runs; no error where it is being stopped already."""
        if entry.state is not LoopState.STOPPING:
            self._loops.stop(entry)
            entry.forget_idle_timer()
            entry.sealed_at = entry.conversation.stream.next_id
            if entry.conversation.loop is not None:
                entry.conversation.loop.seal()
            entry.task = _spawn(entry, self._stop(entry, starting=entry.task))

    async def _stop(self, entry: LoopEntry, starting: Task[None] | None) -> None:
        try:
            if starting is not None:
                starting.cancel()
                await asyncio.wait([starting])
            try:
                await entry.conversation.stop_loop()
            finally:
                await self._give_back(entry)
        except Exception:
            logger.exception("the agent loop of %s failed to stop", entry.conversation_id)
        finally:
            entry.task = None
            if self._loops.closed:
                self._loops.unwant(entry)
            self._loops.stopped(entry)
            self._let_go(entry)

    def _remove(self, entry: LoopEntry) -> None:
        self._leave_line(entry)
        self._loops.remove(entry)
        self._let_go(entry)

    def _let_go(self, entry: LoopEntry) -> None:
        """Give what an entry has left - its slot, or all - to others."""
        if entry.state is None:
            entry.task = None
            self._conversations.release(entry.conversation)
        self._serve(entry.user_id)
        if not self._loops.any_holds():
            self._none_left.set()

    def _rested(self, entry: LoopEntry) -> None:
        entry.conversation.touch()
        self._rest_soon(entry)

    def _end_if_resting(self, entry: LoopEntry) -> None:
        if self._rests(entry):
            self._stop_soon(entry)

    def _rest_soon(self, entry: LoopEntry) -> None:
        # The loop is in the middle of its transition: look at it after that.
        if self._loops.held_back:
            asyncio.get_running_loop().call_soon(self._end_if_resting, entry)
        elif not entry.conversation.watchers:
            asyncio.get_running_loop().call_soon(self._serve, entry.user_id)

    def _watch_idleness(self, entry: LoopEntry) -> None:
        entry.forget_idle_timer()
        if self._close_delay_seconds > 0 and not entry.conversation.watchers:
            due = entry.conversation.last_activity + self._close_delay_seconds
            self._look_at(entry, due)

    def _look_at(self, entry: LoopEntry, due: float) -> None:
        loop = asyncio.get_running_loop()
        entry.idle_timer = loop.call_at(due, self._idle, entry)

    def _idle(self, entry: LoopEntry) -> None:
        entry.idle_timer = None
        now = asyncio.get_running_loop().time()
        due = entry.conversation.last_activity + self._close_delay_seconds
        if now < due:
            self._look_at(entry, due)
        elif self._may_give_way(entry):
            self._stop_soon(entry)
        else:
            self._look_at(entry, now + self._close_delay_seconds / 2)


async def _stopped(entry: LoopEntry) -> None:
    """Wait for the end of a stop in progress."""
    if entry.task is not None:
        await asyncio.shield(entry.task)


def _spawn(entry: LoopEntry, work: Coroutine[Any, Any, T]) -> Task[T]:
    context = context_of(conversation_id=entry.conversation_id)
    return asyncio.get_running_loop().create_task(work, context=context)
