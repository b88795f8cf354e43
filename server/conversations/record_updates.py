"""The slow updates of a conversation's record: its title, and the branch its workspace is on."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from events.event import EventSource, StoredEvent
from events.filter import EventFilter
from events.stream import EventStream
from events.summary import SummaryChange
from runtime_stub.base import Runtime
from server.conversations.notices import title_notice
from server.user_code import UserCode
from storage.conversations.base import ConversationStore
from storage.conversations.metadata import FOLDED_FIELDS, MetadataChange
from storage.errors import ConversationNotFound
from storage.unicode_text import beginning, is_blank, one_line

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
MOMENTS = frozenset(("last_updated_at", "last_message_at"))


class MetadataFollower:
    """Writes the fold of what was committed: one write in flight, and the newest values win.

    A write that fails is tried again until `close`.
    """

    def __init__(self, stream: EventStream, store: ConversationStore) -> None:
        self._conversation_id = stream.conversation_id
        self._store = store
        self._due: dict[str, object] = {}
        self._task: Task[None] | None = None
        self._context = copy_context()  # not that of whoever happens to publish
        self._stop = stream.tap(self._take)

    async def close(self, seconds: float = 5.0) -> None:
        """Take nothing more and finish the write that is due, for a bounded time."""
        self._stop()
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=seconds)
            for task in late:
                task.cancel()

    def _take(self, _events: Sequence[StoredEvent], summary: SummaryChange) -> None:
        for name in FOLDED_FIELDS:
            value = getattr(summary, name)
            if value is not None:
                self._due[name] = value
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._write(), context=self._context)

    async def _write(self) -> None:
        while self._due:
            due, self._due = self._due, {}
            for name in MOMENTS & due.keys():
                due[name] = datetime.fromisoformat(str(due[name]))
            try:
                change = MetadataChange.model_validate(due)
                await self._store.update_metadata(self._conversation_id, change)
            except ConversationNotFound:
                break  # deleted meanwhile: there is nothing left to keep up to date
            except Exception:  # the store may be anybody's
                logger.exception("cannot update the record of %s; retrying", self._conversation_id)
                self._due = due | self._due
                await asyncio.sleep(RETRY_SECONDS)
        self._task = None


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
LOOKED_AT = 64 * 1024
"""Bytes of an event that are looked at; the kind comes after the message, which may be long."""
MAX_RUNS = 100
"""Commands that may wait to be looked at; those that come while so many wait are left out."""
MESSAGE_MARK = b'"action":"message"'
RUN_MARK = b'"observation":"run"'
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
class RecordUpdateDependencies:
    """Dependencies of the updates: the model for titles, if any, and its deadline."""

    title_model: TitleModel | None = None
    seconds: float = 15.0


class RecordUpdater:
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
        parts: RecordUpdateDependencies,
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
        self._task: Task[None] | None = None
        self._context = copy_context()  # not that of whoever happens to publish
        self._runs: list[StoredEvent] = []
        self._stop = stream.tap(self._note)
        self._wake()

    async def close(self) -> None:
        """Follow no more and give up what is under way."""
        self._stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _note(self, events: Sequence[StoredEvent], _summary: SummaryChange) -> None:
        # In the step that commits: no more than a look at the bytes, and at few of them.
        for stored in events:
            if not self._titled and stored.body.find(MESSAGE_MARK, 0, LOOKED_AT) >= 0:
                self._title_due = True
            if stored.body.find(RUN_MARK, 0, LOOKED_AT) >= 0 and len(self._runs) < MAX_RUNS:
                self._runs.append(stored)
        self._wake()

    @property
    def _due(self) -> bool:
        return self._title_due or bool(self._runs)

    def _wake(self) -> None:
        if self._task is None and self._due:
            name = f"record updates of {self._stream.conversation_id}"
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._work(), name=name, context=self._context)

    async def _work(self) -> None:
        try:
            while self._due:
                await self._update()
        finally:
            self._task = None

    async def _update(self) -> None:
        conversation_id = self._stream.conversation_id
        title_due, self._title_due = self._title_due, False
        runs, self._runs = self._runs, []
        branch_due = any(may_switch(orjson.loads(run.body)) for run in runs)
        try:
            async with asyncio.timeout(self._parts.seconds):
                if branch_due:
                    await self._update_branch(conversation_id)
                if title_due and not self._titled:
                    await self._give_title(conversation_id)
        except ConversationNotFound:
            self._titled = True  # deleted meanwhile: there is nothing left to name
        except Exception:
            # Runtime, store and their deadline may be anybody's; this is the last one to tell.
            logger.exception("cannot update the title or branch of %s", conversation_id)

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
            if not is_blank(content):
                # The message may be older than the secret in it.
                return self._stream.masked(content)
        return None

    async def _title_for(self, message: str) -> str:
        model = self._parts.title_model
        if model is None:
            return excerpt(message)
        begin = beginning(message, MODEL_INPUT)
        shown = message if begin == message else begin + CUT_MARK
        try:
            # Half of the time is left for the excerpt to be stored instead.
            code, seconds = UserCode(self._stream.conversation_id), self._parts.seconds / 2
            title = await code.wait(partial(model, shown), seconds, "the title model")
            return shortened(self._stream.masked(title)) or excerpt(message)
        except Exception:
            logger.exception(
                "the title model failed for %s; using an excerpt", self._stream.conversation_id
            )
            return excerpt(message)

    async def _update_branch(self, conversation_id: str) -> None:
        found = await self._runtime.branch()
        if found is None:
            return
        branch = self._stream.masked(found)  # a command may have put anything into its name
        record = await self._records.get_metadata(conversation_id)
        if record.selected_branch != branch:
            change = MetadataChange(selected_branch=branch)
            await self._records.update_metadata(conversation_id, change)


def may_switch(payload: Mapping[str, Any]) -> bool:
    """Return whether a stored event is a successful command that may have changed the branch."""
    extras = payload.get("extras") or {}
    command = str(extras.get("command", "")).lower()
    succeeded = (extras.get("metadata") or {}).get("exit_code") == 0
    return succeeded and any(word in command for word in BRANCH_COMMANDS)


def excerpt(message: str) -> str:
    """Return the beginning of a message as a title of one line."""
    line = one_line(message)
    return line if len(line) <= EXCERPT else beginning(line, EXCERPT).rstrip() + "..."


def shortened(title: str) -> str:
    """Return a model's title in one line of at most LONGEST_TITLE characters; "" when it is blank."""
    line = one_line(title)
    return line if len(line) <= LONGEST_TITLE else beginning(line, LONGEST_TITLE - 3) + "..."
