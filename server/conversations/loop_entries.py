"""The agent loops of this process: one entry each, the states it goes through, who waits for a slot.

    (no entry) ──► waiting ──► starting ──► running
                    │   ▲   ▲    │ │           │
                    ▼   │   └────┤ ▼           ▼
               (no entry) ◄──────┘ └──────► stopping ──► (no entry)
                        └──────────────────────┘

A conversation that is being deleted goes to `barred` from wherever it rests: no loop is started for
it until it is gone, or its deletion has failed. Pure bookkeeping: nothing here starts or stops a loop.
"""

from asyncio import Future, Task, TimerHandle
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from server.agent.states import LoopSettings
from server.conversations.conversation import ServerConversation
from server.errors import ServerError


class LoopState(StrEnum):
    """The states of a loop's entry."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BARRED = "barred"


class WaitsFor(StrEnum):
    """The reasons for which an entry waits."""

    SLOT = "a slot"
    RESUME = "the end of a drain"


BECOMES: dict[LoopState | None, frozenset[LoopState | None]] = {
    None: frozenset({LoopState.WAITING, LoopState.BARRED}),
    LoopState.WAITING: frozenset({LoopState.STARTING, LoopState.BARRED, None}),
    LoopState.STARTING: frozenset({LoopState.RUNNING, LoopState.STOPPING, LoopState.WAITING, None}),
    LoopState.RUNNING: frozenset({LoopState.STOPPING}),
    LoopState.STOPPING: frozenset({LoopState.WAITING, LoopState.BARRED, None}),
    LoopState.BARRED: frozenset({None}),
}
"""The states that may follow each; None is no entry."""
HOLDING = frozenset({LoopState.STARTING, LoopState.RUNNING, LoopState.STOPPING})
"""The states that hold a slot."""


class LoopStatus(NamedTuple):
    """The present work of a loop, as others may know it."""

    state: LoopState | None = None
    """None where there is no loop and none waits."""
    since: float = 0.0
    """The time of the last transition, on the event loop's clock."""
    waits_for: WaitsFor | None = None
    """None unless it waits."""


NO_LOOP = LoopStatus()


class WrongTransition(ServerError):
    """A loop's entry cannot change from its state to that one; nothing was changed."""


class LoopEntry:
    """One conversation's loop: its state, since when, and what is under way.

    Only the table changes `state`, `since` and `has_work`.
    """

    __slots__ = (
        "barred_next",
        "claiming",
        "conversation",
        "has_work",
        "idle_timer",
        "in_line",
        "refused",
        "sealed_at",
        "settings",
        "since",
        "state",
        "task",
    )

    def __init__(self, conversation: ServerConversation) -> None:
        self.conversation = conversation
        self.state: LoopState | None = None
        self.since = 0.0
        """The time of the last transition, on the event loop's clock."""
        self.has_work = False
        """Waiting: a message is to be answered. Stopping, or failing to start: it waits afterwards."""
        self.refused = False
        """Waiting: its claim was refused, so that it is not started before `retry`."""
        self.in_line = False
        """Its claim stands in line, unless somebody has given it up since."""
        self.claiming: Future[None] | None = None
        """Starting: done once it is known whether the loop is claimed. None where nobody is asked."""
        self.sealed_at = 0
        """Stopping: the id from which on events are left to the next loop."""
        self.barred_next = False
        """Stopping: it is barred afterwards, whatever comes."""
        self.settings: LoopSettings | None = None
        """The settings with which it starts, unless the defaults."""
        self.task: Task[None] | None = None
        """The start or stop in progress."""
        self.idle_timer: TimerHandle | None = None
        """Set while it runs without connections."""

    @property
    def conversation_id(self) -> str:
        """The conversation's id."""
        return self.conversation.conversation_id

    @property
    def user_id(self) -> str | None:
        """The conversation's owner."""
        return self.conversation.user_id

    @property
    def holds_slot(self) -> bool:
        """Whether the loop starts, runs or stops."""
        return self.state in HOLDING

    @property
    def waits(self) -> bool:
        """Whether the loop waits until it may start."""
        return self.state is LoopState.WAITING

    def forget_idle_timer(self) -> None:
        """Cancel the timer, if it is set."""
        if self.idle_timer is not None:
            self.idle_timer.cancel()
            self.idle_timer = None


class UserLoops:
    """The entries of one user by state; an index maintained by the table."""

    __slots__ = ("holding", "refused", "watching", "with_work")

    def __init__(self) -> None:
        self.holding: dict[str, LoopEntry] = {}
        self.with_work: dict[str, LoopEntry] = {}
        """Those that wait with a message to answer, first come first."""
        self.watching: dict[str, LoopEntry] = {}
        """Those that wait and are only watched, after all of the others."""
        self.refused: dict[str, LoopEntry] = {}
        """Those that wait until their claim may be granted."""

    def place(self, entry: LoopEntry) -> dict[str, LoopEntry] | None:
        """Return where an entry in this state belongs; None where it counts nowhere."""
        if entry.holds_slot:
            return self.holding
        if entry.state is not LoopState.WAITING:
            return None
        if entry.refused:
            return self.refused
        return self.with_work if entry.has_work else self.watching

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not (self.holding or self.with_work or self.watching or self.refused)


class LoopTable:
    """All entries, by conversation. Each transition is one method; WrongTransition is raised for others.

    A user's `limit` of slots is never exceeded. Those that wait with a message to answer come
    before those that are only watched.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._entries: dict[str, LoopEntry] = {}
        self._users: dict[str | None, UserLoops] = {}
        self.closed = False
        """Nothing is started any more."""
        self.held_back = False
        """Nothing is started for now."""

    def __iter__(self) -> Iterator[LoopEntry]:
        return iter(tuple(self._entries.values()))

    def get(self, conversation_id: str) -> LoopEntry | None:
        """Return the conversation's entry."""
        return self._entries.get(conversation_id)

    def holding(self, user_id: str | None) -> list[LoopEntry]:
        """Return a user's entries that hold a slot, the oldest first."""
        user = self._users.get(user_id)
        return [] if user is None else list(user.holding.values())

    def any_holds(self) -> bool:
        """Return whether any loop starts, runs or stops."""
        return any(user.holding for user in self._users.values())

    def waiting(self, user_id: str | None, *, with_work: bool = False) -> int:
        """Return how many of a user's entries wait; `with_work` those with a message only."""
        user = self._users.get(user_id)
        if user is None:
            return 0
        waiting = len(user.with_work) + (0 if with_work else len(user.watching))
        return waiting + len(user.refused)

    def next_to_start(self, user_id: str | None) -> LoopEntry | None:
        """Return the entry that may start now: the first that waits, if the user has a free slot."""
        user = self._users.get(user_id)
        if self.closed or self.held_back or user is None or len(user.holding) >= self._limit:
            return None
        return next(iter(user.with_work.values()), None) or next(iter(user.watching.values()), None)

    def waits_for(self, entry: LoopEntry) -> WaitsFor | None:
        """Return what an entry waits for; None unless it waits."""
        if entry.state is not LoopState.WAITING:
            return None
        return WaitsFor.RESUME if self.held_back else WaitsFor.SLOT

    def enter(self, conversation: ServerConversation, *, has_work: bool) -> LoopEntry:
        """No entry -> waiting, as the last of its rank."""
        entry = LoopEntry(conversation)
        self._move(entry, LoopState.WAITING, has_work=has_work)
        return entry

    def bar(self, conversation: ServerConversation) -> LoopEntry:
        """No entry, or waiting -> barred; a stopping entry is barred once it has stopped."""
        entry = self._entries.get(conversation.conversation_id) or LoopEntry(conversation)
        if entry.state is LoopState.STOPPING:
            entry.barred_next = True
        else:
            self._move(entry, LoopState.BARRED)
        return entry

    def unbar(self, entry: LoopEntry) -> None:
        """Forget that it is to be barred. Raises WrongTransition unless it stops."""
        _check_stopping(entry)
        entry.barred_next = False

    def want(self, entry: LoopEntry) -> None:
        """Note that a message is to be answered by the next loop. Raises WrongTransition if it runs."""
        if entry.state is LoopState.WAITING:
            if not entry.has_work:
                self._leave(entry)
                entry.has_work = True
                self._place(entry)
        elif entry.state in (LoopState.STARTING, LoopState.STOPPING):
            entry.has_work = True
        else:
            raise WrongTransition(f"a loop that is {entry.state} cannot be wanted")

    def unwant(self, entry: LoopEntry) -> None:
        """Forget what came while it stops. Raises WrongTransition unless it does."""
        _check_stopping(entry)
        entry.has_work = False

    def start(self, entry: LoopEntry) -> None:
        """Waiting -> starting. Raises WrongTransition when the user has no free slot."""
        user = self._users.get(entry.user_id)
        if user is not None and len(user.holding) >= self._limit:
            raise WrongTransition(f"all slots are taken: {self._limit}")
        self._move(entry, LoopState.STARTING)

    def run(self, entry: LoopEntry) -> None:
        """Starting -> running."""
        self._move(entry, LoopState.RUNNING)

    def stop(self, entry: LoopEntry) -> None:
        """Starting or running -> stopping."""
        self._move(entry, LoopState.STOPPING)

    def stopped(self, entry: LoopEntry) -> None:
        """Stopping -> barred if it was barred, waiting if a message came, else no entry."""
        _check_stopping(entry)
        if entry.barred_next:
            self._move(entry, LoopState.BARRED)
        elif entry.has_work:
            self._move(entry, LoopState.WAITING, has_work=True)
        else:
            self._move(entry, None)

    def failed(self, entry: LoopEntry) -> None:
        """Starting -> waiting if a message came after it had failed, else no entry."""
        if entry.state is not LoopState.STARTING:
            raise WrongTransition(f"a loop that is {entry.state} is not starting")
        if entry.has_work:
            self._move(entry, LoopState.WAITING, has_work=True)
        else:
            self._move(entry, None)

    def refuse(self, entry: LoopEntry, *, has_work: bool) -> None:
        """Starting -> waiting, until `retry`: the claim to the loop is not granted now."""
        if entry.state is not LoopState.STARTING:
            raise WrongTransition(f"a loop that is {entry.state} is not starting")
        entry.refused = True
        self._move(entry, LoopState.WAITING, has_work=has_work or entry.has_work)

    def retry(self, user_id: str | None) -> None:
        """Let a user's entries that were refused start again when there is a slot."""
        user = self._users.get(user_id)
        for entry in [] if user is None else [*user.refused.values()]:
            self._leave(entry)
            entry.refused = False
            self._place(entry)

    def elsewhere(self, entry: LoopEntry) -> None:
        """Starting -> no entry: another process holds the loop."""
        if entry.state is not LoopState.STARTING:
            raise WrongTransition(f"a loop that is {entry.state} is not starting")
        self._move(entry, None)

    def remove(self, entry: LoopEntry) -> None:
        """Waiting or barred -> no entry: given up, or no longer barred."""
        if entry.state is LoopState.STOPPING:
            raise WrongTransition("a loop that is stopping is not removed but has stopped")
        self._move(entry, None)

    def _move(self, entry: LoopEntry, to: LoopState | None, *, has_work: bool = False) -> None:
        known = self._entries.get(entry.conversation_id)
        if to not in BECOMES[entry.state] or known not in (None, entry):
            raise WrongTransition(f"a loop cannot go from {entry.state} to {to}")
        self._leave(entry)
        entry.state, entry.since, entry.has_work = to, self._clock(), has_work
        entry.barred_next = False
        if to is not LoopState.WAITING:
            entry.refused = False
        if to is None:
            del self._entries[entry.conversation_id]
        else:
            self._entries[entry.conversation_id] = entry
            self._place(entry)

    def _leave(self, entry: LoopEntry) -> None:
        user = self._users.get(entry.user_id)
        place = None if user is None else user.place(entry)
        if user is not None and place is not None:
            del place[entry.conversation_id]
            if user.empty:
                del self._users[entry.user_id]

    def _place(self, entry: LoopEntry) -> None:
        user = self._users.get(entry.user_id) or UserLoops()
        place = user.place(entry)
        if place is not None:
            place[entry.conversation_id] = entry
            self._users[entry.user_id] = user


def _check_stopping(entry: LoopEntry) -> None:
    if entry.state is not LoopState.STOPPING:
        raise WrongTransition(f"a loop that is {entry.state} is not stopping")
