"""The slow updates of a conversation's record: its title, and the branch its workspace is on."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from events.errors import EventsError
from events.event import EventSource, StoredEvent
from events.filter import EventFilter
from events.stream import EventStream
from events.subscription import Subscription
from runtime_stub.base import Runtime
from runtime_stub.errors import RuntimeFloorError
from server.notices import title_notice
from storage.conversations.base import ConversationStore
from storage.conversations.metadata import MetadataChange
from storage.errors import ConversationNotFound, StorageError

logger = logging.getLogger(__name__)

TitleModel = Callable[[str], Awaitable[str]]
"""Gives a concise title for a user's first message, of which it sees at most MODEL_INPUT characters."""
Notify = Callable[[str, dict[str, object]], None]
"""Sends a payload to every connection of a conversation."""

MODEL_INPUT = 1000
CUT_MARK = "...(truncated)"
LONGEST_TITLE = 50
EXCERPT = 30
"""Characters of the message that make the title where no model gives one."""
SCANNED_EVENTS = 1000
"""Events from the log's begin among which the first message is looked for."""
BRANCH_COMMANDS = (
    "git checkout",
    "git switch",
    "git merge",
    "git rebase",
    "git reset",
    "git branch",
)
USER_MESSAGES = EventFilter(include_kinds=("message",), source=EventSource.USER)


@dataclass(frozen=True, slots=True)
class UpkeepParts:
    """What the updates are made with: a model for titles, if any, and how long one may take."""

    title_model: TitleModel | None = None
    seconds: float = 15.0


class Upkeep:
    """Follows one conversation while its loop runs; one update at a time, in a task of its own.

    A title is given once, to a record that has none, and never replaces one that a user sets
    meanwhile. Nothing waits for these updates: one that fails or takes too long is logged, and the
    next message or git command is the next occasion.
    """

    def __init__(
        self,
        stream: EventStream,
        records: ConversationStore,
        runtime: Runtime,
        notify: Notify,
        parts: UpkeepParts,
        *,
        titled: bool,
    ) -> None:
        self._stream = stream
        self._records = records
        self._runtime = runtime
        self._notify = notify
        self._parts = parts
        self._titled = titled
        self._title_due = not titled
        self._branch_due = False
        self._task: Task[None] | None = None
        self._subscription: Subscription = stream.subscribe("upkeep", self._hear)
        self._wake()

    async def close(self) -> None:
        """Follow no more and give up what is under way."""
        await self._stream.unsubscribe(self._subscription)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _hear(self, events: Sequence[StoredEvent]) -> None:
        for stored in events:
            # A look at the bytes spares most events the parsing.
            if not self._titled and b'"action":"message"' in stored.body:
                self._title_due = True
            if b'"observation":"run"' in stored.body:
                self._branch_due = self._branch_due or may_switch(orjson.loads(stored.body))
        self._wake()

    def _wake(self) -> None:
        if self._task is None and (self._title_due or self._branch_due):
            name = f"upkeep of {self._stream.conversation_id}"
            self._task = asyncio.get_running_loop().create_task(self._work(), name=name)

    async def _work(self) -> None:
        try:
            while self._title_due or self._branch_due:
                await self._update()
        finally:
            self._task = None

    async def _update(self) -> None:
        conversation_id = self._stream.conversation_id
        title_due, self._title_due = self._title_due, False
        branch_due, self._branch_due = self._branch_due, False
        try:
            async with asyncio.timeout(self._parts.seconds):
                if branch_due:
                    await self._update_branch(conversation_id)
                if title_due and not self._titled:
                    await self._give_title(conversation_id)
        except ConversationNotFound:
            self._titled = True  # deleted meanwhile: there is nothing left to name
        except (StorageError, EventsError, RuntimeFloorError, TimeoutError):
            logger.exception("the record of %s was not brought up to date", conversation_id)

    async def _give_title(self, conversation_id: str) -> None:
        message = await self._first_message()
        if message is None:
            return
        title = await self._title_for(message)
        if await self._records.give_title(conversation_id, title):
            self._notify(conversation_id, title_notice(conversation_id, title))
        self._titled = True

    async def _first_message(self) -> str | None:
        last_id = min(self._stream.next_id, SCANNED_EVENTS) - 1
        if last_id < 0:
            return None
        async for stored in self._stream.search_events(0, last_id, filter=USER_MESSAGES):
            content: str = orjson.loads(stored.body)["args"]["content"]
            if content.strip():
                return content
        return None

    async def _title_for(self, message: str) -> str:
        model = self._parts.title_model
        if model is None:
            return excerpt(message)
        shown = message if len(message) <= MODEL_INPUT else message[:MODEL_INPUT] + CUT_MARK
        try:
            # Half of the time is left for the excerpt to be stored instead.
            async with asyncio.timeout(self._parts.seconds / 2):
                return shortened(await model(shown)) or excerpt(message)
        except Exception:
            logger.exception("no model's title for %s", self._stream.conversation_id)
            return excerpt(message)

    async def _update_branch(self, conversation_id: str) -> None:
        branch = await self._runtime.branch()
        if branch is None:
            return
        record = await self._records.get_metadata(conversation_id)
        if record.selected_branch != branch:
            change = MetadataChange(selected_branch=branch)
            await self._records.update_metadata(conversation_id, change)


def may_switch(payload: Mapping[str, Any]) -> bool:
    """Whether a stored event is a command's success after which the branch may be another."""
    extras = payload.get("extras") or {}
    command = str(extras.get("command", "")).lower()
    succeeded = (extras.get("metadata") or {}).get("exit_code") == 0
    return succeeded and any(word in command for word in BRANCH_COMMANDS)


def excerpt(message: str) -> str:
    """The beginning of a message as a title of one line."""
    line = " ".join(message.split())
    return line if len(line) <= EXCERPT else line[:EXCERPT].rstrip() + "..."


def shortened(title: str) -> str:
    """A model's title in one line of at most LONGEST_TITLE characters; "" when it is blank."""
    line = " ".join(title.split())
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 3] + "..."
