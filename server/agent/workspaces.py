"""Workspaces that stay: given to a runtime before it connects, saved when its agent rests and at its end."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, ClassVar, Self

from events.event import Event
from events.observations import ErrorObservation
from runtime_stub.base import Snapshot, WorkspaceLimits
from runtime_stub.errors import RuntimeFloorError, RuntimeUnavailable, named
from server.agent.contained import ContainedRuntime
from storage.errors import (
    ConversationNotFound,
    Damaged,
    NewerFormat,
    StorageError,
    WorkspaceTooLarge,
    WrongKey,
)
from storage.workspaces.base import WorkspaceStore
from storage.workspaces.manifest import Loaded

logger = logging.getLogger(__name__)

SAVES_AT_ONCE = 4
"""Snapshots that are taken and saved at one time: each may hold a whole workspace in memory."""
SAVE_SECONDS = 60.0
LOAD_SECONDS = 60.0
NOT_KEPT_ID = "STATUS$WORKSPACE_NOT_KEPT"
DAMAGED_ID = "STATUS$WORKSPACE_DAMAGED"
REPLACED_ID = "STATUS$WORKSPACE_REPLACED"
OTHER_KEY = "sealed with a key that the server does not have"
STAYS = "What was kept at an earlier rest stays."
MOST_NAMED = 10
"""Files that a notice of damage names."""

Take = Callable[[], Awaitable[Snapshot | None]]
"""Returns a snapshot, or None where nothing is to be saved."""


class NotRestored(RuntimeUnavailable):
    """A runtime refuses to begin with what is kept; that stays."""

    quotes: ClassVar[bool] = True
    """Its text quotes paths, which must not appear in the server's log."""


class Saving:
    """A save under way, in a task whose value is whether there was something to save."""

    def __init__(self, save: Callable[["Saving"], Coroutine[Any, Any, bool]], name: str) -> None:
        self.taken = False
        """Whether the runtime is not needed for it any more."""
        self.task = asyncio.get_running_loop().create_task(save(self), name=name)


class Workspaces:
    """Loads and saves the workspaces of all conversations of a process.

    As a context it waits at its end, for `close_seconds` at most, until what is being saved is.
    Without a store nothing is kept.
    """

    def __init__(self, store: WorkspaceStore | None = None, *, close_seconds: float = 5.0) -> None:
        self._store = store
        self._close_seconds = close_seconds
        self._slots = asyncio.Semaphore(SAVES_AT_ONCE)
        self._savings: dict[str, set[Task[bool]]] = {}

    @property
    def limits(self) -> WorkspaceLimits | None:
        """The limits of a workspace that is kept; None where none is."""
        return None if self._store is None else self._store.limits

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Wait for what is being saved, then give it up: what was kept before stays."""
        left = {task for tasks in self._savings.values() for task in tasks}
        if left:
            _, late = await asyncio.wait(left, timeout=self._close_seconds)
            for task in late:
                logger.error("%s is given up: the storage is too slow", task.get_name())
                task.cancel()

    async def load(self, conversation_id: str) -> Loaded | None:
        """Return what is kept, once no save is under way. Raises StorageError, TimeoutError."""
        if self._store is None:
            return None
        async with asyncio.timeout(LOAD_SECONDS):
            savings = self._savings.get(conversation_id)
            if savings:
                await asyncio.wait(savings)
            return await self._store.load(conversation_id)

    def begin(self, conversation_id: str, take: Take) -> Saving:
        """Begin to save what `take` returns; it ends by itself, whoever waits.

        The task raises what `take` raises, StorageError and TimeoutError.
        """
        save = partial(self._save, conversation_id, take)
        saving = Saving(save, f"saving the workspace of {conversation_id}")
        self._savings.setdefault(conversation_id, set()).add(saving.task)
        saving.task.add_done_callback(partial(self._ended, conversation_id))
        return saving

    def _ended(self, conversation_id: str, task: Task[bool]) -> None:
        tasks = self._savings[conversation_id]
        tasks.discard(task)
        if not tasks:
            del self._savings[conversation_id]
        if not task.cancelled():
            task.exception()  # told where it was waited for

    async def _save(self, conversation_id: str, take: Take, saving: Saving) -> bool:
        async with self._slots:
            snapshot = await take()
            saving.taken = True
            if snapshot is None or self._store is None:
                return False
            async with asyncio.timeout(SAVE_SECONDS):
                await self._store.save(conversation_id, snapshot)
            return True

    async def delete(self, conversation_id: str) -> None:
        """Drop what is kept of a conversation that is deleted. Raises StorageError."""
        if self._store is not None:
            await self._store.delete(conversation_id)


class LoopWorkspace:
    """The workspace of one loop: restored before its runtime connects, then saved at each rest.

    It is saved only if something was done in it. `rests` says whether nothing is at work now, `tell`
    adds an event to the log.
    """

    def __init__(
        self,
        workspaces: Workspaces,
        conversation_id: str,
        runtime: ContainedRuntime,
        *,
        rests: Callable[[], bool],
        tell: Callable[[Event], object],
    ) -> None:
        self._workspaces = workspaces
        self._conversation_id = conversation_id
        self._runtime = runtime
        self._rests = rests
        self._tell = tell
        self._limits = workspaces.limits
        self._connected = False
        self._tried = self._saved = 0
        """The runtime's count of changes at the last snapshot, and at the last one that was saved."""
        self._told = ""
        self._task: Task[None] | None = None

    async def restore(self) -> None:
        """Give the runtime what is kept.

        Raises RuntimeUnavailable where that cannot be read now, and what the runtime raises.
        """
        try:
            loaded = await self._workspaces.load(self._conversation_id)
        except NewerFormat as error:
            text = "the workspace was kept by a newer version of the server"
            raise RuntimeUnavailable(text) from error
        except WrongKey as error:
            logger.error("the workspace of %s cannot be opened: %s", self._conversation_id, error)  # noqa: TRY400 - no fault
            raise RuntimeUnavailable(f"the workspace is {OTHER_KEY}") from error
        except Damaged:
            logger.exception(
                "what is kept of the workspace of %s is damaged", self._conversation_id
            )
            text = "What was kept of the workspace is damaged: nothing of it is restored."
            self._tell(ErrorObservation(content=text, error_id=DAMAGED_ID))
            return
        except (StorageError, TimeoutError) as error:
            logger.exception("the workspace of %s cannot be read", self._conversation_id)
            raise RuntimeUnavailable("the workspace cannot be read now; try again") from error
        if loaded is None:
            return
        try:
            said = await self._runtime.restore(loaded.snapshot)
        except RuntimeUnavailable:
            raise
        except RuntimeFloorError as error:
            raise NotRestored(f"the workspace cannot be restored: {error}") from error
        if said:
            self._tell(ErrorObservation(content=said, error_id=REPLACED_ID))
        if loaded.lost or loaded.own_lost:
            self._tell(ErrorObservation(content=_words_of_loss(loaded), error_id=DAMAGED_ID))

    def connected(self) -> None:
        """Begin to watch for changes: the runtime has the workspace."""
        if self._limits is not None:
            self._connected = True
            self._runtime.on_written = self.rested

    def rested(self) -> None:
        """Save soon what has changed since the last time, if the agent is at rest."""
        if self._task is None and self._is_due():
            work = self._save_while_at_rest()
            self._task = asyncio.get_running_loop().create_task(work)
            self._task.add_done_callback(self._ended)

    def abandon(self) -> None:
        """Save nothing more: another process has the workspace."""
        self._connected = False
        self._runtime.on_written = None

    async def close(self, seconds: float) -> None:
        """Save a last time before the runtime is closed; what takes longer goes on without it."""
        if not self._connected:
            return
        self._connected = False
        self._runtime.on_written = None
        saving: Saving | None = None
        try:
            async with asyncio.timeout(seconds):
                if self._task is not None:
                    await asyncio.wait([self._task])
                if self._saved != self._runtime.changes_begun or self._runtime.changes_by_itself():
                    saving = self._workspaces.begin(self._conversation_id, self._take)
                    await self._settled(saving)
        except TimeoutError:
            if saving is not None and saving.taken:
                logger.warning("the workspace of %s is still being saved", self._conversation_id)
                saving.task.add_done_callback(self._left)
                return
            logger.error("the workspace of %s is not saved: no time left", self._conversation_id)  # noqa: TRY400 - a deadline
            if saving is not None:
                saving.task.cancel()

    def _is_due(self) -> bool:
        runtime = self._runtime
        changed = self._tried != runtime.changes_begun and not runtime.at_work
        return changed and self._connected and self._rests()

    def _ended(self, task: Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            logger.error(
                "saving the workspace of %s failed",
                self._conversation_id,
                exc_info=task.exception(),
            )
        self.rested()

    def _left(self, task: Task[bool]) -> None:
        if task.cancelled() or task.exception() is not None:
            logger.error("the workspace of %s was not saved", self._conversation_id)

    async def _save_while_at_rest(self) -> None:
        while self._is_due():
            saving = self._workspaces.begin(self._conversation_id, self._take_at_rest)
            await self._settled(saving)

    async def _take_at_rest(self) -> Snapshot | None:
        """Return the workspace as it is at this rest; None if that is over before it is taken."""
        if not self._is_due():
            return None
        snapshot = await self._take()
        return snapshot if self._runtime.changes_begun == self._tried else None

    async def _take(self) -> Snapshot | None:
        self._tried = self._runtime.changes_begun
        if self._runtime.is_stuck or self._limits is None:
            raise RuntimeUnavailable("an action that was given up is still under way")
        return await self._runtime.snapshot(self._limits)

    async def _settled(self, saving: Saving) -> None:
        """Wait for the end of a save; tell why it failed, once for each reason."""
        try:
            saved = await asyncio.shield(saving.task)
        except ConversationNotFound:  # it was deleted
            return
        except Exception as error:  # noqa: BLE001 - told and logged
            self._refused(error)
            return
        if saved:
            self._saved, self._told = self._tried, ""

    def _refused(self, error: Exception) -> None:
        text = f"The workspace could not be saved. {STAYS}"
        if isinstance(error, WorkspaceTooLarge | RuntimeFloorError):
            text = f"The workspace is not kept for later: {error}. {STAYS}"
        elif isinstance(error, WrongKey):
            text = f"The workspace is not kept for later: what is kept is {OTHER_KEY}. {STAYS}"
            logger.error("the workspace of %s is not saved: %s", self._conversation_id, error)
        else:
            logger.error("the workspace of %s was not saved", self._conversation_id, exc_info=error)
        if text != self._told:
            self._told = text
            self._tell(ErrorObservation(content=text, error_id=NOT_KEPT_ID))


def _words_of_loss(loaded: Loaded) -> str:
    names = [named(path) for path in loaded.lost[:MOST_NAMED]]
    more = len(loaded.lost) - len(names)
    parts = []
    if names:
        listed = ", ".join(names) + (f" and {more} more" if more else "")
        parts.append(
            f"These files of the workspace are damaged and could not be restored: {listed}."
        )
    if loaded.own_lost:
        parts.append("The history of the workspace is damaged and could not be restored.")
    return " ".join(parts)
